//! Holds intake back while what it needs fails or asks for less. Pure.
//!
//! One message that fails for ever must not stop the others, so even then one more message is let through now and
//! then; the first success of any message opens everything again.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(30);

/// How many messages may be taken now, apart from slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowance {
    /// As many as there are slots for.
    Free,
    /// One, to see whether it works again.
    One,
    /// None yet.
    Nothing,
}

/// Failures since the last success.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Option<Failing>);

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    until: Instant,
    wait: Duration,
}

impl Breaker {
    /// A message met an obstacle that passes.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.0.get_or_insert(Failing { since: now, until: now + FIRST, wait: FIRST });
    }

    /// A message got through.
    pub(crate) fn succeeded(&mut self) {
        self.0 = None;
    }

    /// A message was taken; matters only when it is the one that was let through.
    pub(crate) fn took(&mut self, now: Instant) {
        if let Some(failing) = &mut self.0 {
            failing.wait = (failing.wait * 2).min(MOST);
            failing.until = now + failing.wait;
        }
    }

    /// How many messages may be taken now.
    pub(crate) fn allowance(&self, now: Instant) -> Allowance {
        match &self.0 {
            None => Allowance::Free,
            Some(failing) if failing.until <= now => Allowance::One,
            Some(_) => Allowance::Nothing,
        }
    }

    /// For how long nothing got through.
    pub(crate) fn failing_for(&self, now: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |failing| now.saturating_duration_since(failing.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_at_a_time_is_let_through_until_one_succeeds() {
        let start = Instant::now();
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        let mut breaker = Breaker::default();
        assert_eq!(breaker.allowance(start), Allowance::Free);
        breaker.failed(start);
        breaker.failed(at(0.4));
        assert_eq!(breaker.allowance(at(0.4)), Allowance::Nothing);
        assert_eq!(breaker.allowance(at(0.6)), Allowance::One);
        breaker.took(at(0.6));
        assert_eq!(breaker.allowance(at(1.5)), Allowance::Nothing);
        assert_eq!(breaker.allowance(at(1.6)), Allowance::One);
        for taken in 0..20 {
            breaker.took(at(2.0 + f64::from(taken)));
        }
        assert_eq!(breaker.allowance(at(21.0 + 30.0)), Allowance::One);
        assert_eq!(breaker.failing_for(at(2.0)), Duration::from_secs(2));
        breaker.succeeded();
        assert_eq!(breaker.allowance(at(2.0)), Allowance::Free);
        breaker.took(at(2.0));
        assert_eq!(breaker.allowance(at(2.0)), Allowance::Free);
    }
}

//! The circuit breaker of intake: limits it while messages fail. Pure.
//!
//! One message that always fails must not stop the others, so a message is received from time to time even then. The
//! first success of any message removes the limit.

use std::time::Duration;

use tokio::time::Instant;

const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How many messages may be received now, apart from slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowance {
    /// As many as slots are free.
    Free,
    /// One, as a test.
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
    /// Records that a message failed with a transient error.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.0.get_or_insert(Failing { since: now, until: now + WAIT_MIN, wait: WAIT_MIN });
    }

    /// Records that a message succeeded.
    pub(crate) fn succeeded(&mut self) {
        self.0 = None;
    }

    /// Records that a message was received; matters only for the one received as a test.
    pub(crate) fn record_receipt(&mut self, now: Instant) {
        if let Some(failing) = &mut self.0 {
            failing.wait = (failing.wait * 2).min(WAIT_MAX);
            failing.until = now + failing.wait;
        }
    }

    /// How many messages may be received now.
    pub(crate) fn allowance(&self, now: Instant) -> Allowance {
        match &self.0 {
            None => Allowance::Free,
            Some(failing) if failing.until <= now => Allowance::One,
            Some(_) => Allowance::Nothing,
        }
    }

    /// For how long every message has failed.
    pub(crate) fn failing_for(&self, now: Instant) -> Duration {
        self.0.map_or(Duration::ZERO, |failing| now.saturating_duration_since(failing.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_at_a_time_is_received_until_one_succeeds() {
        let start = Instant::now();
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        let mut breaker = Breaker::default();
        assert_eq!(breaker.allowance(start), Allowance::Free);
        breaker.failed(start);
        breaker.failed(at(0.4));
        assert_eq!(breaker.allowance(at(0.4)), Allowance::Nothing);
        assert_eq!(breaker.allowance(at(0.6)), Allowance::One);
        breaker.record_receipt(at(0.6));
        assert_eq!(breaker.allowance(at(1.5)), Allowance::Nothing);
        assert_eq!(breaker.allowance(at(1.6)), Allowance::One);
        for taken in 0..20 {
            breaker.record_receipt(at(2.0 + f64::from(taken)));
        }
        assert_eq!(breaker.allowance(at(21.0 + 30.0)), Allowance::One);
        assert_eq!(breaker.failing_for(at(2.0)), Duration::from_secs(2));
        breaker.succeeded();
        assert_eq!(breaker.allowance(at(2.0)), Allowance::Free);
        breaker.record_receipt(at(2.0));
        assert_eq!(breaker.allowance(at(2.0)), Allowance::Free);
    }
}

//! How failing calls are tried again: Google's clients would go on slowly, for minutes, after an outage has ended, and
//! log nothing while it lasts.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use google_cloud_gax::{
    error::Error,
    exponential_backoff::{ExponentialBackoff, ExponentialBackoffBuilder},
    retry_policy::RetryPolicy,
    retry_result::RetryResult,
    retry_state::RetryState,
    retry_throttler::CircuitBreaker,
    throttle_result::ThrottleResult,
};

/// Longest pause between two tries. The client's own is a minute.
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// How long a call fails before a warning says so. A shorter failure is nothing to act on.
const WARN_AFTER: Duration = Duration::from_secs(10);
/// Shortest time between two warnings of the same: thousands of calls may be in progress.
pub const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Truncated exponential backoff with jitter, as Cloud Storage and Pub/Sub ask for.
pub(crate) fn pauses(first: Duration) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new().with_initial_delay(first).with_maximum_delay(PAUSE_MAX).clamp()
}

/// No try is held back because others failed. The client's own throttler counts what failed since the process started,
/// so it holds back most tries long after an outage; what is in progress is bounded here anyway.
pub(crate) fn every_try() -> CircuitBreaker {
    CircuitBreaker::clamp(1, 0, 0)
}

/// Limits the warnings of failures that repeat.
#[derive(Debug, Default)]
pub struct WarningLimit(Mutex<BTreeMap<&'static str, Instant>>);

impl WarningLimit {
    /// Whether to warn of this reason now: not within [`WARN_INTERVAL`] of its last warning.
    pub fn is_due(&self, reason: &'static str, now: Instant) -> bool {
        let mut warned = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_due = warned.get(reason).is_none_or(|last| now.saturating_duration_since(*last) >= WARN_INTERVAL);
        if is_due {
            warned.insert(reason, now);
        }
        is_due
    }
}

/// A retry policy that also warns of a call that keeps failing; without it nothing is logged until the time limit.
#[derive(Debug)]
pub(crate) struct Warning<P> {
    policy: P,
    service: &'static str,
    limit: WarningLimit,
}

impl<P> Warning<P> {
    /// Retries as `policy` says; warnings name the service.
    pub(crate) fn new(service: &'static str, policy: P) -> Self {
        Self { policy, service, limit: WarningLimit::default() }
    }

    /// Whether to warn now of a call that began at `start`.
    fn is_due(&self, start: Instant, now: Instant) -> bool {
        now.saturating_duration_since(start) >= WARN_AFTER && self.limit.is_due(self.service, now)
    }
}

impl<P: RetryPolicy> RetryPolicy for Warning<P> {
    fn on_error(&self, state: &RetryState, error: Error) -> RetryResult {
        let decided = self.policy.on_error(state, error);
        if let RetryResult::Continue(error) = &decided
            && self.is_due(state.start, Instant::now())
        {
            let seconds = state.start.elapsed().as_secs();
            tracing::warn!(service = self.service, tries = state.attempt_count, seconds, %error, "a call keeps failing, and is tried again");
        }
        decided
    }

    fn on_throttle(&self, state: &RetryState, error: Error) -> ThrottleResult {
        self.policy.on_throttle(state, error)
    }

    fn remaining_time(&self, state: &RetryState) -> Option<Duration> {
        self.policy.remaining_time(state)
    }
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::backoff_policy::BackoffPolicy as _;

    use super::*;

    #[test]
    fn a_client_warns_of_long_failures_and_not_of_each() {
        let warning = Warning::new("Cloud Storage", ());
        let start = Instant::now();
        let due = |after: u64| warning.is_due(start, start + Duration::from_secs(after));
        assert_eq!([0, 9, 10, 11, 69, 70, 71].map(due), [false, false, true, false, false, true, false]);
    }

    #[test]
    fn no_pause_is_longer_than_the_longest() {
        let pauses = pauses(Duration::from_secs(1));
        for attempts in 1..1000_u32 {
            assert!(pauses.on_failure(&RetryState::new(true).set_attempt_count(attempts)) <= PAUSE_MAX);
        }
    }
}

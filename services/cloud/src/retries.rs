//! How failing calls are tried again: Google's clients would go on slowly, for minutes, after an outage has ended.

use std::time::Duration;

use google_cloud_gax::{
    exponential_backoff::{ExponentialBackoff, ExponentialBackoffBuilder},
    retry_throttler::CircuitBreaker,
};

/// Longest pause between two tries. The client's own is a minute.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Truncated exponential backoff with jitter, as Cloud Storage and Pub/Sub ask for.
pub(crate) fn pauses(first: Duration) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new().with_initial_delay(first).with_maximum_delay(PAUSE_MAX).clamp()
}

/// No try is held back because others failed. The client's own throttler counts what failed since the process started,
/// so it holds back most tries long after an outage; what is in progress is bounded here anyway.
pub(crate) fn every_try() -> CircuitBreaker {
    CircuitBreaker::clamp(1, 0, 0)
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::{backoff_policy::BackoffPolicy as _, retry_state::RetryState};

    use super::*;

    #[test]
    fn no_pause_is_longer_than_the_longest() {
        let pauses = pauses(Duration::from_secs(1));
        for attempts in 1..1000_u32 {
            assert!(pauses.on_failure(&RetryState::new(true).set_attempt_count(attempts)) <= PAUSE_MAX);
        }
    }
}

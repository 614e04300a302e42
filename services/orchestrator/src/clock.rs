//! The time of day, passed in so that tests can move it.

use std::sync::Arc;

use jiff::Timestamp;

/// Returns the time of day.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock of this machine.
pub fn system() -> Clock {
    Arc::new(Timestamp::now)
}

/// Seconds from `start` to `end`, 0 when the clocks of two machines disagree about the order.
pub(crate) fn seconds_between(start: Timestamp, end: Timestamp) -> f64 {
    end.duration_since(start).as_secs_f64().max(0.0)
}

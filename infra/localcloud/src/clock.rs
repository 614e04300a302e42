//! The laptop cloud's clock: wall time plus an offset that tests move.
//!
//! Every deadline in the laptop cloud (ack deadlines, retention, `ttlSecondsAfterFinished`, token expiry) is kept
//! against this clock, so that days pass at once without a paused runtime getting in the way of real sockets.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// A clock that can be moved. Clones share the offset.
#[derive(Clone, Debug)]
pub struct Clock {
    offset: watch::Sender<SignedDuration>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { offset: watch::Sender::new(SignedDuration::ZERO) }
    }
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        Timestamp::now().checked_add(*self.offset.borrow()).unwrap_or(Timestamp::MAX)
    }

    /// Moves the clock forward and wakes the sleepers whose time has come.
    pub fn advance(&self, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::ZERO);
        self.offset.send_modify(|offset| *offset += by);
    }

    /// Moves the clock back, as if the machines of all clients were fast.
    pub fn set_back(&self, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::ZERO);
        self.offset.send_modify(|offset| *offset -= by);
    }

    /// Waits until the clock shows `deadline`.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        let mut moved = self.offset.subscribe();
        loop {
            moved.borrow_and_update();
            let left = deadline.duration_since(self.now());
            let Ok(left) = Duration::try_from(left) else { return };
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                _ = moved.changed() => {}
            }
        }
    }

    /// Waits for `duration` of this clock's time.
    pub async fn sleep(&self, duration: Duration) {
        let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        self.sleep_until(self.now().checked_add(duration).unwrap_or(Timestamp::MAX)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn advancing_wakes_sleepers_at_once() {
        let clock = Clock::default();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(86_400)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(86_401));
        tokio::time::timeout(Duration::from_secs(10), sleeper).await.unwrap().unwrap();
    }
}

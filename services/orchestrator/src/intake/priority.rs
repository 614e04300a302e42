//! Shares free slots between two subscriptions: the one for priority comes first while slots are scarce.
//!
//! Only pulling shows whether a subscription has messages. So while slots are scarce, the ordinary subscription waits
//! until the one for priority has been open, with room, and sent nothing for a moment. While most slots are free, both
//! are served.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Which subscription a stream is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// The one that is drained first.
    First,
    /// The other one; the only one, for most businesses.
    Ordinary,
}

impl Rank {
    /// The readiness reason that a stream of this rank sets and clears.
    pub(crate) fn readiness(self) -> &'static str {
        match self {
            Self::First => "priority subscription",
            Self::Ordinary => "subscription",
        }
    }
}

/// The state of the stream for priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// It does not exist or cannot be opened: the other stream does not wait for it.
    Absent,
    /// It waits to be opened.
    Closed,
    /// It is open.
    Open {
        /// Since when slots are free for its messages.
        ready: Instant,
        /// Since when it has sent no message either.
        quiet: Instant,
    },
}

/// The order between the two.
#[derive(Debug)]
pub(crate) struct Priority {
    stream: Mutex<Stream>,
    quiet_for: Duration,
}

impl Priority {
    /// With or without a subscription for priority. It counts as drained when slots were free and it sent no message for
    /// `quiet_for`.
    pub(crate) fn new(exists: bool, quiet_for: Duration) -> Self {
        Self { stream: Mutex::new(if exists { Stream::Closed } else { Stream::Absent }), quiet_for }
    }

    fn change(&self, rank: Rank, change: impl FnOnce(&mut Stream)) {
        if rank == Rank::First {
            change(&mut self.stream.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Records that a stream was opened.
    pub(crate) fn record_opened(&self, rank: Rank, now: Instant) {
        self.change(rank, |stream| *stream = Stream::Open { ready: now, quiet: now });
    }

    /// Records that a stream sent a message.
    pub(crate) fn record_receipt(&self, rank: Rank, now: Instant) {
        self.change(rank, |stream| {
            if let Stream::Open { quiet, .. } = stream {
                *quiet = now;
            }
        });
    }

    /// Records that a stream was closed, to be opened again.
    pub(crate) fn record_closed(&self, rank: Rank) {
        self.change(rank, |stream| *stream = Stream::Closed);
    }

    /// Records that a stream cannot be opened.
    pub(crate) fn record_failure(&self, rank: Rank) {
        self.change(rank, |stream| *stream = Stream::Absent);
    }

    /// Whether a message of a stream may take one of the free slots.
    pub(crate) fn may_start(&self, rank: Rank, free: usize, max: usize, now: Instant) -> bool {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if free == 0 {
            if let Stream::Open { ready, quiet } = &mut *stream {
                (*ready, *quiet) = (now, now);
            }
            return false;
        }
        let long_since = |since: Instant| now.saturating_duration_since(since) >= self.quiet_for;
        let is_plenty = free > (max / 2).max(1);
        let is_allowed = match *stream {
            Stream::Absent => true,
            Stream::Closed => false,
            // It is drained, or most slots are free.
            Stream::Open { ready, quiet } => long_since(quiet) || (is_plenty && long_since(ready)),
        };
        rank == Rank::First || is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_has_its_own_readiness_reason() {
        assert_ne!(Rank::First.readiness(), Rank::Ordinary.readiness());
    }

    #[test]
    fn scarce_slots_go_to_priority_until_it_is_drained() {
        let start = Instant::now();
        let later = |millis| start + Duration::from_millis(millis);
        let quiet = Duration::from_millis(250);
        let priority = Priority::new(true, quiet);
        let ordinary = |free, millis| priority.may_start(Rank::Ordinary, free, 8, later(millis));
        assert!(!ordinary(1, 0) && !ordinary(8, 0));
        assert!(priority.may_start(Rank::First, 1, 8, start) && !priority.may_start(Rank::First, 0, 8, start));
        priority.record_opened(Rank::First, later(0));
        assert_eq!([ordinary(1, 200), ordinary(8, 200), ordinary(1, 250)], [false, false, true]);
        // Frequent messages delay the other stream only while slots are scarce.
        priority.record_receipt(Rank::First, later(300));
        let at = [ordinary(1, 400), ordinary(4, 400), ordinary(5, 400), ordinary(1, 550)];
        assert_eq!(at, [false, false, true, true]);
        // A slot that becomes free is offered to priority first.
        assert_eq!([ordinary(0, 600), ordinary(8, 700), ordinary(8, 850)], [false, false, true]);
        priority.record_closed(Rank::First);
        assert!(!ordinary(1, 9000));
        // A missing subscription does not delay the other one, and the ordinary stream does not count.
        priority.record_failure(Rank::First);
        assert!(ordinary(1, 0));
        priority.record_opened(Rank::Ordinary, later(0));
        assert!(ordinary(1, 0) && !ordinary(0, 0));
        assert!(Priority::new(false, quiet).may_start(Rank::Ordinary, 1, 1, start));
        assert!(!Priority::new(true, quiet).may_start(Rank::Ordinary, 1, 1, start));
    }
}

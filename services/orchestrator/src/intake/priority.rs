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
        /// Since when it can send messages.
        ready: Instant,
        /// Since when it has sent no message.
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
    /// With or without a subscription for priority. It counts as drained when it could send messages and sent none for
    /// `quiet_for`.
    pub(crate) fn new(exists: bool, quiet_for: Duration) -> Self {
        Self { stream: Mutex::new(if exists { Stream::Closed } else { Stream::Absent }), quiet_for }
    }

    fn set(&self, rank: Rank, stream: Stream) {
        if rank == Rank::First {
            *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = stream;
        }
    }

    /// Records that a stream was opened, or could send no message until now.
    pub(crate) fn ready(&self, rank: Rank, now: Instant) {
        self.set(rank, Stream::Open { ready: now, quiet: now });
    }

    /// Records that a stream sent a message.
    pub(crate) fn record_receipt(&self, rank: Rank, now: Instant) {
        if rank == Rank::First
            && let Stream::Open { quiet, .. } = &mut *self.stream.lock().unwrap_or_else(PoisonError::into_inner)
        {
            *quiet = now;
        }
    }

    /// Records that a stream was closed, to be opened when there is room.
    pub(crate) fn closed(&self, rank: Rank) {
        self.set(rank, Stream::Closed);
    }

    /// Records that a stream cannot be opened.
    pub(crate) fn failed(&self, rank: Rank) {
        self.set(rank, Stream::Absent);
    }

    /// How many of the free slots a stream of this rank may fill.
    pub(crate) fn share(&self, rank: Rank, free: usize, max: usize, now: Instant) -> usize {
        let long_since = |since: Instant| now.saturating_duration_since(since) >= self.quiet_for;
        let is_plenty = free > (max / 2).max(1);
        let is_allowed = match *self.stream.lock().unwrap_or_else(PoisonError::into_inner) {
            Stream::Absent => true,
            Stream::Closed => false,
            // It is drained, or most slots are free.
            Stream::Open { ready, quiet } => long_since(quiet) || (is_plenty && long_since(ready)),
        };
        if rank == Rank::First || is_allowed { free } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scarce_slots_go_to_priority_until_it_is_drained() {
        let start = Instant::now();
        let later = |millis| start + Duration::from_millis(millis);
        let quiet = Duration::from_millis(250);
        let priority = Priority::new(true, quiet);
        let ordinary = |free, millis| priority.share(Rank::Ordinary, free, 8, later(millis));
        assert_eq!((ordinary(1, 0), ordinary(8, 0)), (0, 0));
        assert_eq!(priority.share(Rank::First, 1, 8, start), 1);
        priority.ready(Rank::First, later(0));
        assert_eq!((ordinary(1, 200), ordinary(8, 200), ordinary(1, 250)), (0, 0, 1));
        // Frequent messages delay the other stream only while slots are scarce.
        priority.record_receipt(Rank::First, later(300));
        assert_eq!((ordinary(1, 400), ordinary(4, 400), ordinary(5, 400), ordinary(1, 550)), (0, 0, 5, 1));
        priority.ready(Rank::First, later(600));
        assert_eq!((ordinary(8, 700), ordinary(8, 850)), (0, 8));
        priority.closed(Rank::First);
        assert_eq!(ordinary(1, 9000), 0);
        // A missing subscription does not delay the other one, and the ordinary stream does not count.
        priority.failed(Rank::First);
        assert_eq!(ordinary(1, 0), 1);
        priority.ready(Rank::Ordinary, later(0));
        assert_eq!(ordinary(1, 0), 1);
        assert_eq!(Priority::new(false, quiet).share(Rank::Ordinary, 1, 1, start), 1);
        assert_eq!(Priority::new(true, quiet).share(Rank::Ordinary, 1, 1, start), 0);
    }
}

//! Which of two subscriptions may take a free slot: that for priority first, while slots are scarce.
//!
//! What waits in a subscription is only seen by pulling. So while slots are scarce the ordinary subscription waits until
//! that for priority has been open, with room, and nothing came of it for a moment.

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

/// How the stream for priority does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// There is none, or it cannot be opened: nobody waits for it.
    Absent,
    /// It waits to be opened.
    Closed,
    /// It is open, and had room without a message since then.
    Open(Instant),
}

/// The order between the two.
#[derive(Debug)]
pub(crate) struct Priority {
    stream: Mutex<Stream>,
    quiet_for: Duration,
}

impl Priority {
    /// With or without a subscription that is drained first. It counts as drained when nothing came of it for
    /// `quiet_for` although it could.
    pub(crate) fn new(is_there: bool, quiet_for: Duration) -> Self {
        Self { stream: Mutex::new(if is_there { Stream::Closed } else { Stream::Absent }), quiet_for }
    }

    fn set(&self, rank: Rank, stream: Stream) {
        if rank == Rank::First {
            *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = stream;
        }
    }

    /// A stream was opened, a message came of it, or nothing could come of it until now.
    pub(crate) fn busy(&self, rank: Rank, now: Instant) {
        self.set(rank, Stream::Open(now));
    }

    /// A stream was closed, to be opened again when there is room.
    pub(crate) fn closed(&self, rank: Rank) {
        self.set(rank, Stream::Closed);
    }

    /// A stream cannot be opened.
    pub(crate) fn failed(&self, rank: Rank) {
        self.set(rank, Stream::Absent);
    }

    /// How many of the free slots a stream of this rank may fill.
    pub(crate) fn share(&self, rank: Rank, free: usize, max: usize, now: Instant) -> usize {
        let is_scarce = free <= (max / 2).max(1);
        let drained = match *self.stream.lock().unwrap_or_else(PoisonError::into_inner) {
            Stream::Absent => true,
            Stream::Closed => false,
            Stream::Open(since) => now.saturating_duration_since(since) >= self.quiet_for,
        };
        if rank == Rank::First || drained || !is_scarce { free } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scarce_slots_go_to_priority_until_nothing_comes_of_it() {
        let start = Instant::now();
        let later = |millis| start + Duration::from_millis(millis);
        let quiet = Duration::from_millis(250);
        let priority = Priority::new(true, quiet);
        let ordinary = |free, millis| priority.share(Rank::Ordinary, free, 8, later(millis));
        assert_eq!((ordinary(1, 0), ordinary(4, 0), ordinary(5, 0)), (0, 0, 5));
        assert_eq!(priority.share(Rank::First, 1, 8, start), 1);
        priority.busy(Rank::First, later(0));
        assert_eq!((ordinary(1, 200), ordinary(1, 250)), (0, 1));
        priority.busy(Rank::First, later(300));
        assert_eq!((ordinary(1, 400), ordinary(1, 550)), (0, 1));
        priority.closed(Rank::First);
        assert_eq!(ordinary(1, 9000), 0);
        // One that does not exist holds nobody up, nor does the other stream count.
        priority.failed(Rank::First);
        assert_eq!(ordinary(1, 0), 1);
        priority.busy(Rank::Ordinary, later(0));
        assert_eq!(ordinary(1, 0), 1);
        assert_eq!(Priority::new(false, quiet).share(Rank::Ordinary, 1, 1, start), 1);
        assert_eq!(Priority::new(true, quiet).share(Rank::Ordinary, 1, 1, start), 0);
    }
}

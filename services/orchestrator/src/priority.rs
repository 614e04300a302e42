//! Which of two subscriptions may take a free slot: that for priority first, while slots are scarce.
//!
//! What waits in a subscription is only seen by pulling. So while slots are scarce the ordinary subscription waits until
//! that for priority has been open, with room, and nothing came of it for a moment. While there is plenty of room, what is
//! urgent is served as it comes, and the rest beside it.

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
    /// It is open.
    Open {
        /// Messages can come of it since then.
        ready: Instant,
        /// No message came of it since then.
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

    /// A stream was opened, or nothing could come of it until now.
    pub(crate) fn ready(&self, rank: Rank, now: Instant) {
        self.set(rank, Stream::Open { ready: now, quiet: now });
    }

    /// A message came of a stream.
    pub(crate) fn took(&self, rank: Rank, now: Instant) {
        if rank == Rank::First
            && let Stream::Open { quiet, .. } = &mut *self.stream.lock().unwrap_or_else(PoisonError::into_inner)
        {
            *quiet = now;
        }
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
        let long_since = |since: Instant| now.saturating_duration_since(since) >= self.quiet_for;
        let is_plenty = free > (max / 2).max(1);
        let may = match *self.stream.lock().unwrap_or_else(PoisonError::into_inner) {
            Stream::Absent => true,
            Stream::Closed => false,
            // It is drained; or it is served as it comes, and much is left over.
            Stream::Open { ready, quiet } => long_since(quiet) || (is_plenty && long_since(ready)),
        };
        if rank == Rank::First || may { free } else { 0 }
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
        assert_eq!((ordinary(1, 0), ordinary(8, 0)), (0, 0));
        assert_eq!(priority.share(Rank::First, 1, 8, start), 1);
        priority.ready(Rank::First, later(0));
        assert_eq!((ordinary(1, 200), ordinary(8, 200), ordinary(1, 250)), (0, 0, 1));
        // What comes all the time holds up only while slots are scarce.
        priority.took(Rank::First, later(300));
        assert_eq!((ordinary(1, 400), ordinary(4, 400), ordinary(5, 400), ordinary(1, 550)), (0, 0, 5, 1));
        priority.ready(Rank::First, later(600));
        assert_eq!((ordinary(8, 700), ordinary(8, 850)), (0, 8));
        priority.closed(Rank::First);
        assert_eq!(ordinary(1, 9000), 0);
        // One that does not exist holds nobody up, nor does the other stream count.
        priority.failed(Rank::First);
        assert_eq!(ordinary(1, 0), 1);
        priority.ready(Rank::Ordinary, later(0));
        assert_eq!(ordinary(1, 0), 1);
        assert_eq!(Priority::new(false, quiet).share(Rank::Ordinary, 1, 1, start), 1);
        assert_eq!(Priority::new(true, quiet).share(Rank::Ordinary, 1, 1, start), 0);
    }
}

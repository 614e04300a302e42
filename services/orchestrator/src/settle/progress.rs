//! Packs in progress: how many of their ranges have no outcome, so that outcomes are listed at the end and else rarely.
//! Pure.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contract::{Identity, message::Work};
use tokio::time::Instant;

/// Least time between two listings of the outcomes of a pack of which some are missing, and more for each of those.
const LIST_INTERVAL: Duration = Duration::from_secs(5);
const LIST_INTERVAL_PER_RANGE: Duration = Duration::from_millis(10);

/// The packs in progress, by the name of their object, and its generation.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<HashMap<(String, i64), Pack>>);

/// A pack of which this process settled or published ranges.
#[derive(Clone, Debug)]
struct Pack {
    /// The whole pack.
    work: Work,
    /// Ranges that have no outcome, as far as this process knows; other processes settle ranges too.
    missing: usize,
    /// From when the outcomes may be listed before none is missing.
    next_list: Instant,
    /// Ranges that this process settled, and how many of them when the last listing began.
    settled: u64,
    listed: u64,
}

impl Pack {
    fn new(work: &Work, missing: usize, now: Instant) -> Self {
        let work = Work { identity: Identity { first: None, ..work.identity.clone() }, ..work.clone() };
        let mut pack = Self { work, missing, next_list: now, settled: 0, listed: 0 };
        pack.set_missing(missing, now);
        pack
    }

    /// Sets how many ranges have no outcome. The more they are, the more a listing costs.
    fn set_missing(&mut self, missing: usize, now: Instant) {
        let more = LIST_INTERVAL_PER_RANGE.saturating_mul(u32::try_from(missing).unwrap_or(u32::MAX));
        (self.missing, self.next_list) = (missing, now + LIST_INTERVAL + more);
    }

    /// Records that a range has its outcome; whether it is time to see if the whole pack has.
    fn record_settled(&mut self, now: Instant) -> bool {
        self.missing = self.missing.saturating_sub(1);
        self.settled += 1;
        self.missing == 0 || now >= self.next_list
    }
}

impl Progress {
    fn packs(&self) -> MutexGuard<'_, HashMap<(String, i64), Pack>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that this many ranges of a pack are about to run.
    pub(crate) fn record_split(&self, work: &Work, ranges: usize) {
        let now = Instant::now();
        let new = || Pack::new(work, ranges, now);
        self.packs().entry(key(work)).or_insert_with(new).set_missing(ranges, now);
    }

    /// Packs of which ranges were settled, and that may be complete by what other processes did. Each is returned again
    /// after a while, until its outcomes were listed.
    pub(crate) fn due(&self, now: Instant) -> Vec<Work> {
        let mut packs = self.packs();
        let due = packs.values_mut().filter(|pack| pack.settled != pack.listed && now >= pack.next_list);
        let works = due.map(|pack| {
            pack.next_list = now + LIST_INTERVAL;
            pack.work.clone()
        });
        works.collect()
    }

    /// Records that a range has its outcome; whether it is time to see if the whole pack has. Of a pack that another
    /// process split nothing is known.
    pub(crate) fn record_settled(&self, work: &Work, now: Instant) -> bool {
        self.packs().get_mut(&key(work)).is_none_or(|pack| pack.record_settled(now))
    }

    /// The ranges of a pack that this process settled.
    pub(crate) fn settled(&self, work: &Work) -> u64 {
        self.packs().get(&key(work)).map_or(0, |pack| pack.settled)
    }

    /// Records what a listing found that began when this process had settled so many ranges. It may have missed those
    /// that were settled since.
    pub(crate) fn record_listed(&self, work: &Work, missing: usize, settled: u64, now: Instant) {
        let mut packs = self.packs();
        if missing == 0 {
            packs.remove(&key(work));
            return;
        }
        let pack = packs.entry(key(work)).or_insert_with(|| Pack::new(work, missing, now));
        pack.set_missing(missing, now);
        pack.listed = settled;
    }
}

fn key(work: &Work) -> (String, i64) {
    (work.identity.object.clone(), work.identity.generation)
}

#[cfg(test)]
mod tests {
    use contract::pack::Format;

    use super::*;

    #[test]
    fn outcomes_are_listed_once_at_the_end_and_else_rarely() {
        let start = Instant::now();
        let pack = contract::pack::Pack { format: Format::Lines, items: 25, items_per_range: 10, rows_per_item: 1 };
        let range = Work { pack: Some(pack), ..contract::testing::work("bu1", "s", "j") }.of_range(10);
        let mut pack = Pack::new(&range, 3, start);
        assert_eq!(pack.work.identity.first, None);
        assert_eq!([(); 3].map(|()| pack.record_settled(start)), [false, false, true]);
        // Other processes settle some of them.
        let packs = Progress::default();
        packs.record_split(&range, 3);
        let later = Instant::now() + 2 * LIST_INTERVAL;
        assert!(packs.due(later).is_empty(), "nothing has changed");
        let is_due = packs.record_settled(&range, start);
        assert!(!is_due && packs.due(later) == [pack.work] && packs.due(later).is_empty(), "it is being listed");
        assert_eq!(packs.due(later + LIST_INTERVAL).len(), 1, "the listing failed");
        // The last range is settled while a listing runs, which no longer sees it.
        let settled = packs.settled(&range);
        packs.record_settled(&range, start);
        packs.record_listed(&range, 1, settled, start);
        assert_eq!(packs.due(later).len(), 1, "the listing missed a range");
        packs.record_listed(&range, 1, packs.settled(&range), start);
        assert!(packs.due(later).is_empty(), "nothing has changed");
    }
}

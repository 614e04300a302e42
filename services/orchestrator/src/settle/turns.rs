//! Which Jobs are settled next. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::{settle_batch::Progress, view::View};

/// Jobs that ended, or of which something was reported, that are settled at once.
const ENDED_AT_ONCE: usize = 32;
/// Deleted Jobs whose pods are stopped at once. Each takes as long as its pods do, so they have turns of their own, and
/// those that ended do not wait for them.
const STOPPING_AT_ONCE: usize = 128;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Ended,
    Stopping,
}

/// The Jobs that are being settled, and those whose settling failed.
#[derive(Debug, Default)]
pub(super) struct Turns {
    busy: BTreeMap<String, Lane>,
    /// When it is tried again, and how long that was waited for.
    delayed: HashMap<String, (Instant, Duration)>,
}

impl Turns {
    /// The Jobs whose settling begins now. Forgets what is known of others that want it no more.
    pub(super) fn begin(&mut self, view: &View, progress: &Progress, now: Instant) -> Vec<String> {
        self.delayed.retain(|name, _| view.is_unsettled(name));
        progress.keep(|name| view.is_held(name));
        let is_next = |name: &&str| !self.busy.contains_key(*name) && self.is_due(name, now);
        let ended = view.ended().filter(is_next).take(ENDED_AT_ONCE.saturating_sub(self.count(Lane::Ended)));
        let stopping =
            view.stopping().filter(is_next).take(STOPPING_AT_ONCE.saturating_sub(self.count(Lane::Stopping)));
        let begun = ended.map(|name| (name.to_owned(), Lane::Ended));
        let begun: Vec<_> = begun.chain(stopping.map(|name| (name.to_owned(), Lane::Stopping))).collect();
        self.busy.extend(begun.iter().cloned());
        begun.into_iter().map(|(name, _)| name).collect()
    }

    /// One is settled, or failed to be and is tried again after a while.
    pub(super) fn ended(&mut self, name: &str, is_settled: bool, now: Instant) {
        self.busy.remove(name);
        if !is_settled {
            let (due, wait) = self.delayed.entry(name.to_owned()).or_insert((now, RETRY_FIRST / 2));
            *wait = (*wait * 2).min(RETRY_MOST);
            *due = now + wait.mul_f64(0.5 + rand::random::<f64>());
        }
    }

    /// Whether a Job that ends now could be settled at once.
    pub(super) fn has_room(&self) -> bool {
        self.count(Lane::Ended) < ENDED_AT_ONCE
    }

    /// When the next of those that failed is tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.values().map(|(due, _)| *due).min()
    }

    fn is_due(&self, name: &str, now: Instant) -> bool {
        self.delayed.get(name).is_none_or(|(due, _)| *due <= now)
    }

    fn count(&self, lane: Lane) -> usize {
        self.busy.values().filter(|busy| **busy == lane).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::{job, synced};

    #[test]
    fn jobs_that_ended_do_not_wait_for_those_whose_pods_are_stopped() {
        let (mut view, mut turns, progress) = (synced(), Turns::default(), Progress::default());
        for index in 0..200 {
            view.shown(&job(&format!("deleted-{index:03}"), None, true, true));
        }
        let now = Instant::now();
        assert_eq!(turns.begin(&view, &progress, now).len(), STOPPING_AT_ONCE);
        assert!(turns.begin(&view, &progress, now).is_empty() && turns.has_room());
        for index in 0..100 {
            view.shown(&job(&format!("ended-{index:03}"), Some("Complete"), false, true));
        }
        let begun = turns.begin(&view, &progress, now);
        assert!(begun.len() == ENDED_AT_ONCE && begun.iter().all(|name| name.starts_with("ended-")), "{begun:?}");
        assert!(!turns.has_room());
        turns.ended("ended-000", true, now);
        view.settled("ended-000");
        assert_eq!(turns.begin(&view, &progress, now), ["ended-032"]);
    }

    #[test]
    fn what_failed_is_tried_again_after_a_while() {
        let (mut view, mut turns, progress) = (synced(), Turns::default(), Progress::default());
        view.shown(&job("a", Some("Failed"), false, true));
        let now = Instant::now();
        assert_eq!(turns.begin(&view, &progress, now), ["a"]);
        turns.ended("a", false, now);
        assert!(turns.begin(&view, &progress, now).is_empty());
        let due = turns.next_due().unwrap();
        assert!(due > now);
        assert_eq!(turns.begin(&view, &progress, due), ["a"]);
        turns.ended("a", false, due);
        view.gone("a");
        assert!(turns.begin(&view, &progress, due).is_empty() && turns.next_due().is_none());
    }

    /// Another replica may settle a batch to its end: then this one has no turn at which it would forget it.
    #[test]
    fn what_was_settled_of_a_batch_is_forgotten_however_the_batch_ends() {
        let (mut view, mut turns, progress) = (synced(), Turns::default(), Progress::default());
        for name in ["batch-1", "batch-2", "batch-3"] {
            view.shown(&job(name, None, false, true));
            progress.add(name, 0);
        }
        turns.begin(&view, &progress, Instant::now());
        assert_eq!(progress.len(), 3);
        view.shown(&job("batch-1", Some("Complete"), false, false));
        view.gone("batch-2");
        turns.begin(&view, &progress, Instant::now());
        assert_eq!(progress.len(), 1);
    }
}

//! The order in which Jobs are settled. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::watch::view::View;

/// Limit of the Jobs settled at the same time that ended.
const ENDED_MAX: usize = 32;
/// Limit of the deleted Jobs settled at the same time. Each takes as long as its pods need to stop, so they have a
/// limit of their own and do not delay the Jobs that ended.
const STOPPING_MAX: usize = 128;
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Ended,
    Stopping,
}

/// The Jobs that are being settled, and those whose attempt failed.
#[derive(Debug, Default)]
pub(super) struct SettleQueue {
    busy: BTreeMap<String, Lane>,
    /// When the next attempt is due, and the wait before it.
    delayed: HashMap<String, (Instant, Duration)>,
}

impl SettleQueue {
    /// Starts the Jobs that are due; returns their names. Also removes the entries of Jobs that are settled.
    pub(super) fn start_due(&mut self, view: &View, now: Instant) -> Vec<String> {
        self.delayed.retain(|name, _| view.is_unsettled(name));
        let is_next = |name: &&str| !self.busy.contains_key(*name) && self.is_due(name, now);
        let ended = view.ended().filter(is_next).take(ENDED_MAX.saturating_sub(self.count(Lane::Ended)));
        let stopping = view.stopping().filter(is_next).take(STOPPING_MAX.saturating_sub(self.count(Lane::Stopping)));
        let started = ended.map(|name| (name.to_owned(), Lane::Ended));
        let started: Vec<_> = started.chain(stopping.map(|name| (name.to_owned(), Lane::Stopping))).collect();
        self.busy.extend(started.iter().cloned());
        started.into_iter().map(|(name, _)| name).collect()
    }

    /// Records the end of an attempt; a failed one is due once more after a wait.
    pub(super) fn finished(&mut self, name: &str, is_settled: bool, now: Instant) {
        self.busy.remove(name);
        if !is_settled {
            let (due, wait) = self.delayed.entry(name.to_owned()).or_insert((now, RETRY_MIN / 2));
            *wait = (*wait * 2).min(RETRY_MAX);
            *due = now + wait.mul_f64(0.5 + rand::random::<f64>());
        }
    }

    /// Whether a Job that ends now would be started.
    pub(super) fn has_room(&self) -> bool {
        self.count(Lane::Ended) < ENDED_MAX
    }

    /// When the next failed Job is due.
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
    use crate::watch::view::tests::{job, synced};

    #[test]
    fn deleted_jobs_do_not_delay_jobs_that_ended() {
        let (mut view, mut queue) = (synced(), SettleQueue::default());
        for index in 0..200 {
            view.apply(&job(&format!("deleted-{index:03}"), None, true, true));
        }
        let now = Instant::now();
        assert_eq!(queue.start_due(&view, now).len(), STOPPING_MAX);
        assert!(queue.start_due(&view, now).is_empty() && queue.has_room());
        for index in 0..100 {
            view.apply(&job(&format!("ended-{index:03}"), Some("Complete"), false, true));
        }
        let started = queue.start_due(&view, now);
        assert!(started.len() == ENDED_MAX && started.iter().all(|name| name.starts_with("ended-")), "{started:?}");
        assert!(!queue.has_room());
        queue.finished("ended-000", true, now);
        view.record_settled("ended-000");
        assert_eq!(queue.start_due(&view, now), ["ended-032"]);
    }

    #[test]
    fn a_failed_job_is_retried_after_a_wait() {
        let (mut view, mut queue) = (synced(), SettleQueue::default());
        view.apply(&job("a", Some("Failed"), false, true));
        let now = Instant::now();
        assert_eq!(queue.start_due(&view, now), ["a"]);
        queue.finished("a", false, now);
        assert!(queue.start_due(&view, now).is_empty());
        let due = queue.next_due().unwrap();
        assert!(due > now);
        assert_eq!(queue.start_due(&view, due), ["a"]);
        queue.finished("a", false, due);
        view.remove("a");
        assert!(queue.start_due(&view, due).is_empty() && queue.next_due().is_none());
    }
}

//! The messages that wait to become part of a batch, and which of them are next. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use contract::{batch::INPUTS_MAX, message::Work};
use tokio::{sync::oneshot, time::Instant};

use crate::{admit_error::AdmitError, job::Origin};

/// The reply to a message that waited.
pub(super) type Reply = Result<(), AdmitError>;

/// How long a message waits for others when slots are free.
const GATHER: Duration = Duration::from_millis(30);

/// Groups in the order in which they are served: priority first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) groups: BTreeMap<Key, VecDeque<Pending>>,
    singles: u64,
    pub(super) closed: bool,
}

/// The messages that become one Kubernetes Job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// False sorts first.
    ordinary: bool,
    pub(super) session: String,
    /// Not 0 for work that gets a Job of its own.
    single: u64,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) work: Work,
    pub(super) origin: Origin,
    pub(super) since: Instant,
    pub(super) reply: oneshot::Sender<Reply>,
}

impl Queue {
    /// Adds work with others of its session, or with `alone` by itself.
    pub(super) fn add(&mut self, pending: Pending, alone: bool) {
        let single = if alone {
            self.singles += 1;
            self.singles
        } else {
            0
        };
        let key = Key { ordinary: !pending.work.priority, session: pending.work.session.clone(), single };
        self.groups.entry(key).or_default().push_back(pending);
    }

    /// The next group: of those that are ready, priority first, then the one that has waited longest. `Err` has the
    /// time when a group will be ready.
    pub(super) fn next(&self, now: Instant) -> Result<Key, Option<Instant>> {
        let due = |key: &Key, group: &VecDeque<Pending>| {
            let since = group.front().map_or(now, |pending| pending.since);
            if key.single > 0 || group.len() >= INPUTS_MAX { since } else { since + GATHER }
        };
        let ready = self.groups.iter().map(|(key, group)| (key, due(key, group))).filter(|(_, due)| *due <= now);
        match ready.min_by_key(|(key, due)| (key.ordinary, *due)) {
            Some((key, _)) => Ok(key.clone()),
            None => Err(self.groups.iter().map(|(key, group)| due(key, group)).min()),
        }
    }

    /// Removes the oldest messages of a group, as many as a batch may have.
    pub(super) fn take(&mut self, key: &Key) -> Vec<Pending> {
        let Some(group) = self.groups.get_mut(key) else { return Vec::new() };
        let taken = group.drain(..group.len().min(INPUTS_MAX)).collect();
        if group.is_empty() {
            self.groups.remove(key);
        }
        taken
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn pending(session: &str, priority: bool, since: Instant) -> (Key, Pending) {
        let work = Work { session: session.into(), priority, ..crate::job::tests::work(None) };
        let origin = Origin { message_id: "1".into(), published: None, received: jiff::Timestamp::UNIX_EPOCH };
        let key = Key { ordinary: !priority, session: session.into(), single: 0 };
        (key, Pending { work, origin, since, reply: oneshot::channel().0 })
    }

    #[test]
    fn a_group_is_ready_after_a_moment_or_when_it_is_full_and_priority_goes_first() {
        let start = Instant::now();
        let mut queue = Queue::default();
        assert_eq!(queue.next(start), Err(None));
        let mut add = |session, priority, since| {
            let (key, pending) = pending(session, priority, since);
            queue.groups.entry(key.clone()).or_default().push_back(pending);
            (key, queue.next(since))
        };
        let (first, next) = add("a", false, start);
        assert_eq!(next, Err(Some(start + GATHER)));
        let later = start + Duration::from_millis(1);
        for _ in 0..INPUTS_MAX - 1 {
            assert_eq!(add("b", false, later).1, Err(Some(start + GATHER)));
        }
        let (full, next) = add("b", false, later);
        assert_eq!(next, Ok(full.clone()));
        let (urgent, next) = add("c", true, later);
        assert_eq!(next, Ok(full.clone()), "it has not waited for others yet");
        assert_eq!(queue.next(later + GATHER), Ok(urgent.clone()));
        assert_eq!(queue.take(&urgent).len(), 1);
        let (_, extra) = pending("b", false, later);
        queue.groups.entry(full.clone()).or_default().push_back(extra);
        assert_eq!(queue.take(&full).len(), INPUTS_MAX);
        assert_eq!(queue.groups[&full].len(), 1);
        assert_eq!(queue.next(later + GATHER), Ok(first));
    }
}

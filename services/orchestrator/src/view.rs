//! A compact projection of the Jobs in the namespace: how many slots are taken, and which Jobs want their outcome.
//! Pure; the watch feeds it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::watched::{Phase, Watched};

/// How long a created Job that the watch never showed counts as active. Such a Job was created and removed while the
/// watch was interrupted.
const AWAITED_WITHIN: Duration = Duration::from_secs(60);

/// Ended Jobs that may always wait for their outcome.
const UNSETTLED_MAX: usize = 1000;

/// What is kept of a Job: some 150 bytes with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    phase: Phase,
    deleting: bool,
    held: bool,
    suspended: bool,
}

/// A Job that is being created, so that it is counted once however the answer and the watch race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Creation {
    /// The create is under way and its message still holds the slot; whether the watch has shown the Job.
    UnderWay { seen: bool },
    /// The API server has it since then; the watch has not shown it yet.
    Awaited(Instant),
}

/// The Jobs in the namespace and the messages in hand.
#[derive(Debug, Default)]
pub(crate) struct View {
    jobs: HashMap<Box<str>, Entry>,
    active: usize,
    suspended: usize,
    unsettled: BTreeSet<Box<str>>,
    creations: HashMap<Box<str>, Creation>,
    awaited: usize,
    in_hand: usize,
    synced: bool,
    /// Names shown since a new listing began.
    listing: Option<HashSet<Box<str>>>,
}

impl View {
    /// The watch begins a new listing.
    pub(crate) fn listing(&mut self) {
        self.listing = Some(HashSet::new());
    }

    /// The listing is complete: what it did not show is gone.
    pub(crate) fn listed(&mut self) {
        if let Some(shown) = self.listing.take() {
            let gone: Vec<Box<str>> = self.jobs.keys().filter(|name| !shown.contains(*name)).cloned().collect();
            for name in gone {
                self.gone(&name);
            }
        }
        self.synced = true;
    }

    /// The watch shows a Job.
    pub(crate) fn shown(&mut self, job: &Watched) {
        let name = job.name();
        self.forget(name);
        let entry = Entry {
            phase: job.phase(),
            deleting: job.is_deleting(),
            held: job.is_held(),
            suspended: job.is_suspended(),
        };
        if entry.phase == Phase::Active {
            self.active += 1;
            self.suspended += usize::from(entry.suspended);
        }
        if entry.held && (entry.deleting || entry.phase != Phase::Active) {
            self.unsettled.insert(name.into());
        }
        self.jobs.insert(name.into(), entry);
        if let Some(listing) = &mut self.listing {
            listing.insert(name.into());
        }
        self.seen(name);
    }

    /// The watch shows that a Job is gone.
    pub(crate) fn gone(&mut self, name: &str) {
        self.forget(name);
        self.seen(name);
    }

    fn forget(&mut self, name: &str) {
        if let Some(entry) = self.jobs.remove(name).filter(|entry| entry.phase == Phase::Active) {
            self.active -= 1;
            self.suspended -= usize::from(entry.suspended);
        }
        self.unsettled.remove(name);
    }

    fn seen(&mut self, name: &str) {
        match self.creations.get_mut(name) {
            Some(Creation::UnderWay { seen }) => *seen = true,
            Some(Creation::Awaited(_)) => {
                self.creations.remove(name);
                self.awaited -= 1;
            }
            None => {}
        }
    }

    /// A Job was settled; the watch will show so later.
    pub(crate) fn settled(&mut self, name: &str) {
        self.unsettled.remove(name);
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.held = false;
        }
    }

    /// A message takes a slot.
    pub(crate) fn take(&mut self) {
        self.in_hand += 1;
    }

    /// The message that took a slot is done with, without a Job of its own.
    pub(crate) fn put_back(&mut self) {
        self.in_hand -= 1;
    }

    /// A Job of this name is about to be created for a message in hand.
    pub(crate) fn creating(&mut self, name: &str) {
        self.creations.entry(name.into()).or_insert(Creation::UnderWay { seen: false });
    }

    /// The create failed, or the Job was there already.
    pub(crate) fn not_created(&mut self, name: &str) {
        if let Some(Creation::UnderWay { .. }) = self.creations.get(name) {
            self.creations.remove(name);
        }
    }

    /// The API server has the Job: the message's slot is now the Job's.
    pub(crate) fn created(&mut self, name: &str, now: Instant) {
        self.in_hand -= 1;
        if let Some(Creation::UnderWay { seen }) = self.creations.get(name).copied() {
            if seen {
                self.creations.remove(name);
            } else {
                self.creations.insert(name.into(), Creation::Awaited(now));
                self.awaited += 1;
            }
        }
    }

    /// Stops counting created Jobs that the watch never showed.
    pub(crate) fn prune(&mut self, now: Instant) {
        if self.awaited > 0 {
            self.creations.retain(|_, creation| {
                !matches!(creation, Creation::Awaited(since) if now.duration_since(*since) > AWAITED_WITHIN)
            });
            self.awaited = self.creations.values().filter(|c| matches!(c, Creation::Awaited(_))).count();
        }
    }

    /// How many more messages may be taken when at most `max` Jobs may be active. None at all while very many ended Jobs
    /// wait for their outcome: if settling does not work, their number must not grow in the cluster.
    pub(crate) fn room(&self, max: usize) -> usize {
        if !self.synced || self.unsettled.len() > (2 * max).max(UNSETTLED_MAX) {
            return 0;
        }
        max.saturating_sub(self.active + self.awaited + self.in_hand)
    }

    /// Jobs that have not ended.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// Those of them that wait until their queue admits them. They take slots, so that the backlog stays in Pub/Sub.
    pub(crate) fn suspended(&self) -> usize {
        self.suspended
    }

    /// Names of Jobs that ended or are being deleted and still wait for their outcome.
    pub(crate) fn unsettled(&self) -> impl ExactSizeIterator<Item = &str> {
        self.unsettled.iter().map(AsRef::as_ref)
    }

    /// True when this Job still waits for its outcome.
    pub(crate) fn is_unsettled(&self, name: &str) -> bool {
        self.unsettled.contains(name)
    }

    /// True when there is a Job of this name, or is about to be.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.jobs.contains_key(name) || self.creations.contains_key(name)
    }

    /// True once a first listing was complete.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }
}

#[cfg(test)]
mod tests;

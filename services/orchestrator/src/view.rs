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
    /// Slots it takes while it is active.
    weight: u32,
    /// Pods of a batch that have ended, and how many of those had when its reports were last looked at.
    pods_ended: u32,
    pods_reported: u32,
}

impl Entry {
    /// Whether there is something to settle.
    fn is_unsettled(&self) -> bool {
        self.held && (self.deleting || self.phase != Phase::Active || self.pods_ended > self.pods_reported)
    }
}

/// A Job that is being created, so that it is counted once however the answer and the watch race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Creation {
    weight: u32,
    state: Created,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Created {
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
    /// Slots that are taken for what is being made into Jobs.
    in_hand: usize,
    /// Messages that wait together, with dispatch in batches.
    waiting: usize,
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
        let pods_reported = self.forget(name).map_or(0, |entry| entry.pods_reported);
        let entry = Entry {
            phase: job.phase(),
            deleting: job.is_deleting(),
            held: job.is_held(),
            suspended: job.is_suspended(),
            weight: job.weight(),
            pods_ended: job.pods_ended(),
            pods_reported,
        };
        if entry.phase == Phase::Active {
            self.active += entry.weight as usize;
            self.suspended += if entry.suspended { entry.weight as usize } else { 0 };
        }
        if entry.is_unsettled() {
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

    fn forget(&mut self, name: &str) -> Option<Entry> {
        let entry = self.jobs.remove(name)?;
        if entry.phase == Phase::Active {
            self.active -= entry.weight as usize;
            self.suspended -= if entry.suspended { entry.weight as usize } else { 0 };
        }
        self.unsettled.remove(name);
        Some(entry)
    }

    fn seen(&mut self, name: &str) {
        let Some(creation) = self.creations.get_mut(name) else { return };
        match &mut creation.state {
            Created::UnderWay { seen } => *seen = true,
            Created::Awaited(_) => {
                self.awaited -= creation.weight as usize;
                self.creations.remove(name);
            }
        }
    }

    /// A Job was settled; the watch will show so later.
    pub(crate) fn settled(&mut self, name: &str) {
        self.unsettled.remove(name);
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.held = false;
        }
    }

    /// The reports of a batch that still runs were looked at when so many of its pods had ended.
    pub(crate) fn reported(&mut self, name: &str, pods_ended: u32) {
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.pods_reported = entry.pods_reported.max(pods_ended);
            if !entry.is_unsettled() {
                self.unsettled.remove(name);
            }
        }
    }

    /// What will be a Job takes this many slots.
    pub(crate) fn take(&mut self, slots: u32) {
        self.in_hand += slots as usize;
    }

    /// What took these slots is done with, without a Job of its own.
    pub(crate) fn put_back(&mut self, slots: u32) {
        self.in_hand -= slots as usize;
    }

    /// A Job of this name is about to be created for what took these slots.
    pub(crate) fn creating(&mut self, name: &str, weight: u32) {
        let state = Created::UnderWay { seen: false };
        self.creations.entry(name.into()).or_insert(Creation { weight, state });
    }

    /// The create failed, or the Job was there already.
    pub(crate) fn not_created(&mut self, name: &str) {
        if let Some(Creation { state: Created::UnderWay { .. }, .. }) = self.creations.get(name) {
            self.creations.remove(name);
        }
    }

    /// The API server has the Job: the slots taken for it are now the Job's.
    pub(crate) fn created(&mut self, name: &str, slots: u32, now: Instant) {
        self.put_back(slots);
        if let Some(Creation { weight, state: Created::UnderWay { seen } }) = self.creations.get(name).copied() {
            if seen {
                self.creations.remove(name);
            } else {
                self.creations.insert(name.into(), Creation { weight, state: Created::Awaited(now) });
                self.awaited += weight as usize;
            }
        }
    }

    /// A message is taken that waits for others, and for slots.
    pub(crate) fn wait_for_slot(&mut self) {
        self.waiting += 1;
    }

    /// It waits no longer.
    pub(crate) fn wait_no_longer(&mut self) {
        self.waiting -= 1;
    }

    /// How many more messages may be taken that wait together, when at most `max` may.
    pub(crate) fn waiting_room(&self, max: usize) -> usize {
        if self.synced { max.saturating_sub(self.waiting) } else { 0 }
    }

    /// Stops counting created Jobs that the watch never showed.
    pub(crate) fn prune(&mut self, now: Instant) {
        if self.awaited > 0 {
            self.creations.retain(|_, creation| {
                !matches!(creation.state, Created::Awaited(since) if now.duration_since(since) > AWAITED_WITHIN)
            });
            let awaited = self.creations.values().filter(|creation| matches!(creation.state, Created::Awaited(_)));
            self.awaited = awaited.map(|creation| creation.weight as usize).sum();
        }
    }

    /// How many slots are free when at most `max` may be taken. None at all while very many ended Jobs
    /// wait for their outcome: if settling does not work, their number must not grow in the cluster.
    pub(crate) fn room(&self, max: usize) -> usize {
        if !self.synced || self.unsettled.len() > (2 * max).max(UNSETTLED_MAX) {
            return 0;
        }
        max.saturating_sub(self.active + self.awaited + self.in_hand)
    }

    /// Slots of Jobs that have not ended.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// Those of them that wait until their queue admits them. They take slots, so that the backlog stays in Pub/Sub.
    pub(crate) fn suspended(&self) -> usize {
        self.suspended
    }

    /// Names of Jobs that ended or are being deleted and still wait for their outcome, and of batches of which an index
    /// has ended.
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

//! A compact projection of the Jobs in the namespace: how many slots are taken, and which Jobs want their outcome.
//! Pure; the watch feeds it.

use std::collections::{BTreeSet, HashMap, HashSet};

use tokio::time::Instant;

use self::creations::Creations;
use crate::watched::{Phase, Watched};

mod creations;

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
    /// Whether somebody deleted it before it had ended, so that its pods are to be stopped first.
    fn is_stopping(&self) -> bool {
        self.held && self.deleting && self.phase == Phase::Active
    }

    /// Whether there is something else to settle.
    fn has_ended(&self) -> bool {
        self.held && (self.phase != Phase::Active || (self.pods_ended > self.pods_reported && !self.deleting))
    }
}

/// The Jobs in the namespace and the messages in hand.
#[derive(Debug, Default)]
pub(crate) struct View {
    jobs: HashMap<Box<str>, Entry>,
    active: usize,
    suspended: usize,
    ended: BTreeSet<Box<str>>,
    stopping: BTreeSet<Box<str>>,
    creations: Creations,
    /// Slots that are taken for what is being made into Jobs.
    in_hand: usize,
    /// Messages that wait together, with dispatch in batches.
    waiting: usize,
    synced: bool,
    /// Nothing is heard of the Jobs.
    lost: bool,
    /// When a new listing began, and the names shown since.
    listing: Option<(Instant, HashSet<Box<str>>)>,
}

impl View {
    /// The watch begins a new listing.
    pub(crate) fn listing(&mut self, now: Instant) {
        self.listing = Some((now, HashSet::new()));
    }

    /// The listing is complete: what it did not show is gone.
    pub(crate) fn listed(&mut self) {
        if let Some((begun, shown)) = self.listing.take() {
            let gone: Vec<Box<str>> = self.jobs.keys().filter(|name| !shown.contains(*name)).cloned().collect();
            for name in gone {
                self.gone(&name);
            }
            self.creations.listed(begun);
        }
        self.synced = true;
    }

    /// Whether nothing is heard of the Jobs, so that nobody knows how many are active.
    pub(crate) fn lose(&mut self, lost: bool) {
        self.lost = lost;
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
        if entry.has_ended() {
            self.ended.insert(name.into());
        }
        if entry.is_stopping() {
            self.stopping.insert(name.into());
        }
        self.jobs.insert(name.into(), entry);
        if let Some((_, listing)) = &mut self.listing {
            listing.insert(name.into());
        }
        self.creations.seen(name);
    }

    /// The watch shows that a Job is gone.
    pub(crate) fn gone(&mut self, name: &str) {
        self.forget(name);
        self.creations.seen(name);
    }

    fn forget(&mut self, name: &str) -> Option<Entry> {
        let entry = self.jobs.remove(name)?;
        if entry.phase == Phase::Active {
            self.active -= entry.weight as usize;
            self.suspended -= if entry.suspended { entry.weight as usize } else { 0 };
        }
        self.ended.remove(name);
        self.stopping.remove(name);
        Some(entry)
    }

    /// A Job was settled; the watch will show so later.
    pub(crate) fn settled(&mut self, name: &str) {
        self.ended.remove(name);
        self.stopping.remove(name);
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.held = false;
        }
    }

    /// The reports of a batch that still runs were looked at when so many of its pods had ended.
    pub(crate) fn reported(&mut self, name: &str, pods_ended: u32) {
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.pods_reported = entry.pods_reported.max(pods_ended);
            if !entry.has_ended() {
                self.ended.remove(name);
            }
        }
    }

    /// What will be a Job takes this many slots.
    pub(crate) fn take(&mut self, slots: u32) {
        self.in_hand += slots as usize;
    }

    /// What took these slots is done with, without a Job of its own.
    pub(crate) fn put_back(&mut self, slots: u32) {
        self.in_hand = self.in_hand.saturating_sub(slots as usize);
    }

    /// A Job of this name is about to be created for what took these slots.
    pub(crate) fn creating(&mut self, name: &str, weight: u32) {
        self.creations.begin(name, weight);
    }

    /// The create failed, or the Job was there already.
    pub(crate) fn not_created(&mut self, name: &str) {
        self.creations.end(name);
    }

    /// The API server has the Job: the slots that are still taken for it are now the Job's.
    pub(crate) fn created(&mut self, name: &str, slots: u32, now: Instant) {
        self.put_back(slots);
        self.creations.created(name, now);
    }

    /// A message is taken that waits for others, and for slots.
    pub(crate) fn wait_for_slot(&mut self) {
        self.waiting += 1;
    }

    /// It waits no longer.
    pub(crate) fn wait_no_longer(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// How many more messages may be taken that wait together, when at most `max` may.
    pub(crate) fn waiting_room(&self, max: usize) -> usize {
        if self.synced && !self.lost { max.saturating_sub(self.waiting) } else { 0 }
    }

    /// Since when a Job that was created should have been shown by the watch.
    pub(crate) fn awaited_since(&self) -> Option<Instant> {
        self.creations.awaited_since()
    }

    /// How many slots are free when at most `max` may be taken. None at all while very many ended Jobs
    /// wait for their outcome: if settling does not work, their number must not grow in the cluster.
    pub(crate) fn room(&self, max: usize) -> usize {
        if !self.synced || self.lost || self.unsettled() > (2 * max).max(UNSETTLED_MAX) {
            return 0;
        }
        max.saturating_sub(self.active + self.creations.awaited() + self.in_hand)
    }

    /// Slots of Jobs that have not ended.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// Those of them that wait until their queue admits them. They take slots, so that the backlog stays in Pub/Sub.
    pub(crate) fn suspended(&self) -> usize {
        self.suspended
    }

    /// Names of Jobs that ended and still wait for their outcome, and of batches of which an index has ended.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &str> {
        self.ended.iter().map(AsRef::as_ref)
    }

    /// Names of Jobs that somebody deleted before they had ended, and that still wait for their outcome.
    pub(crate) fn stopping(&self) -> impl Iterator<Item = &str> {
        self.stopping.iter().map(AsRef::as_ref)
    }

    /// How many those are together.
    pub(crate) fn unsettled(&self) -> usize {
        self.ended.len() + self.stopping.len()
    }

    /// True when this Job still waits for its outcome.
    pub(crate) fn is_unsettled(&self, name: &str) -> bool {
        self.ended.contains(name) || self.stopping.contains(name)
    }

    /// True while our finalizer is on this Job.
    pub(crate) fn is_held(&self, name: &str) -> bool {
        self.jobs.get(name).is_some_and(|entry| entry.held)
    }

    /// True when there is a Job of this name, or is about to be.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.jobs.contains_key(name) || self.creations.has(name)
    }

    /// True once a first listing was complete.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }
}

#[cfg(test)]
pub(crate) mod tests;

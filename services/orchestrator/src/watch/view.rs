//! A compact projection of the Jobs in the namespace: how many slots are used, and which Jobs must be settled.
//! Pure; the watch feeds it.

use std::collections::{BTreeSet, HashMap, HashSet};

use k8s_openapi::api::batch::v1::Job;
use tokio::time::Instant;

use crate::watch::job::{Phase, Submission, is_held, phase};

/// Number of unsettled Jobs that never stops intake.
const UNSETTLED_MAX: usize = 1000;

/// A Job in the view: some 200 bytes with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    phase: Phase,
    deleting: bool,
    held: bool,
    suspended: bool,
    submission: Submission,
}

impl Entry {
    /// Whether it was deleted before it had ended, so that its pods must be stopped first.
    fn is_stopping(&self) -> bool {
        self.held && self.deleting && self.phase == Phase::Active
    }

    /// Whether it has ended.
    fn has_ended(&self) -> bool {
        self.held && self.phase != Phase::Active
    }
}

/// The Jobs in the namespace and the reserved slots.
#[derive(Debug, Default)]
pub(crate) struct View {
    jobs: HashMap<Box<str>, Entry>,
    active: usize,
    suspended: usize,
    finished: usize,
    ended: BTreeSet<Box<str>>,
    stopping: BTreeSet<Box<str>>,
    /// When the Jobs were created that the watch has not shown.
    awaited: HashMap<Box<str>, Instant>,
    /// Slots reserved for Jobs that are not created yet.
    reserved: usize,
    synced: bool,
    /// The watch is lost.
    lost: bool,
    /// When a new listing began, and the names in it so far.
    listing: Option<(Instant, HashSet<Box<str>>)>,
}

impl View {
    /// Starts a new listing.
    pub(crate) fn start_listing(&mut self, now: Instant) {
        self.listing = Some((now, HashSet::new()));
    }

    /// Ends the listing and removes the Jobs that it did not show.
    pub(crate) fn finish_listing(&mut self) {
        if let Some((begun, shown)) = self.listing.take() {
            let removed: Vec<Box<str>> = self.jobs.keys().filter(|name| !shown.contains(*name)).cloned().collect();
            for name in removed {
                self.remove(&name);
            }
            // It shows every Job created before it began. So only a listing removes such a Job, never a timeout.
            self.awaited.retain(|_, created| *created >= begun);
        }
        self.synced = true;
    }

    /// Sets whether the watch is lost, so that the number of active Jobs is unknown.
    pub(crate) fn set_lost(&mut self, lost: bool) {
        self.lost = lost;
    }

    /// Applies a Job that the watch shows.
    pub(crate) fn apply(&mut self, job: &Job) {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        self.remove_entry(name);
        let entry = Entry {
            phase: phase(job),
            deleting: job.metadata.deletion_timestamp.is_some(),
            held: is_held(job),
            suspended: job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true),
            submission: Submission::of(job),
        };
        if entry.phase == Phase::Active {
            self.active += 1;
            self.suspended += usize::from(entry.suspended);
        } else {
            self.finished += 1;
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
        self.awaited.remove(name);
    }

    /// Removes a Job that the watch shows as deleted.
    pub(crate) fn remove(&mut self, name: &str) {
        self.remove_entry(name);
        self.awaited.remove(name);
    }

    fn remove_entry(&mut self, name: &str) -> Option<Entry> {
        let entry = self.jobs.remove(name)?;
        if entry.phase == Phase::Active {
            self.active -= 1;
            self.suspended -= usize::from(entry.suspended);
        } else {
            self.finished -= 1;
        }
        self.ended.remove(name);
        self.stopping.remove(name);
        Some(entry)
    }

    /// Records that a Job was settled; the watch shows it later.
    pub(crate) fn record_settled(&mut self, name: &str) {
        self.ended.remove(name);
        self.stopping.remove(name);
        if let Some(entry) = self.jobs.get_mut(name) {
            entry.held = false;
        }
    }

    /// Reserves a slot for a Job.
    pub(crate) fn reserve(&mut self) {
        self.reserved += 1;
    }

    /// Releases a reserved slot.
    pub(crate) fn release(&mut self) {
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// Records that the Job is created; a reserved slot, if it takes one, now belongs to the Job.
    pub(crate) fn record_created(&mut self, name: &str, takes_slot: bool, now: Instant) {
        if takes_slot {
            self.release();
        }
        if !self.jobs.contains_key(name) {
            self.awaited.insert(name.into(), now);
        }
    }

    /// Since when the watch should have shown a created Job.
    pub(crate) fn awaited_since(&self) -> Option<Instant> {
        self.awaited.values().min().copied()
    }

    /// How many of `max` slots are free. None while very many Jobs are unsettled: if settling fails, their number must
    /// not grow in the cluster.
    pub(crate) fn room(&self, max: usize) -> usize {
        if !self.is_current() || self.unsettled() > (2 * max).max(UNSETTLED_MAX) {
            return 0;
        }
        max.saturating_sub(self.active + self.awaited.len() + self.reserved)
    }

    /// Slots of Jobs that have not ended.
    pub(crate) fn active(&self) -> usize {
        self.active
    }

    /// Slots of active Jobs that wait until their queue admits them. They use slots, so that the backlog stays in
    /// Pub/Sub.
    pub(crate) fn suspended(&self) -> usize {
        self.suspended
    }

    /// Jobs that have ended and still exist.
    pub(crate) fn finished(&self) -> usize {
        self.finished
    }

    /// The Jobs that run and whose submission fulfils a condition.
    pub(crate) fn running(&self, is_wanted: impl Fn(&Submission) -> bool) -> Vec<(Box<str>, Submission)> {
        let running = self.jobs.iter().filter(|(_, entry)| entry.phase == Phase::Active && !entry.deleting);
        let wanted = running.filter(|(_, entry)| is_wanted(&entry.submission));
        wanted.map(|(name, entry)| (name.clone(), entry.submission)).collect()
    }

    /// Names of unsettled Jobs that ended.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &str> {
        self.ended.iter().map(AsRef::as_ref)
    }

    /// Names of unsettled Jobs that were deleted before they had ended.
    pub(crate) fn stopping(&self) -> impl Iterator<Item = &str> {
        self.stopping.iter().map(AsRef::as_ref)
    }

    /// How many Jobs are in `ended` and `stopping`.
    pub(crate) fn unsettled(&self) -> usize {
        self.ended.len() + self.stopping.len()
    }

    /// Whether this Job is in `ended` or `stopping`.
    pub(crate) fn is_unsettled(&self, name: &str) -> bool {
        self.ended.contains(name) || self.stopping.contains(name)
    }

    /// Whether this Job has our finalizer.
    pub(crate) fn is_held(&self, name: &str) -> bool {
        self.jobs.get(name).is_some_and(|entry| entry.held)
    }

    /// Whether this Job may need an outcome: it has our finalizer, or the watch has not shown it.
    pub(crate) fn may_settle(&self, name: &str) -> bool {
        self.jobs.get(name).is_none_or(|entry| entry.held)
    }

    /// Whether a Job of this name exists.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.jobs.contains_key(name) || self.awaited.contains_key(name)
    }

    /// Whether it is known how many Jobs are active.
    pub(crate) fn is_current(&self) -> bool {
        self.synced && !self.lost
    }

    /// Whether a first listing is complete.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Jobs that are being created, or were created and are not in the watch yet, so that each counts once however the
//! answer and the watch race.

use std::collections::HashMap;

use tokio::time::Instant;

/// A Job that is being created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Creation {
    weight: u32,
    state: CreationState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CreationState {
    /// The create runs and its message still holds the slot; `seen` when the watch has shown the Job.
    Creating { seen: bool },
    /// It was created at this time; the watch has not shown it yet.
    Awaited(Instant),
}

/// The Jobs that are being created or awaited, by name.
#[derive(Debug, Default)]
pub(super) struct Creations {
    jobs: HashMap<Box<str>, Creation>,
    awaited: usize,
}

impl Creations {
    /// Records that a Job of this name is about to be created.
    pub(super) fn begin(&mut self, name: &str, weight: u32) {
        let state = CreationState::Creating { seen: false };
        self.jobs.entry(name.into()).or_insert(Creation { weight, state });
    }

    /// Records that the create failed, or the Job existed.
    pub(super) fn end(&mut self, name: &str) {
        if let Some(Creation { state: CreationState::Creating { .. }, .. }) = self.jobs.get(name) {
            self.jobs.remove(name);
        }
    }

    /// Records that the Job is created.
    pub(super) fn created(&mut self, name: &str, now: Instant) {
        let Some(creation) = self.jobs.get_mut(name) else { return };
        match creation.state {
            CreationState::Creating { seen: true } => drop(self.jobs.remove(name)),
            CreationState::Creating { seen: false } => {
                creation.state = CreationState::Awaited(now);
                self.awaited += creation.weight as usize;
            }
            CreationState::Awaited(_) => {}
        }
    }

    /// Records that the watch has shown the Job, or its deletion.
    pub(super) fn record_seen(&mut self, name: &str) {
        let Some(creation) = self.jobs.get_mut(name) else { return };
        match &mut creation.state {
            CreationState::Creating { seen } => *seen = true,
            CreationState::Awaited(_) => {
                self.awaited -= creation.weight as usize;
                self.jobs.remove(name);
            }
        }
    }

    /// Records that a listing is complete: it shows every Job created before it began. So only a listing removes an
    /// awaited Job, never a timeout.
    pub(super) fn finish_listing(&mut self, begun: Instant) {
        self.jobs.retain(|_, creation| !matches!(creation.state, CreationState::Awaited(since) if since < begun));
        let awaited = self.jobs.values().filter(|creation| matches!(creation.state, CreationState::Awaited(_)));
        self.awaited = awaited.map(|creation| creation.weight as usize).sum();
    }

    /// Slots of the Jobs that the API server has and the watch has not shown.
    pub(super) fn awaited(&self) -> usize {
        self.awaited
    }

    /// Since when the watch should have shown one of them.
    pub(super) fn awaited_since(&self) -> Option<Instant> {
        let since = |creation: &Creation| match creation.state {
            CreationState::Awaited(since) => Some(since),
            CreationState::Creating { .. } => None,
        };
        self.jobs.values().filter_map(since).min()
    }

    /// Whether a Job of this name is among them.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.jobs.contains_key(name)
    }
}

//! Jobs that are being created, or were and are not shown by the watch yet, so that each is counted once however the
//! answer and the watch race.

use std::collections::HashMap;

use tokio::time::Instant;

/// A Job that is being created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Creation {
    weight: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The create is under way and its message still holds the slot; whether the watch has shown the Job.
    UnderWay { seen: bool },
    /// The API server has it since then; the watch has not shown it yet.
    Awaited(Instant),
}

/// The Jobs that are being created or awaited, by name.
#[derive(Debug, Default)]
pub(super) struct Creations {
    jobs: HashMap<Box<str>, Creation>,
    awaited: usize,
}

impl Creations {
    /// A Job of this name is about to be created.
    pub(super) fn begin(&mut self, name: &str, weight: u32) {
        let state = State::UnderWay { seen: false };
        self.jobs.entry(name.into()).or_insert(Creation { weight, state });
    }

    /// The create failed, or the Job was there already.
    pub(super) fn end(&mut self, name: &str) {
        if let Some(Creation { state: State::UnderWay { .. }, .. }) = self.jobs.get(name) {
            self.jobs.remove(name);
        }
    }

    /// The API server has the Job.
    pub(super) fn created(&mut self, name: &str, now: Instant) {
        let Some(creation) = self.jobs.get_mut(name) else { return };
        match creation.state {
            State::UnderWay { seen: true } => drop(self.jobs.remove(name)),
            State::UnderWay { seen: false } => {
                creation.state = State::Awaited(now);
                self.awaited += creation.weight as usize;
            }
            State::Awaited(_) => {}
        }
    }

    /// The watch has shown the Job, or that it is gone.
    pub(super) fn seen(&mut self, name: &str) {
        let Some(creation) = self.jobs.get_mut(name) else { return };
        match &mut creation.state {
            State::UnderWay { seen } => *seen = true,
            State::Awaited(_) => {
                self.awaited -= creation.weight as usize;
                self.jobs.remove(name);
            }
        }
    }

    /// A listing that was begun then is complete: it would have shown what there was before. So only a look at all Jobs
    /// tells that an awaited one is gone, never that time has passed.
    pub(super) fn listed(&mut self, begun: Instant) {
        self.jobs.retain(|_, creation| !matches!(creation.state, State::Awaited(since) if since < begun));
        let awaited = self.jobs.values().filter(|creation| matches!(creation.state, State::Awaited(_)));
        self.awaited = awaited.map(|creation| creation.weight as usize).sum();
    }

    /// Slots of the Jobs that the API server has and the watch has not shown.
    pub(super) fn awaited(&self) -> usize {
        self.awaited
    }

    /// Since when the watch should have shown one of them.
    pub(super) fn awaited_since(&self) -> Option<Instant> {
        let since = |creation: &Creation| match creation.state {
            State::Awaited(since) => Some(since),
            State::UnderWay { .. } => None,
        };
        self.jobs.values().filter_map(since).min()
    }

    /// Whether a Job of this name is among them.
    pub(super) fn has(&self, name: &str) -> bool {
        self.jobs.contains_key(name)
    }
}

//! Jobs that are being created, or were created and are not in the watch yet, so that each counts once however the
//! answer and the watch race.

use std::collections::HashMap;

use tokio::time::Instant;

/// The state of a Job that is being created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Creation {
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
    pub(super) fn begin(&mut self, name: &str) {
        self.jobs.entry(name.into()).or_insert(Creation::Creating { seen: false });
    }

    /// Records that the create failed, or the Job existed.
    pub(super) fn end(&mut self, name: &str) {
        if let Some(Creation::Creating { .. }) = self.jobs.get(name) {
            self.jobs.remove(name);
        }
    }

    /// Records that the Job is created.
    pub(super) fn created(&mut self, name: &str, now: Instant) {
        let Some(creation) = self.jobs.get_mut(name) else { return };
        match creation {
            Creation::Creating { seen: true } => drop(self.jobs.remove(name)),
            Creation::Creating { seen: false } => {
                *creation = Creation::Awaited(now);
                self.awaited += 1;
            }
            Creation::Awaited(_) => {}
        }
    }

    /// Records that the watch has shown the Job, or its deletion.
    pub(super) fn record_seen(&mut self, name: &str) {
        let Some(creation) = self.jobs.get_mut(name) else { return };
        match creation {
            Creation::Creating { seen } => *seen = true,
            Creation::Awaited(_) => {
                self.awaited -= 1;
                self.jobs.remove(name);
            }
        }
    }

    /// Records that a listing is complete: it shows every Job created before it began. So only a listing removes an
    /// awaited Job, never a timeout.
    pub(super) fn finish_listing(&mut self, begun: Instant) {
        self.jobs.retain(|_, creation| !matches!(creation, Creation::Awaited(since) if *since < begun));
        self.awaited = self.jobs.values().filter(|creation| matches!(creation, Creation::Awaited(_))).count();
    }

    /// How many Jobs the API server has and the watch has not shown.
    pub(super) fn awaited(&self) -> usize {
        self.awaited
    }

    /// Since when the watch should have shown one of them.
    pub(super) fn awaited_since(&self) -> Option<Instant> {
        let since = |creation: &Creation| match creation {
            Creation::Awaited(since) => Some(*since),
            Creation::Creating { .. } => None,
        };
        self.jobs.values().filter_map(since).min()
    }

    /// Whether a Job of this name is among them.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.jobs.contains_key(name)
    }
}

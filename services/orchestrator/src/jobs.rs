//! The view shared between tasks, and the slots messages take in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, time::Instant};

use crate::view::View;

/// The view, shared. Clones are the same view.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    view: Arc<Mutex<View>>,
    changed: Arc<watch::Sender<()>>,
}

impl Jobs {
    pub(crate) fn new() -> Self {
        Self { view: Arc::default(), changed: Arc::new(watch::Sender::new(())) }
    }

    /// Looks at the view.
    pub(crate) fn look(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the view and wakes whoever waits for a change.
    pub(crate) fn change(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.look());
        self.changed.send_replace(());
    }

    /// Wakes at every change; keeps no more than that there was one.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes slots for what will be a Job.
    pub(crate) fn take(&self, weight: u32) -> Slot {
        self.look().take(weight);
        Slot { jobs: self.clone(), weight, creating: None, held: true }
    }

    /// Takes slots for what will be a Job, up to `most`, if one is free at least when at most `max` may be taken.
    pub(crate) fn take_free(&self, most: u32, max: usize) -> Option<Slot> {
        let mut view = self.look();
        let weight = most.min(u32::try_from(view.room(max)).unwrap_or(u32::MAX));
        if weight == 0 {
            return None;
        }
        view.take(weight);
        drop(view);
        Some(Slot { jobs: self.clone(), weight, creating: None, held: true })
    }

    /// A message waits until it gets slots, together with others.
    pub(crate) fn wait_for_slot(&self) -> Waiting {
        self.look().wait_for_slot();
        Waiting(self.clone())
    }
}

/// The slots that are taken for a Job, until this is dropped or they become its Job's.
#[derive(Debug)]
pub(crate) struct Slot {
    jobs: Jobs,
    weight: u32,
    creating: Option<String>,
    held: bool,
}

impl Slot {
    /// How many they are.
    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    /// A Job of this name is about to be created.
    pub(crate) fn creating(&mut self, name: String) {
        self.jobs.look().creating(&name, self.weight);
        self.creating = Some(name);
    }

    /// The API server has the new Job.
    pub(crate) fn created(&mut self) {
        if let Some(name) = self.creating.take() {
            // A second Job may come of it, when the first one was deleted and settled meanwhile.
            let slots = if std::mem::take(&mut self.held) { self.weight } else { 0 };
            self.jobs.change(|view| view.created(&name, slots, Instant::now()));
        }
    }

    /// No new Job came of it.
    pub(crate) fn not_created(&mut self) {
        if let Some(name) = self.creating.take() {
            self.jobs.look().not_created(&name);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.not_created();
        if self.held {
            let weight = self.weight;
            self.jobs.change(|view| view.put_back(weight));
        }
    }
}

/// A message that waits for slots, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Jobs);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.change(View::wait_no_longer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_put_back_once_however_often_their_job_is_created() {
        let jobs = Jobs::new();
        jobs.change(|view| {
            view.listing(Instant::now());
            view.listed();
        });
        let room = || jobs.look().room(3);
        let mut slot = jobs.take(1);
        let other = jobs.take(1);
        for _ in 0..2 {
            slot.creating("a".to_owned());
            slot.created();
            assert_eq!(room(), 1, "the Job and the other message");
            // It was deleted and settled before the message was done with.
            jobs.change(|view| view.gone("a"));
            assert_eq!(room(), 2);
        }
        drop(slot);
        assert_eq!(room(), 2);
        drop(other);
        assert_eq!(room(), 3);
    }
}

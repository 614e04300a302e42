//! The view shared between tasks, and the slots that messages reserve in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, time::Instant};

use crate::watch::view::View;

/// The shared view. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    view: Arc<Mutex<View>>,
    changed: Arc<watch::Sender<()>>,
}

impl Jobs {
    pub(crate) fn new() -> Self {
        Self { view: Arc::default(), changed: Arc::new(watch::Sender::new(())) }
    }

    /// Locks the view.
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the view and wakes the tasks that wait for a change.
    pub(crate) fn change(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view());
        self.changed.send_replace(());
    }

    /// Wakes at a change; several changes may be one wake-up.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Reserves a slot for a Job, if the view fulfils a condition.
    pub(crate) fn reserve(&self, may_start: impl FnOnce(&View) -> bool) -> Option<Slot> {
        let mut view = self.view();
        if !may_start(&view) {
            return None;
        }
        view.reserve();
        Some(Slot { jobs: self.clone(), held: true })
    }
}

/// The slot reserved for a Job; released when this is dropped, unless the Job was created.
#[derive(Debug)]
pub(crate) struct Slot {
    jobs: Jobs,
    held: bool,
}

impl Slot {
    /// Records that the API server has created the Job of this name.
    pub(crate) fn created(&mut self, name: &str) {
        // A second Job may be created, when the first one was deleted and settled meanwhile.
        let takes_slot = std::mem::take(&mut self.held);
        self.jobs.change(|view| view.record_created(name, takes_slot, Instant::now()));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.held {
            self.jobs.change(View::release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_released_once_however_often_their_job_is_created() {
        let jobs = Jobs::new();
        jobs.change(|view| {
            view.start_listing(Instant::now());
            view.finish_listing();
        });
        let room = || jobs.view().room(3);
        let mut slot = jobs.reserve(|view| view.room(3) > 0).unwrap();
        let other = jobs.reserve(|_| true).unwrap();
        assert!(jobs.reserve(|view| view.room(2) > 0).is_none());
        for _ in 0..2 {
            slot.created("a");
            assert_eq!(room(), 1, "the Job and the other message");
            // The Job was deleted and settled before its message was finished.
            jobs.change(|view| view.remove("a"));
            assert_eq!(room(), 2);
        }
        drop(slot);
        assert_eq!(room(), 2);
        drop(other);
        assert_eq!(room(), 3);
    }
}

//! The view shared between tasks, the slots messages take in it, and the watch that feeds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::{labels, probes::Health};
use futures::StreamExt as _;
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{sync::watch, time::Instant};

use crate::{view::View, watched::Watched};

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

    /// Takes a slot for a message.
    pub(crate) fn take(&self) -> Slot {
        self.look().take();
        Slot { jobs: self.clone(), creating: None, held: true }
    }
}

/// The slot a message takes, until it is dropped or becomes its Job's.
#[derive(Debug)]
pub(crate) struct Slot {
    jobs: Jobs,
    creating: Option<String>,
    held: bool,
}

impl Slot {
    /// A Job of this name is about to be created.
    pub(crate) fn creating(&mut self, name: String) {
        self.jobs.look().creating(&name);
        self.creating = Some(name);
    }

    /// The API server has the new Job.
    pub(crate) fn created(&mut self) {
        if let Some(name) = self.creating.take() {
            self.jobs.change(|view| view.created(&name, Instant::now()));
            self.held = false;
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
            self.jobs.change(View::put_back);
        }
    }
}

/// Keeps the view up to date, for ever.
pub(crate) async fn follow(api: Api<Watched>, business: &str, jobs: &Jobs, health: &Health) -> anyhow::Result<()> {
    let selector = format!("{}={business},{}={}", labels::BUSINESS, labels::APP, labels::APP_ENGINE);
    let config = watcher::Config::default().labels(&selector).page_size(500);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => jobs.look().listing(),
            Ok(watcher::Event::InitApply(job)) => jobs.look().shown(&job),
            Ok(watcher::Event::InitDone) => {
                jobs.change(View::listed);
                health.clear("starting");
                health.clear("watch");
            }
            Ok(watcher::Event::Apply(job)) => jobs.change(|view| view.shown(&job)),
            Ok(watcher::Event::Delete(job)) => jobs.change(|view| view.gone(job.name())),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!("failed to watch the Jobs: {error:#}");
                // The view may be old, but what it counts is still the best that is known.
                if !jobs.look().is_synced() {
                    health.not_ready("watch", format!("{error:#}"));
                }
            }
        }
    }
    anyhow::bail!("the watch of the Jobs ended")
}

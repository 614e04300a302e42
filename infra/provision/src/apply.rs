//! Carries a plan out: in dependency order, as much at once as that allows, and without choices of its own.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, stream::FuturesUnordered};
use serde::Serialize;

use crate::{
    google::Client,
    plan::{Action, Change, Plan},
    resource::Id,
};

mod worker;

use worker::Worker;

/// What happens while a plan is made and carried out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// Reading what exists.
    Observing {
        /// Resources that are read.
        resources: usize,
    },
    /// A change began.
    Started {
        /// Resource.
        #[serde(flatten)]
        id: Id,
        /// What is done.
        #[serde(flatten)]
        action: Action,
    },
    /// What was begun got further.
    Advanced {
        /// Resource.
        #[serde(flatten)]
        id: Id,
        /// What is done at this moment, in Google's words.
        what: String,
        /// Percentage, when Google reports it.
        #[serde(skip_serializing_if = "Option::is_none")]
        percent: Option<u8>,
    },
    /// A change is done.
    Finished {
        /// Resource.
        #[serde(flatten)]
        id: Id,
        /// What was done.
        #[serde(flatten)]
        action: Action,
        /// Milliseconds it took.
        elapsed_ms: u64,
    },
    /// A change failed.
    Failed {
        /// Resource.
        #[serde(flatten)]
        id: Id,
        /// Why.
        error: String,
    },
}

/// Receives every event; must not block.
pub type Progress = Arc<dyn Fn(Event) + Send + Sync>;

/// A change that failed.
#[derive(Debug, Serialize)]
pub struct FailedChange {
    /// Resource.
    #[serde(flatten)]
    pub id: Id,
    /// Why.
    pub error: String,
}

/// What came of carrying out a plan.
#[derive(Debug, Default, Serialize)]
pub struct Applied {
    /// Changes made.
    pub done: usize,
    /// Changes that failed.
    pub failures: Vec<FailedChange>,
    /// Changes that were not begun because something before them failed.
    pub skipped: Vec<Id>,
}

/// Carries out the pending changes of a plan. After a failure, what does not depend on it is still done.
pub async fn apply(plan: &Plan, client: &Client, progress: &Progress) -> Applied {
    let worker = Worker::new(plan, client, progress);
    let mut waiting: Vec<&Change> = plan.pending().collect();
    let mut unfinished: BTreeSet<&Id> = waiting.iter().map(|change| &change.id).collect();
    let mut broken: BTreeSet<&Id> = BTreeSet::new();
    let mut running = FuturesUnordered::new();
    let mut applied = Applied::default();
    loop {
        let mut later = Vec::new();
        let skipped_before = applied.skipped.len();
        for change in std::mem::take(&mut waiting) {
            let after = change.resource.iter().flat_map(|resource| &resource.after);
            let (mut ready, mut lost) = (true, false);
            for id in after {
                ready &= !unfinished.contains(id);
                lost |= broken.contains(id);
            }
            if lost {
                unfinished.remove(&change.id);
                broken.insert(&change.id);
                applied.skipped.push(change.id.clone());
            } else if ready {
                running.push(worker.carry_out(change));
            } else {
                later.push(change);
            }
        }
        waiting = later;
        let Some((change, result)) = running.next().await else {
            if waiting.is_empty() {
                return applied;
            }
            // Only what was skipped a moment ago can have lost the rest; a circle would wait for itself.
            if applied.skipped.len() == skipped_before {
                applied.skipped.extend(waiting.iter().map(|change| change.id.clone()));
                return applied;
            }
            continue;
        };
        unfinished.remove(&change.id);
        match result {
            Ok(()) => applied.done += 1,
            Err(error) => {
                broken.insert(&change.id);
                applied.failures.push(FailedChange { id: change.id.clone(), error });
            }
        }
    }
}

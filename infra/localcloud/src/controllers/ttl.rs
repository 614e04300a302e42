//! Deletes finished Jobs when their `ttlSecondsAfterFinished` has passed.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::warn;

use super::timers::{self, Timers};
use crate::kubernetes::{
    cluster::Cluster,
    delete::{Options, Propagation},
    kinds,
    store::{Change, Key},
    value::{self, number, text},
};

/// Follows the Jobs until the cluster stops.
pub(super) async fn run(cluster: Arc<Cluster>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut timers = Timers::default();
    while let Some(batch) = timers::next(&cluster, &mut changes, &timers).await {
        for change in &batch {
            let key = Key::of(&kinds::JOB, &change.object);
            match expiry(&change.object).filter(|_| !change.removed) {
                Some(at) => timers.set(&key, at),
                None => timers.clear(&key),
            }
        }
        let now = cluster.clock.now();
        for key in timers.due(now) {
            let Some(job) = cluster.store.at(&key).filter(|job| expiry(job).is_some_and(|at| at <= now)) else {
                continue;
            };
            let options = Options {
                propagation: Some(Propagation::Foreground),
                uid: Some(value::uid(&job).to_owned()),
                ..Options::default()
            };
            if let Err(failure) = cluster.delete(&key, &options)
                && failure.code != 404
            {
                warn!(job = key.name, "failed to delete an expired job: {failure}");
            }
        }
    }
}

/// When the Job is to go, if it is finished and has a TTL.
fn expiry(job: &Value) -> Option<Timestamp> {
    let ttl = number(job, "/spec/ttlSecondsAfterFinished")?;
    if value::is_deleting(job) {
        return None;
    }
    let ended = value::items(job, "/status/conditions").iter().find(|condition| {
        matches!(text(condition, "/type"), "Complete" | "Failed") && text(condition, "/status") == "True"
    })?;
    value::time(ended, "/lastTransitionTime")?.checked_add(SignedDuration::from_secs(ttl)).ok()
}

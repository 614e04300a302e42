//! The Job controller: what a Job's pods came to is counted once, and the pods it lacks are made.
//!
//! A pod carries a finalizer until it is counted. Counting, taking the finalizer off and writing the Job's status are
//! one transaction, so no pod is ever counted twice or lost.

mod decide;
mod indexes;
mod pods;
mod policy;
mod tally;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use jiff::SignedDuration;
use serde_json::Value;
use tokio::sync::mpsc;

use self::{
    decide::Decision,
    tally::{Backoff, Pod, TRACKING},
};
use super::timers::{self, Timers};
use crate::kubernetes::{
    cluster::Cluster,
    delete,
    events::Weight,
    failure::Failure,
    kinds, objects,
    store::{Change, Key, Transaction},
    value::{self, text},
};

/// When a pod that could not be made is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(1);

/// Follows Jobs and pods until the cluster stops.
pub(super) async fn run(cluster: Arc<Cluster>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut timers = Timers::default();
    let mut backoffs = HashMap::new();
    while let Some(batch) = timers::next(&cluster, &mut changes, &timers).await {
        let mut keys: BTreeSet<Key> = timers.due(cluster.clock.now()).into_iter().collect();
        for change in &batch {
            keys.extend(touched(&cluster, change));
            if change.removed && change.kind == &kinds::JOB {
                backoffs.remove(value::uid(&change.object));
                timers.clear(&Key::of(&kinds::JOB, &change.object));
            }
        }
        for key in keys {
            sync(&cluster, &key, &mut timers, &mut backoffs);
        }
        // Between batches others get their turn.
        tokio::task::yield_now().await;
    }
}

/// The Job that a change is about. A pod whose Job is gone is let go at once.
fn touched(cluster: &Cluster, change: &Change) -> Option<Key> {
    if change.kind == &kinds::JOB {
        return Some(Key::of(&kinds::JOB, &change.object));
    }
    let pod = &change.object;
    let owner = value::controller_of(pod).filter(|owner| text(owner, "/kind") == "Job");
    let key = owner.map(|owner| Key {
        kind: &kinds::JOB,
        namespace: value::namespace(pod).to_owned(),
        name: text(owner, "/name").to_owned(),
    });
    if !change.removed && value::has_finalizer(pod, TRACKING) {
        let uid = owner.map_or("", |owner| text(owner, "/uid"));
        let job = key.as_ref().and_then(|key| cluster.store.at(key)).filter(|job| value::uid(job) == uid);
        if job.is_none() {
            cluster.store.write(|transaction| release(transaction, &Key::of(&kinds::POD, pod)));
            return None;
        }
    }
    key
}

fn sync(cluster: &Cluster, key: &Key, timers: &mut Timers, backoffs: &mut HashMap<String, Backoff>) {
    let Some(job) = cluster.store.at(key) else { return };
    let now = cluster.clock.now();
    let backoff = backoffs.get(value::uid(&job)).copied().unwrap_or_default();
    let seen = cluster.store.write(|transaction| transaction.owned(value::uid(&job), &kinds::POD));
    let seen: Vec<_> = seen.iter().filter_map(|pod| Pod::of(pod)).collect();
    let base = SignedDuration::try_from(cluster.retry_base).unwrap_or(SignedDuration::ZERO);
    let decision = decide::decide(&job, &seen, backoff, base, now);
    let (fresh, mut retry) = make(cluster, &job, &decision);
    let mut created = Vec::new();
    let mut refused = None;
    let written = cluster.store.write(|transaction| {
        // The Job may have been deleted or changed since it was read; its own change leads here again.
        let current = transaction.at(key).filter(|current| value::uid(current) == value::uid(&job))?;
        if value::is_deleting(&current) != value::is_deleting(&job) || current.get("spec") != job.get("spec") {
            return None;
        }
        for pod in fresh {
            let how = objects::How::default();
            match objects::insert(transaction, &kinds::POD, pod, &how) {
                Ok(pod) => created.push(pod),
                Err(failure) => {
                    refused = Some(failure);
                    break;
                }
            }
        }
        for name in &decision.count {
            release(transaction, &pod_key(key, name));
        }
        for name in &decision.delete {
            let pod = pod_key(key, &name.name);
            if name.uncounted {
                release(transaction, &pod);
            }
            // One that is gone already is as good as deleted.
            let _ = delete::delete(transaction, &pod, &delete::Options::default(), now);
        }
        let status = decision.status(created.len());
        transaction.edit(key, |job| {
            let changed = job.get("status") != Some(&status);
            value::set(job, &["status"], status);
            changed
        })
    });
    if written.is_none() {
        return;
    }
    backoffs.insert(value::uid(&job).to_owned(), decision.backoff);
    for pod in &created {
        let message = format!("Created pod: {}", value::name(pod));
        cluster.event(&kinds::JOB, &job, Weight::Normal, "SuccessfulCreate", message, "job-controller");
    }
    for name in &decision.delete {
        let message = format!("Deleted pod: {}", name.name);
        cluster.event(&kinds::JOB, &job, Weight::Normal, "SuccessfulDelete", message, "job-controller");
    }
    for (weight, reason, message) in &decision.events {
        cluster.event(&kinds::JOB, &job, *weight, reason, message.clone(), "job-controller");
    }
    if let Some(failure) = refused {
        report(cluster, &job, &failure);
        retry = true;
    }
    let again = retry.then(|| now.checked_add(RETRY).unwrap_or(now));
    match [decision.wake, again].into_iter().flatten().min() {
        Some(at) => timers.set(key, at),
        None => timers.clear(key),
    }
}

/// The pods that the decision asks for; true when some could not be made.
fn make(cluster: &Cluster, job: &Value, decision: &Decision) -> (Vec<Value>, bool) {
    let mut fresh = Vec::with_capacity(decision.create.len());
    for desired in &decision.create {
        match pods::fresh(cluster, job, desired) {
            Ok(pod) => fresh.push(pod),
            Err(failure) => {
                report(cluster, job, &failure);
                return (fresh, true);
            }
        }
    }
    (fresh, false)
}

fn report(cluster: &Cluster, job: &Value, failure: &Failure) {
    let message = format!("Error creating: {}", failure.message);
    cluster.event(&kinds::JOB, job, Weight::Warning, "FailedCreate", message, "job-controller");
}

fn pod_key(job: &Key, name: &str) -> Key {
    Key { kind: &kinds::POD, namespace: job.namespace.clone(), name: name.to_owned() }
}

/// Takes the finalizer off a pod, which goes if it was only waiting for that.
fn release(transaction: &mut Transaction<'_>, key: &Key) {
    let pod = transaction.edit(key, |pod| value::remove_finalizer(pod, TRACKING));
    if pod.is_some_and(|pod| objects::is_finished(&kinds::POD, &pod)) {
        transaction.remove(key);
    }
}

//! The ReplicaSet controller: as many pods as desired, and their count in the status.

use std::{collections::BTreeSet, sync::Arc};

use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::timers::{self, Timers};
use crate::kubernetes::{
    cluster::Cluster,
    delete,
    events::Weight,
    failure::Answer,
    kinds, names,
    objects::{self, How},
    store::{Change, Key},
    typed::Validation,
    value::{self, number, text},
};

/// When a pod that could not be made is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(1);

/// Follows ReplicaSets and pods until the cluster stops.
pub(super) async fn run(cluster: Arc<Cluster>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut timers = Timers::default();
    while let Some(batch) = timers::next(&cluster, &mut changes, &timers).await {
        let mut keys: BTreeSet<Key> = timers.due(cluster.clock.now()).into_iter().collect();
        keys.extend(batch.iter().filter_map(touched));
        for key in keys {
            timers.clear(&key);
            if !sync(&cluster, &key) {
                let now = cluster.clock.now();
                timers.set(&key, now.checked_add(RETRY).unwrap_or(now));
            }
        }
    }
}

fn touched(change: &Change) -> Option<Key> {
    if change.kind == &kinds::REPLICA_SET {
        return (!change.removed).then(|| Key::of(&kinds::REPLICA_SET, &change.object));
    }
    let owner = value::controller_of(&change.object).filter(|owner| text(owner, "/kind") == "ReplicaSet")?;
    Some(Key {
        kind: &kinds::REPLICA_SET,
        namespace: value::namespace(&change.object).to_owned(),
        name: text(owner, "/name").to_owned(),
    })
}

/// Brings one ReplicaSet on; false when a pod could not be made.
fn sync(cluster: &Cluster, key: &Key) -> bool {
    let Some(set) = cluster.store.at(key) else { return true };
    let now = cluster.clock.now();
    let desired = number(&set, "/spec/replicas").and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
    let owned = cluster.store.write(|transaction| transaction.owned(value::uid(&set), &kinds::POD));
    let mut active: Vec<_> = owned
        .into_iter()
        .filter(|pod| !value::is_deleting(pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"))
        .collect();
    let mut refusal = None;
    let mut made = 0;
    if !value::is_deleting(&set) {
        for _ in active.len()..desired {
            let pod = fresh(cluster, &set).and_then(|pod| {
                cluster.store.write(|transaction| objects::insert(transaction, &kinds::POD, pod, &How::default()))
            });
            match pod {
                Ok(pod) => {
                    made += 1;
                    let message = format!("Created pod: {}", value::name(&pod));
                    event(cluster, &set, Weight::Normal, "SuccessfulCreate", message);
                }
                Err(failure) => {
                    event(
                        cluster,
                        &set,
                        Weight::Warning,
                        "FailedCreate",
                        format!("Error creating: {}", failure.message),
                    );
                    refusal = Some(failure.message);
                    break;
                }
            }
        }
        if active.len() > desired {
            // The ready and the oldest stay.
            active.sort_by_key(|pod| {
                let created = text(pod, "/metadata/creationTimestamp").to_owned();
                (!value::has_condition(pod, "Ready"), created)
            });
            for pod in active.split_off(desired) {
                let pod_key = Key::of(&kinds::POD, &pod);
                let deleted = cluster
                    .store
                    .write(|transaction| delete::delete(transaction, &pod_key, &delete::Options::default(), now));
                if deleted.is_ok() {
                    event(cluster, &set, Weight::Normal, "SuccessfulDelete", format!("Deleted pod: {}", pod_key.name));
                }
            }
        }
    }
    let ready = active.iter().filter(|pod| value::has_condition(pod, "Ready")).count();
    let replicas = active.len() + made;
    cluster.store.write(|transaction| {
        transaction.edit(key, |current| {
            let mut status = json!({
                "replicas": replicas, "fullyLabeledReplicas": replicas, "readyReplicas": ready,
                "availableReplicas": ready, "terminatingReplicas": 0,
                "observedGeneration": number(&set, "/metadata/generation").unwrap_or_default(),
            });
            if let Some(refusal) = &refusal {
                let since = value::condition(current, "ReplicaFailure").map(|old| text(old, "/lastTransitionTime"));
                status["conditions"] = json!([{
                    "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refusal,
                    "lastTransitionTime": since.map_or_else(|| value::seconds(now), str::to_owned),
                }]);
            }
            let changed = value::uid(current) == value::uid(&set) && current.get("status") != Some(&status);
            if changed {
                value::set(current, &["status"], status);
            }
            changed
        });
    });
    refusal.is_none()
}

fn fresh(cluster: &Cluster, set: &Value) -> Answer<Value> {
    let mut pod = set.pointer("/spec/template").cloned().unwrap_or_else(|| json!({}));
    let base = format!("{}-", value::name(set));
    value::set(&mut pod, &["apiVersion"], "v1");
    value::set(&mut pod, &["kind"], "Pod");
    value::set(&mut pod, &["metadata", "generateName"], base.clone());
    value::set(&mut pod, &["metadata", "name"], names::generate(&base));
    value::set(&mut pod, &["metadata", "namespace"], value::namespace(set));
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": value::name(set), "uid": value::uid(set),
        "controller": true, "blockOwnerDeletion": true,
    }]);
    value::set(&mut pod, &["metadata", "ownerReferences"], owner);
    let how = How { validation: Validation::Ignore, ..How::default() };
    cluster.fresh(&kinds::POD, pod, &how).map(|(pod, _)| pod)
}

fn event(cluster: &Cluster, set: &Value, weight: Weight, reason: &'static str, message: String) {
    cluster.event(&kinds::REPLICA_SET, set, weight, reason, message, "replicaset-controller");
}

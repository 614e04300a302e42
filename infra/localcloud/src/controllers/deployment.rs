//! The Deployment controller: a ReplicaSet for each template, rolled from the old ones to the new one.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::timers::{self, Timers};
use crate::kubernetes::{
    cluster::Cluster,
    delete::{self, Propagation},
    events::Weight,
    failure::Answer,
    kinds,
    objects::{self, How},
    store::{Change, Key},
    typed::Validation,
    value::{self, number, text},
};

/// Label of the pods of one template.
const HASH: &str = "pod-template-hash";
/// Annotation: which template of the Deployment this is.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Follows Deployments and ReplicaSets until the cluster stops.
pub(super) async fn run(cluster: Arc<Cluster>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let mut timers = Timers::default();
    while let Some(batch) = timers::next(&cluster, &mut changes, &timers).await {
        let mut keys: BTreeSet<Key> = timers.due(cluster.clock.now()).into_iter().collect();
        keys.extend(batch.iter().filter_map(touched));
        for key in keys {
            match sync(&cluster, &key) {
                Some(at) => timers.set(&key, at),
                None => timers.clear(&key),
            }
        }
    }
}

fn touched(change: &Change) -> Option<Key> {
    if change.kind == &kinds::DEPLOYMENT {
        return Some(Key::of(&kinds::DEPLOYMENT, &change.object));
    }
    let owner = value::controller_of(&change.object).filter(|owner| text(owner, "/kind") == "Deployment")?;
    Some(Key {
        kind: &kinds::DEPLOYMENT,
        namespace: value::namespace(&change.object).to_owned(),
        name: text(owner, "/name").to_owned(),
    })
}

/// A ReplicaSet as the rollout sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    wanted: i64,
    there: i64,
    available: i64,
}

impl Count {
    fn of(set: &Value) -> Self {
        Self {
            wanted: number(set, "/spec/replicas").unwrap_or_default(),
            there: number(set, "/status/replicas").unwrap_or_default(),
            available: number(set, "/status/availableReplicas").unwrap_or_default(),
        }
    }
}

/// Brings one Deployment on; returns the time of the next pass.
fn sync(cluster: &Cluster, key: &Key) -> Option<Timestamp> {
    let deployment = cluster.store.at(key).filter(|one| !value::is_deleting(one))?;
    let hash = hash(&deployment);
    let mut sets = cluster.store.write(|transaction| transaction.owned(value::uid(&deployment), &kinds::REPLICA_SET));
    sets.sort_by_key(|set| revision(set));
    let paused = value::truth(&deployment, "/spec/paused");
    let mut newest = sets.iter().position(|set| value::label(set, HASH) == hash).map(|at| sets.remove(at));
    let next = sets.iter().map(|set| revision(set)).max().unwrap_or_default() + 1;
    if newest.is_none() && !paused {
        newest = make(cluster, &deployment, &hash, next);
    } else if let Some(set) = newest.as_ref().filter(|set| revision(set) < next) {
        let revised = cluster.store.write(|transaction| {
            transaction.edit(&Key::of(&kinds::REPLICA_SET, set), |set| {
                value::set(set, &["metadata", "annotations", REVISION], next.to_string());
                true
            })
        });
        newest = revised;
    }
    let desired = number(&deployment, "/spec/replicas").unwrap_or(1);
    let old: Vec<Count> = sets.iter().map(|set| Count::of(set)).collect();
    let new = newest.as_deref().map(Count::of);
    let (new_wanted, old_wanted) = if paused && newest.is_none() {
        (0, old.iter().map(|count| count.wanted).collect())
    } else {
        roll(&deployment, desired, new.unwrap_or_default(), &old)
    };
    if let Some(set) = &newest {
        scale(cluster, &deployment, set, new_wanted);
    }
    for (set, wanted) in sets.iter().zip(&old_wanted) {
        scale(cluster, &deployment, set, *wanted);
    }
    prune(cluster, &deployment, &sets);
    let revision = newest.as_deref().map_or(next, revision);
    let sets: Vec<_> = sets.iter().chain(&newest).cloned().collect();
    status(cluster, key, newest.as_deref(), &sets, desired, revision)
}

/// How many pods the new ReplicaSet and each old one are to have next.
fn roll(deployment: &Value, desired: i64, new: Count, old: &[Count]) -> (i64, Vec<i64>) {
    let old_there: i64 = old.iter().map(|count| count.there.max(count.wanted)).sum();
    if text(deployment, "/spec/strategy/type") == "Recreate" {
        let gone = old.iter().all(|count| count.there == 0);
        return (if gone { desired } else { new.wanted.min(desired) }, vec![0; old.len()]);
    }
    let part = |field: &str, up: bool| match deployment.pointer(&format!("/spec/strategy/rollingUpdate/{field}")) {
        Some(Value::String(percent)) => {
            let percent: i64 = percent.trim_end_matches('%').parse().unwrap_or(25);
            if up { (desired * percent + 99) / 100 } else { desired * percent / 100 }
        }
        Some(count) => count.as_i64().unwrap_or_default(),
        None => 1,
    };
    let surge = part("maxSurge", true);
    let unavailable = match part("maxUnavailable", false) {
        0 if surge == 0 => 1,
        count => count,
    };
    let old_wanted: i64 = old.iter().map(|count| count.wanted).sum();
    let room = (desired + surge - old_there - new.wanted).max(0);
    let new_wanted = if old_there == 0 { desired } else { (new.wanted + room).min(desired) };
    let least = desired - unavailable;
    let available = new.available.min(new.wanted) + old.iter().map(|count| count.available).sum::<i64>();
    // Old pods that are not available can go at once, the others as new ones take their place.
    let mut spare = (old_wanted + new.wanted - least - (new.wanted - new.available).max(0)).max(0);
    let mut wanted: Vec<i64> = old.iter().map(|count| count.wanted).collect();
    for (wanted, count) in wanted.iter_mut().zip(old) {
        let dead = (*wanted - count.available).clamp(0, spare);
        *wanted -= dead;
        spare -= dead;
    }
    let mut down = (available - least).max(0).min(spare);
    for wanted in &mut wanted {
        let here = down.min(*wanted);
        *wanted -= here;
        down -= here;
    }
    (new_wanted, wanted)
}

fn scale(cluster: &Cluster, deployment: &Value, set: &Value, wanted: i64) {
    let before = number(set, "/spec/replicas").unwrap_or_default();
    if before == wanted {
        return;
    }
    let key = Key::of(&kinds::REPLICA_SET, set);
    cluster.store.write(|transaction| {
        transaction.edit(&key, |set| {
            value::set(set, &["spec", "replicas"], wanted);
            let generation = number(set, "/metadata/generation").unwrap_or_default() + 1;
            value::set(set, &["metadata", "generation"], generation);
            true
        });
    });
    let direction = if wanted > before { "up" } else { "down" };
    let message = format!("Scaled {direction} replica set {} from {before} to {wanted}", key.name);
    event(cluster, deployment, Weight::Normal, "ScalingReplicaSet", message);
}

fn make(cluster: &Cluster, deployment: &Value, hash: &str, revision: i64) -> Option<Arc<Value>> {
    let set = fresh(cluster, deployment, hash, revision).and_then(|set| {
        cluster.store.write(|transaction| objects::insert(transaction, &kinds::REPLICA_SET, set, &How::default()))
    });
    match set {
        Ok(set) => Some(set),
        Err(failure) => {
            let message = format!("Failed to create new replica set: {}", failure.message);
            event(cluster, deployment, Weight::Warning, "ReplicaSetCreateError", message);
            None
        }
    }
}

fn fresh(cluster: &Cluster, deployment: &Value, hash: &str, revision: i64) -> Answer<Value> {
    let mut template = deployment.pointer("/spec/template").cloned().unwrap_or_default();
    value::set(&mut template, &["metadata", "labels", HASH], hash);
    let labels = template.pointer("/metadata/labels").cloned().unwrap_or_default();
    let mut selector = deployment.pointer("/spec/selector").cloned().unwrap_or_default();
    value::set(&mut selector, &["matchLabels", HASH], hash);
    let name = value::name(deployment);
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{name}-{hash}"), "namespace": value::namespace(deployment), "labels": labels,
            "annotations": {REVISION: revision.to_string()},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": value::uid(deployment),
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {"replicas": 0, "selector": selector, "template": template},
    });
    let how = How { validation: Validation::Ignore, ..How::default() };
    cluster.fresh(&kinds::REPLICA_SET, set, &how).map(|(set, _)| set)
}

/// Deletes old empty ReplicaSets beyond the history that is kept.
fn prune(cluster: &Cluster, deployment: &Value, old: &[Arc<Value>]) {
    let keep = number(deployment, "/spec/revisionHistoryLimit").unwrap_or(10);
    let empty: Vec<_> = old.iter().filter(|set| Count::of(set) == Count::default()).collect();
    let many = empty.len().saturating_sub(usize::try_from(keep).unwrap_or_default());
    for set in empty.into_iter().take(many) {
        let options = delete::Options { propagation: Some(Propagation::Background), ..Default::default() };
        // One that is gone already is as good as deleted.
        let _ = cluster.delete(&Key::of(&kinds::REPLICA_SET, set), &options);
    }
}

fn status(
    cluster: &Cluster,
    key: &Key,
    newest: Option<&Value>,
    sets: &[Arc<Value>],
    desired: i64,
    revision: i64,
) -> Option<Timestamp> {
    let now = cluster.clock.now();
    let total = |pointer: &str| sets.iter().filter_map(|set| number(set, pointer)).sum::<i64>();
    let (there, ready, available) =
        (total("/status/replicas"), total("/status/readyReplicas"), total("/status/availableReplicas"));
    let updated = newest.and_then(|set| number(set, "/status/replicas")).unwrap_or_default();
    let fresh = newest.and_then(|set| number(set, "/status/availableReplicas")).unwrap_or_default();
    let complete = updated == desired && there == desired && fresh == desired;
    let name = newest.map(value::name).unwrap_or_default();
    let mut wake = None;
    cluster.store.write(|transaction| {
        transaction.edit(key, |deployment| {
            let before = deployment.clone();
            value::set(deployment, &["metadata", "annotations", REVISION], revision.to_string());
            let generation = number(deployment, "/metadata/generation").unwrap_or_default();
            let status = value::map_at(deployment, &["status"]);
            for (field, count) in [
                ("replicas", there),
                ("updatedReplicas", updated),
                ("readyReplicas", ready),
                ("availableReplicas", available),
                ("unavailableReplicas", (there.max(desired) - available).max(0)),
            ] {
                if count == 0 {
                    status.remove(field);
                } else {
                    status.insert(field.to_owned(), count.into());
                }
            }
            status.insert("observedGeneration".to_owned(), generation.into());
            let numbers = |object: &Value| {
                ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"]
                    .map(|field| number(object, &format!("/status/{field}")))
            };
            let moved = numbers(&before) != numbers(deployment)
                || value::annotation(&before, REVISION) != value::annotation(deployment, REVISION);
            let least = desired - unavailable(deployment, desired);
            if available >= least {
                let message = "Deployment has minimum availability.";
                condition(deployment, "Available", "True", "MinimumReplicasAvailable", message, now, false);
            } else {
                let message = "Deployment does not have minimum availability.";
                condition(deployment, "Available", "False", "MinimumReplicasUnavailable", message, now, false);
            }
            let settled = there == updated
                && value::condition(&before, "Progressing")
                    .is_some_and(|one| text(one, "/reason") == "NewReplicaSetAvailable");
            if settled {
                // A rollout that is over stays over, whatever becomes of single pods.
            } else if complete {
                let message = format!("ReplicaSet {name:?} has successfully progressed.");
                condition(deployment, "Progressing", "True", "NewReplicaSetAvailable", &message, now, false);
            } else {
                let seconds = number(deployment, "/spec/progressDeadlineSeconds").unwrap_or(600);
                let since = value::condition(&before, "Progressing")
                    .filter(|one| !moved && text(one, "/reason") != "NewReplicaSetAvailable")
                    .and_then(|one| value::time(one, "/lastUpdateTime"))
                    .unwrap_or(now);
                let end = since.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
                if now >= end {
                    let message = format!("ReplicaSet {name:?} has timed out progressing.");
                    condition(deployment, "Progressing", "False", "ProgressDeadlineExceeded", &message, now, false);
                } else {
                    wake = Some(end);
                    let message = format!("ReplicaSet {name:?} is progressing.");
                    condition(deployment, "Progressing", "True", "ReplicaSetUpdated", &message, now, moved);
                }
            }
            failure(deployment, sets);
            *deployment != before
        });
    });
    wake
}

/// Tells of the first ReplicaSet that may not make its pods; takes that back when there is none.
fn failure(deployment: &mut Value, sets: &[Arc<Value>]) {
    let failing = sets.iter().rev().find_map(|set| value::condition(set, "ReplicaFailure"));
    let list = value::list_at(deployment, &["status", "conditions"]);
    list.retain(|one| text(one, "/type") != "ReplicaFailure");
    if let Some(failing) = failing {
        let mut failing = failing.clone();
        failing["lastUpdateTime"] = failing["lastTransitionTime"].clone();
        list.push(failing);
    }
}

fn unavailable(deployment: &Value, desired: i64) -> i64 {
    match deployment.pointer("/spec/strategy/rollingUpdate/maxUnavailable") {
        Some(Value::String(percent)) => desired * percent.trim_end_matches('%').parse::<i64>().unwrap_or(25) / 100,
        Some(count) => count.as_i64().unwrap_or_default(),
        None => 0,
    }
}

fn condition(object: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: Timestamp, touch: bool) {
    let at = value::seconds(now);
    let list = value::list_at(object, &["status", "conditions"]);
    let old = list.iter().position(|one| text(one, "/type") == kind);
    if let Some(old) = old.map(|at| &list[at])
        && [text(old, "/status"), text(old, "/reason"), text(old, "/message")] == [status, reason, message]
        && !touch
    {
        return;
    }
    let same = old.map(|at| &list[at]).filter(|old| text(old, "/status") == status);
    let since = same.map_or_else(|| at.clone(), |old| text(old, "/lastTransitionTime").to_owned());
    let new = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastUpdateTime": at,
        "lastTransitionTime": since,
    });
    match old {
        Some(at) => list[at] = new,
        None => list.push(new),
    }
}

fn revision(set: &Value) -> i64 {
    value::annotation(set, REVISION).parse().unwrap_or_default()
}

/// A short hash of the pod template, in letters that make no words.
fn hash(deployment: &Value) -> String {
    let template = deployment.pointer("/spec/template").map(Value::to_string).unwrap_or_default();
    let hex = format!("{:x}", md5::compute(template));
    hex[..10].chars().map(|c| char::from(b"bcdf4567ghjk89lm"[c.to_digit(16).unwrap_or_default() as usize])).collect()
}

fn event(cluster: &Cluster, deployment: &Value, weight: Weight, reason: &'static str, message: String) {
    cluster.event(&kinds::DEPLOYMENT, deployment, weight, reason, message, "deployment-controller");
}

//! Garbage collection: dependents go when their last owner has gone, or before it when that was asked for.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use tokio::sync::mpsc;
use tracing::warn;

use super::timers::{self, Timers};
use crate::kubernetes::{
    cluster::Cluster,
    delete::{FOREGROUND, Options, Propagation},
    kinds,
    objects::is_finished,
    store::{Change, Key, Transaction},
    value::{self, items, text, truth},
};

/// Follows every object until the cluster stops.
pub(super) async fn run(cluster: Arc<Cluster>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let timers = Timers::default();
    while let Some(batch) = timers::next(&cluster, &mut changes, &timers).await {
        let mut waiting = BTreeSet::new();
        for change in &batch {
            let object = &change.object;
            if change.removed {
                collect(&cluster, value::uid(object));
                // An owner that waits for its dependents may have lost its last one.
                for owner in items(object, "/metadata/ownerReferences") {
                    waiting.extend(owner_key(object, owner));
                }
            } else {
                if value::is_deleting(object) && value::has_finalizer(object, FOREGROUND) {
                    waiting.insert(Key::of(change.kind, object));
                }
                if change.old.is_none() && !items(object, "/metadata/ownerReferences").is_empty() {
                    check_owners(&cluster, &Key::of(change.kind, object));
                }
            }
        }
        for key in waiting {
            foreground(&cluster, &key);
        }
        tokio::task::yield_now().await;
    }
}

fn owner_key(object: &Value, owner: &Value) -> Option<Key> {
    let kind = kinds::by_kind(text(owner, "/apiVersion"), text(owner, "/kind"))?;
    let namespace = if kind.namespaced { value::namespace(object).to_owned() } else { String::new() };
    Some(Key { kind, namespace, name: text(owner, "/name").to_owned() })
}

/// Deals with what a removed object owned.
fn collect(cluster: &Cluster, uid: &str) {
    let dependents = cluster.store.write(|transaction| transaction.dependents(uid));
    for key in dependents {
        check_owners(cluster, &key);
    }
}

/// Deletes an object none of whose owners are there; forgets owners that are gone.
fn check_owners(cluster: &Cluster, key: &Key) {
    let Some(object) = cluster.store.at(key) else { return };
    let exists = |owner: &&Value| {
        owner_key(&object, owner)
            .is_none_or(|key| cluster.store.at(&key).is_some_and(|found| value::uid(&found) == text(owner, "/uid")))
    };
    let owners = items(&object, "/metadata/ownerReferences");
    let (present, absent): (Vec<_>, Vec<_>) = owners.iter().partition(exists);
    if absent.is_empty() {
        return;
    }
    if present.is_empty() {
        remove(cluster, key, value::uid(&object), Propagation::Background);
        return;
    }
    let gone: Vec<String> = absent.iter().map(|owner| text(owner, "/uid").to_owned()).collect();
    cluster.store.write(|transaction| {
        transaction.edit(key, |object| {
            value::list_at(object, &["metadata", "ownerReferences"])
                .retain(|owner| !gone.iter().any(|uid| uid == text(owner, "/uid")));
            true
        });
    });
}

/// Deletes the dependents of an owner that waits for them, and releases the owner when they are gone.
fn foreground(cluster: &Cluster, key: &Key) {
    let Some(owner) = cluster.store.at(key) else { return };
    if !value::is_deleting(&owner) || !value::has_finalizer(&owner, FOREGROUND) {
        return;
    }
    let uid = value::uid(&owner);
    let blocking = cluster.store.write(|transaction| blocking(transaction, uid));
    if blocking.is_empty() {
        cluster.store.write(|transaction| {
            let freed = transaction.edit(key, |owner| value::remove_finalizer(owner, FOREGROUND));
            if freed.is_some_and(|owner| is_finished(key.kind, &owner)) {
                transaction.remove(key);
            }
        });
        return;
    }
    for (key, uid, deleting) in blocking {
        if !deleting {
            remove(cluster, &key, &uid, Propagation::Foreground);
        }
    }
}

fn blocking(transaction: &Transaction<'_>, uid: &str) -> Vec<(Key, String, bool)> {
    let dependents = transaction.dependents(uid).into_iter();
    dependents
        .filter_map(|key| {
            let object = transaction.at(&key)?;
            let blocks = items(&object, "/metadata/ownerReferences")
                .iter()
                .any(|owner| text(owner, "/uid") == uid && truth(owner, "/blockOwnerDeletion"));
            blocks.then(|| (key, value::uid(&object).to_owned(), value::is_deleting(&object)))
        })
        .collect()
}

fn remove(cluster: &Cluster, key: &Key, uid: &str, propagation: Propagation) {
    let options = Options { propagation: Some(propagation), uid: Some(uid.to_owned()), ..Options::default() };
    if let Err(failure) = cluster.delete(key, &options)
        && failure.code != 404
        && failure.code != 409
    {
        warn!(name = key.name, "failed to collect an object: {failure}");
    }
}

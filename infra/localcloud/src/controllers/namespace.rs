//! Empties namespaces that are being deleted, then removes them.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use tokio::sync::mpsc;
use tracing::warn;

use super::timers::{self, Timers};
use crate::kubernetes::{
    cluster::Cluster,
    delete::{Options, Propagation},
    kinds::{self, KINDS},
    objects::is_finished,
    store::{Change, Key},
    value,
};

/// Follows every object until the cluster stops: each that goes may be the last of a namespace.
pub(super) async fn run(cluster: Arc<Cluster>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let timers = Timers::default();
    let mut ending = BTreeSet::new();
    while let Some(batch) = timers::next(&cluster, &mut changes, &timers).await {
        let mut touched = BTreeSet::new();
        for change in &batch {
            if change.kind == &kinds::NAMESPACE {
                let name = value::name(&change.object).to_owned();
                if change.removed {
                    ending.remove(&name);
                } else if value::is_deleting(&change.object) {
                    ending.insert(name.clone());
                    touched.insert(name);
                }
            } else if change.removed && ending.contains(value::namespace(&change.object)) {
                touched.insert(value::namespace(&change.object).to_owned());
            }
        }
        for name in touched {
            empty(&cluster, &name);
        }
    }
}

fn empty(cluster: &Cluster, name: &str) {
    let mut left = false;
    for kind in KINDS.iter().filter(|kind| kind.namespaced) {
        for object in cluster.store.all(kind, Some(name)) {
            left = true;
            if value::is_deleting(&object) {
                continue;
            }
            let options = Options { propagation: Some(Propagation::Background), ..Options::default() };
            match cluster.delete(&Key::of(kind, &object), &options) {
                Ok(_) => {}
                Err(failure) if failure.code == 404 => {}
                Err(failure) => warn!(namespace = name, "failed to empty a namespace: {failure}"),
            }
        }
    }
    // What could be removed at once leads here again by its own change.
    if left && KINDS.iter().any(|kind| kind.namespaced && !cluster.store.all(kind, Some(name)).is_empty()) {
        return;
    }
    let key = Key { kind: &kinds::NAMESPACE, namespace: String::new(), name: name.to_owned() };
    cluster.store.write(|transaction| {
        let freed = transaction.edit(&key, |namespace| {
            value::set(namespace, &["spec", "finalizers"], json!([]));
            true
        });
        if freed.is_some_and(|namespace| is_finished(&kinds::NAMESPACE, &namespace)) {
            transaction.remove(&key);
        }
    });
}

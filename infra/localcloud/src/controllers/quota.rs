//! Keeps the status of resource quotas: what they allow and what is used.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;
use tokio::sync::mpsc;

use super::timers::{self, Timers};
use crate::kubernetes::{
    cluster::Cluster,
    kinds, quota,
    store::{Change, Key},
    value,
};

/// Follows every object until the cluster stops; only namespaces with a quota matter.
pub(super) async fn run(cluster: Arc<Cluster>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let timers = Timers::default();
    while let Some(batch) = timers::next(&cluster, &mut changes, &timers).await {
        let counts = |change: &&Change| {
            change.old.is_none()
                || change.removed
                || change.kind == &kinds::POD
                || change.kind == &kinds::RESOURCE_QUOTA
        };
        let touched: BTreeSet<_> = batch
            .iter()
            .filter(counts)
            .map(|change| value::namespace(&change.object))
            .filter(|name| !name.is_empty())
            .collect();
        for namespace in touched {
            cluster.store.write(|transaction| {
                if transaction.count(&kinds::RESOURCE_QUOTA, namespace) == 0 {
                    return;
                }
                let quotas: Vec<_> = transaction.each(&kinds::RESOURCE_QUOTA, Some(namespace)).cloned().collect();
                for quota in quotas {
                    let hard = quota.pointer("/spec/hard").cloned().unwrap_or_default();
                    let status = json!({"hard": hard, "used": quota::usage(transaction, &quota)});
                    transaction.edit(&Key::of(&kinds::RESOURCE_QUOTA, &quota), |quota| {
                        let changed = quota.get("status") != Some(&status);
                        value::set(quota, &["status"], status);
                        changed
                    });
                }
            });
        }
    }
}

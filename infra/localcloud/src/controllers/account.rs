//! Gives every namespace its service account `default` and the cluster's certificate authority.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;

use super::timers::{self, Timers};
use crate::kubernetes::{
    cluster::Cluster,
    kinds::{self, Kind},
    objects::How,
    request::Target,
    store::Change,
    value,
};

/// Follows namespaces and service accounts until the cluster stops.
pub(super) async fn run(cluster: Arc<Cluster>, ca_pem: String, mut changes: mpsc::UnboundedReceiver<Change>) {
    let timers = Timers::default();
    while let Some(batch) = timers::next(&cluster, &mut changes, &timers).await {
        for change in &batch {
            let name = if change.kind == &kinds::NAMESPACE {
                value::name(&change.object)
            } else if change.removed {
                value::namespace(&change.object)
            } else {
                continue;
            };
            let place = cluster.store.get(&kinds::NAMESPACE, "", name);
            if place.is_none_or(|place| value::is_deleting(&place)) {
                continue;
            }
            let root = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ca_pem}});
            make(&cluster, &kinds::CONFIG_MAP, name, root);
            make(&cluster, &kinds::SERVICE_ACCOUNT, name, json!({"metadata": {"name": "default"}}));
        }
    }
}

fn make(cluster: &Cluster, kind: &'static Kind, namespace: &str, object: serde_json::Value) {
    if cluster.store.get(kind, namespace, value::name(&object)).is_some() {
        return;
    }
    let target = Target { kind, namespace: namespace.to_owned(), name: String::new(), subresource: String::new() };
    // A namespace that went meanwhile needs nothing.
    let _ = cluster.create(&target, object, &How::default());
}

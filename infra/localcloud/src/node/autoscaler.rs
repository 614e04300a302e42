//! A node pool that grows: for a pod that fits no node it makes one, after the time that a machine takes, and says so
//! in the events of the pod, as the cluster autoscaler does. One that may not grow any more says that.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{settings::NodeSettings, workers};
use crate::kubernetes::{
    cluster::Cluster,
    events::Weight,
    kinds,
    value::{self, text},
};

/// A pool of nodes that are all alike.
#[derive(Clone, Debug)]
pub struct Pool {
    /// What each node is like; its name is the beginning of theirs.
    pub node: NodeSettings,
    /// Most nodes.
    pub most: usize,
    /// Time that a node takes to come.
    pub takes: Duration,
}

/// Scales a pool until the cluster stops.
pub(crate) async fn run(cluster: Arc<Cluster>, pool: Pool) {
    let mut pods = cluster.store.subscribe(&[&kinds::POD]);
    let mut nodes = 0;
    loop {
        let change = tokio::select! {
            change = pods.recv() => change,
            () = cluster.stop.cancelled() => return,
        };
        let Some(change) = change else { return };
        if change.removed || !is_waiting(&change.object) {
            continue;
        }
        if nodes >= pool.most {
            let message = "pod didn't trigger scale-up: 1 max node group size reached".to_owned();
            cluster.event(&kinds::POD, &change.object, Weight::Normal, "NotTriggerScaleUp", message, AUTOSCALER);
            continue;
        }
        let message =
            format!("pod triggered scale-up: [{{{} {nodes}->{} (max: {})}}]", pool.node.name, nodes + 1, pool.most);
        cluster.event(&kinds::POD, &change.object, Weight::Normal, "TriggeredScaleUp", message, AUTOSCALER);
        nodes += 1;
        tokio::select! {
            () = tokio::time::sleep(pool.takes) => {}
            () = cluster.stop.cancelled() => return,
        }
        let node = NodeSettings { name: format!("{}-{nodes}", pool.node.name), ..pool.node.clone() };
        workers::announce(&cluster, &node);
    }
}

const AUTOSCALER: &str = "cluster-autoscaler";

fn is_waiting(pod: &Value) -> bool {
    let scheduled = value::condition(pod, "PodScheduled");
    !value::is_deleting(pod) && scheduled.is_some_and(|scheduled| text(scheduled, "/status") == "False")
}

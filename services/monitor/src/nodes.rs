//! Nodes and what runs on them.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use common::quantity;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use tokio::time::{sleep, timeout};

use crate::state::State;

/// Between two looks at the nodes.
const EVERY: Duration = Duration::from_secs(10);
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node in one line.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
#[schemars(rename = "Node")]
pub(crate) struct NodeLine {
    pub(crate) name: String,
    pub(crate) is_ready: bool,
    /// Why it is not, or what else is wrong with it.
    pub(crate) message: String,
    pub(crate) kind: String,
    pub(crate) zone: String,
    pub(crate) version: String,
    pub(crate) is_spot: bool,
    pub(crate) is_cordoned: bool,
    pub(crate) cpu_millis: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) pods: u64,
}

/// The nodes, as far as they may be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    pub(crate) lines: Vec<NodeLine>,
    pub(crate) trouble: Option<String>,
}

/// Looks at the nodes for ever.
pub(crate) async fn follow(state: &State) {
    let api: Api<Node> = Api::all(state.kube.clone());
    loop {
        let nodes = match timeout(PATIENCE, api.list(&ListParams::default())).await {
            Ok(Ok(list)) => Nodes { lines: list.items.iter().map(line).collect(), trouble: None },
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                Nodes { lines: Vec::new(), trouble: Some("the monitor may not list nodes".to_owned()) }
            }
            Ok(Err(error)) => Nodes { trouble: Some(error.to_string()), ..known(state) },
            Err(_) => Nodes { trouble: Some("no answer in time".to_owned()), ..known(state) },
        };
        if known(state) != nodes {
            *state.nodes.write().unwrap_or_else(PoisonError::into_inner) = nodes;
            state.dirty.notify_one();
        }
        sleep(EVERY).await;
    }
}

/// The nodes as they were last seen.
pub(crate) fn known(state: &State) -> Nodes {
    state.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn line(node: &Node) -> NodeLine {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let status = node.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let pressed = status.conditions.iter().flatten().filter(|c| c.type_ != "Ready" && c.status == "True");
    let is_ready = ready.is_some_and(|condition| condition.status == "True");
    let message = match ready {
        Some(condition) if !is_ready => condition.message.clone().or(condition.reason.clone()).unwrap_or_default(),
        _ => pressed.map(|condition| condition.type_.clone()).collect::<Vec<_>>().join(", "),
    };
    let allocatable = status.allocatable.unwrap_or_default();
    let amount = |resource: &str| allocatable.get(resource).map(|amount| amount.0.clone()).unwrap_or_default();
    NodeLine {
        name: node.metadata.name.clone().unwrap_or_default(),
        is_ready,
        message,
        kind: label("node.kubernetes.io/instance-type"),
        zone: label("topology.kubernetes.io/zone"),
        version: status.node_info.map(|info| info.kubelet_version).unwrap_or_default(),
        is_spot: label("cloud.google.com/gke-spot") == "true",
        is_cordoned: node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true),
        cpu_millis: quantity::millis(&amount("cpu")).unwrap_or_default(),
        memory_bytes: quantity::bytes(&amount("memory")).unwrap_or_default(),
        pods: amount("pods").parse().unwrap_or_default(),
    }
}

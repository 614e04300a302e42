//! Nodes in the few words that the monitor needs. Pure.

use std::collections::BTreeMap;

use contract::quantity;
use k8s_openapi::api::core::v1::Node;

/// A node in one line.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
#[schemars(rename = "Node")]
pub(crate) struct NodeLine {
    pub(crate) name: String,
    pub(crate) is_ready: bool,
    /// Why it is not ready, or its other conditions.
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

/// The nodes, as they were last listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    pub(crate) lines: Vec<NodeLine>,
    /// Why they cannot be listed; the lines may be old then.
    pub(crate) error: Option<String>,
}

/// A node in one line.
pub(crate) fn line(node: &Node) -> NodeLine {
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

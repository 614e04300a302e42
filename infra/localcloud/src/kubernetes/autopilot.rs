//! What an Autopilot cluster does to pods.

use std::sync::Arc;

use serde_json::Value;

use super::{
    quantity,
    value::{self, text},
};

/// Whether pods are those of an Autopilot cluster.
pub type IsAutopilot = Arc<dyn Fn() -> bool + Send + Sync>;

/// Ephemeral storage of a container that requests none (elastic/cloud-on-k8s #7751).
const DEFAULT: &str = "1Gi";
/// The largest request; a larger one is lowered to it (gcs-fuse-csi-driver #21).
const LARGEST: &str = "10Gi";

/// Limits the ephemeral storage of each container to its request (kelos #296), against which an `emptyDir` counts too.
pub(super) fn limit_storage(pod: &mut Value) {
    for list in ["/spec/initContainers", "/spec/containers"] {
        for container in pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let granted = match text(container, "/resources/requests/ephemeral-storage") {
                "" => DEFAULT.to_owned(),
                requested if quantity::parse(requested) > quantity::parse(LARGEST) => LARGEST.to_owned(),
                requested => requested.to_owned(),
            };
            for part in ["requests", "limits"] {
                value::set(container, &["resources", part, "ephemeral-storage"], granted.as_str());
            }
        }
    }
}

/// Whether no node ever takes a pod: one that may not be evicted is an extended-duration Pod, and those exclude Spot
/// (cloud.google.com/kubernetes-engine/docs/how-to/extended-duration-pods; buildkite/agent-stack-k8s #855).
pub(crate) fn is_excluded(pod: &Value) -> bool {
    text(pod, "/metadata/annotations/cluster-autoscaler.kubernetes.io~1safe-to-evict") == "false"
        && text(pod, "/spec/nodeSelector/cloud.google.com~1gke-spot") == "true"
}

//! The `scale` subresource of Deployments and ReplicaSets.

use serde_json::{Value, json};

use super::{
    failure::{Answer, Failure},
    value::{self, number, text},
};

/// The scale of a workload.
pub fn view(object: &Value) -> Value {
    let labels: Vec<_> =
        value::entries(object, "/spec/selector/matchLabels").map(|(key, text)| format!("{key}={text}")).collect();
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": value::name(object), "namespace": value::namespace(object), "uid": value::uid(object),
            "resourceVersion": text(object, "/metadata/resourceVersion"),
            "creationTimestamp": text(object, "/metadata/creationTimestamp"),
        },
        "spec": {"replicas": number(object, "/spec/replicas").unwrap_or_default()},
        "status": {"replicas": number(object, "/status/replicas").unwrap_or_default(), "selector": labels.join(",")},
    })
}

/// The workload with the replicas that a scale asks for.
///
/// # Errors
/// 400 when the scale has no number of replicas.
pub fn rescale(object: &Value, scale: &Value) -> Answer<Value> {
    let replicas = match scale.pointer("/spec/replicas") {
        None => 0,
        Some(replicas) => replicas.as_i64().ok_or_else(|| Failure::bad_request("spec.replicas is no number"))?,
    };
    let mut object = object.clone();
    value::set(&mut object, &["spec", "replicas"], replicas);
    let version = text(scale, "/metadata/resourceVersion").to_owned();
    value::set(&mut object, &["metadata", "resourceVersion"], version);
    Ok(object)
}

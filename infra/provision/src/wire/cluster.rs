//! Clusters and node pools on the wire: what is made together, and what is changed by which call.

use serde_json::{Map, Value, json};

use super::path;
use crate::{
    google::{Api, Method, Request},
    resource::Id,
};

/// Makes a cluster with its first node pools, which is one operation for all of them.
pub(super) fn create(id: &Id, fields: &Value, pools: &[(&Id, &Value)]) -> Request {
    let mut cluster = fields.clone();
    if !pools.is_empty() {
        cluster["nodePools"] = pools.iter().map(|(id, fields)| pool(id, fields)).collect();
    }
    let path = path(id);
    let parent = path.rsplit_once('/').map_or(path.as_str(), |(parent, _)| parent);
    Request::new(Api::Container, Method::Post, parent).body(json!({"cluster": cluster}))
}

/// A node pool with its name.
pub(super) fn pool(id: &Id, fields: &Value) -> Value {
    let mut pool = fields.clone();
    pool["name"] = json!(id.short());
    pool
}

/// A cluster as it was read, where a network that was given by its full name is shown by its last part only.
pub(super) fn view(desired: &Value, mut live: Value) -> Value {
    for field in ["network", "subnetwork"] {
        let full = &live["networkConfig"][field];
        let is_same = desired[field].as_str().is_some_and(|desired| {
            let last = |name: &str| name.rsplit('/').next().map(str::to_owned);
            match (desired.contains('/'), full.as_str()) {
                (true, Some(full)) => full == desired,
                _ => live[field].as_str().and_then(last) == last(desired),
            }
        });
        if is_same {
            live[field] = desired[field].clone();
        }
    }
    live
}

/// What changes a cluster. Google takes one field a request, and each is an operation of its own.
pub(super) fn updates(id: &Id, path: &str, fields: &Value, live: &Value, changed: &[String]) -> Vec<Request> {
    let mut requests = Vec::new();
    let update = |field: &str, value: Value| {
        let body = json!({"name": id.name, "update": {field: value}});
        Request::new(Api::Container, Method::Put, path).body(body)
    };
    for field in top(changed) {
        let value = fields[field].clone();
        requests.push(match field {
            "resourceLabels" => {
                let body = json!({
                    "resourceLabels": merged(&live[field], &value),
                    "labelFingerprint": live["labelFingerprint"],
                });
                Request::new(Api::Container, Method::Post, format!("{path}:setResourceLabels")).body(body)
            }
            // The one part of it that can be changed.
            "networkConfig" => update("desiredDefaultEnablePrivateNodes", value["defaultEnablePrivateNodes"].clone()),
            "autoscaling" => update("desiredClusterAutoscaling", combined(&live[field], &value)),
            _ => {
                let mut letters = field.chars();
                let first = letters.next().map(|letter| letter.to_ascii_uppercase());
                let name: String = "desired".chars().chain(first).chain(letters).collect();
                update(&name, value)
            }
        });
    }
    requests
}

/// What changes a node pool: its limits by a call of their own, and what is in `config` field by field.
pub(super) fn pool_updates(path: &str, fields: &Value, live: &Value, changed: &[String]) -> Vec<Request> {
    let mut requests = Vec::new();
    if changed.iter().any(|field| field.starts_with("autoscaling")) {
        let body = json!({"autoscaling": fields["autoscaling"]});
        requests.push(Request::new(Api::Container, Method::Post, format!("{path}:setAutoscaling")).body(body));
    }
    let inside: Vec<String> =
        changed.iter().filter_map(|field| field.strip_prefix("config.")).map(str::to_owned).collect();
    for field in top(&inside) {
        let value = fields["config"][field].clone();
        let value = match field {
            "resourceLabels" => json!({"labels": merged(&live["config"][field], &value)}),
            "taints" => json!({"taints": value}),
            _ => value,
        };
        requests.push(Request::new(Api::Container, Method::Put, path).body(json!({field: value})));
    }
    requests
}

/// The top-level fields of these paths, each once.
fn top(paths: &[String]) -> Vec<&str> {
    let mut fields: Vec<&str> = paths.iter().filter_map(|path| path.split('.').next()).collect();
    fields.dedup();
    fields
}

/// A map that is replaced whole, with other people's entries kept.
fn merged(live: &Value, desired: &Value) -> Value {
    let mut merged: Map<String, Value> = live.as_object().cloned().unwrap_or_default();
    merged.extend(desired.as_object().cloned().unwrap_or_default());
    Value::Object(merged)
}

/// `live` with what `desired` says, objects within each other.
fn combined(live: &Value, desired: &Value) -> Value {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            let mut all = live.clone();
            for (key, value) in desired {
                let value = combined(live.get(key).unwrap_or(&Value::Null), value);
                all.insert(key.clone(), value);
            }
            Value::Object(all)
        }
        _ => desired.clone(),
    }
}

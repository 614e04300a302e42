//! What was applied to an object last, taken back out of it: pure. `metadata.managedFields` says which fields those
//! are (Kubernetes, "Server-Side Apply", FieldsV1), and the object has their values.

use serde_json::{Map, Value, json};

use super::compare::owned_by_us;

/// The object as we applied it; nothing when we never did.
pub(crate) fn applied(live: &Value) -> Option<Value> {
    let fields = owned_by_us(live)?;
    let mut object = extract(fields, live);
    for field in ["apiVersion", "kind"] {
        object[field] = live[field].clone();
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    for field in ["name", "namespace"] {
        if let Some(value) = live["metadata"].get(field) {
            object["metadata"][field] = value.clone();
        }
    }
    Some(object)
}

/// The part of `value` that `fields` names. A field without fields of its own is taken whole.
fn extract(fields: &Value, value: &Value) -> Value {
    let Some(children) = fields.as_object().filter(|children| children.keys().any(|key| key != ".")) else {
        return value.clone();
    };
    match value {
        Value::Object(members) => {
            let mut taken = Map::new();
            for (key, child) in children {
                if let Some(name) = key.strip_prefix("f:")
                    && let Some(member) = members.get(name)
                {
                    taken.insert(name.to_owned(), extract(child, member));
                }
            }
            Value::Object(taken)
        }
        Value::Array(items) => {
            // In the order of the list, since that may mean something.
            let taken = items.iter().filter_map(|item| {
                let (key, child) = children.iter().find(|(key, _)| names(key, item))?;
                let mut taken = extract(child, item);
                if let Some(keys) = key.strip_prefix("k:").and_then(|keys| serde_json::from_str::<Value>(keys).ok()) {
                    for (name, value) in keys.as_object().into_iter().flatten() {
                        taken[name] = value.clone();
                    }
                }
                Some(taken)
            });
            Value::Array(taken.collect())
        }
        scalar => scalar.clone(),
    }
}

/// Whether a key of `managedFields` (`k:{…}` or `v:…`) names an item of a list.
fn names(key: &str, item: &Value) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    if let Some(desired) = key.strip_prefix("k:").and_then(parsed) {
        return desired.as_object().is_some_and(|keys| keys.iter().all(|(name, value)| item.get(name) == Some(value)));
    }
    key.strip_prefix("v:").and_then(parsed).is_some_and(|desired| desired == *item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_found_again_without_what_others_wrote() {
        let live = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "x", "namespace": "n", "uid": "1", "labels": {"a": "1", "theirs": "2"},
                "finalizers": ["ours", "theirs"],
                "managedFields": [{"manager": "deskgrid", "operation": "Apply", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"ours\"": {}}},
                    "f:spec": {"f:template": {"f:spec": {"f:containers": {
                        "k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:command": {}, "f:name": {},
                            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}
                    }}}},
                }}],
            },
            "spec": {"replicas": 3, "template": {"spec": {"containers": [
                {"name": "sidecar", "image": "s"},
                {"name": "c", "image": "i", "command": ["a", "b"], "pullPolicy": "Always",
                 "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]},
            ]}}},
            "status": {"replicas": 3},
        });
        assert_eq!(
            applied(&live).unwrap(),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "x", "namespace": "n", "labels": {"a": "1"}, "finalizers": ["ours"]},
                "spec": {"template": {"spec": {"containers": [
                    {"name": "c", "image": "i", "command": ["a", "b"], "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                ]}}},
            })
        );
        assert_eq!(applied(&json!({"metadata": {"name": "x"}})), None);
    }
}

//! How lists of Kubernetes objects merge: which are maps by a key, which are sets, which are replaced whole.
//!
//! The real API server has this in its schema. Among the kinds served here the name of the field and that of the
//! field around it tell them apart.

use serde_json::Value;

/// How a list merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Replaced whole.
    Atomic,
    /// A set of plain values.
    Set,
    /// A map whose items are known by these fields.
    Map(&'static [&'static str]),
}

/// How the list `field` inside `parent` merges in a strategic merge patch.
pub fn strategic(parent: &str, field: &str) -> ListKind {
    match field {
        "ports" if is_container_list(parent) => ListKind::Map(&["containerPort"]),
        "ports" => ListKind::Map(&["port"]),
        "topologySpreadConstraints" => ListKind::Map(&["topologyKey"]),
        "taints" => ListKind::Map(&["key"]),
        _ => common(field),
    }
}

/// How the list `field` inside `parent` merges in server-side apply.
pub fn apply(parent: &str, field: &str) -> ListKind {
    match field {
        "ports" if is_container_list(parent) => ListKind::Map(&["containerPort", "protocol"]),
        "ports" => ListKind::Map(&["port", "protocol"]),
        "topologySpreadConstraints" => ListKind::Map(&["topologyKey", "whenUnsatisfiable"]),
        _ => common(field),
    }
}

/// Whether the map `field` is replaced whole in server-side apply.
pub fn is_atomic_map(field: &str) -> bool {
    matches!(
        field,
        "selector"
            | "nodeSelector"
            | "fieldRef"
            | "resourceFieldRef"
            | "configMapKeyRef"
            | "secretKeyRef"
            | "configMapRef"
            | "secretRef"
            | "roleRef"
            | "claimRef"
            | "involvedObject"
            | "labelSelector"
            | "podSelector"
            | "namespaceSelector"
            | "scopeSelector"
    )
}

/// Whether two items of a list have the same key.
pub fn same_key(keys: &[&str], one: &Value, other: &Value) -> bool {
    keys.iter().all(|key| key_value(one, key) == key_value(other, key))
}

/// A key field of an item, with its default.
pub fn key_value(item: &Value, key: &str) -> Option<Value> {
    match item.get(key) {
        None if key == "protocol" => Some(Value::from("TCP")),
        found => found.cloned(),
    }
}

fn is_container_list(parent: &str) -> bool {
    matches!(parent, "containers" | "initContainers" | "ephemeralContainers")
}

fn common(field: &str) -> ListKind {
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "secrets"
        | "schedulingGates"
        | "resourceClaims" => ListKind::Map(&["name"]),
        "volumeMounts" => ListKind::Map(&["mountPath"]),
        "volumeDevices" => ListKind::Map(&["devicePath"]),
        "hostAliases" | "podIPs" | "hostIPs" => ListKind::Map(&["ip"]),
        "ownerReferences" => ListKind::Map(&["uid"]),
        "conditions" => ListKind::Map(&["type"]),
        "finalizers" => ListKind::Set,
        _ => ListKind::Atomic,
    }
}

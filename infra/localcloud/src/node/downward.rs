//! Fields of a pod that its containers may see.

use serde_json::Value;

use crate::kubernetes::value::{self, entries, text};

/// The text of a field path such as `metadata.labels['app']`; none for one that is not served.
pub(super) fn field(pod: &Value, path: &str) -> Option<String> {
    if let Some((map, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        return match map {
            "metadata.labels" => Some(value::label(pod, key).to_owned()),
            "metadata.annotations" => Some(value::annotation(pod, key).to_owned()),
            _ => None,
        };
    }
    let all = |pointer: &str| {
        let lines: Vec<_> = entries(pod, pointer).map(|(key, text)| format!("{key}={text:?}")).collect();
        Some(lines.join("\n"))
    };
    let plain = |pointer: &str| Some(text(pod, pointer).to_owned());
    match path {
        "metadata.name" => plain("/metadata/name"),
        "metadata.namespace" => plain("/metadata/namespace"),
        "metadata.uid" => plain("/metadata/uid"),
        "metadata.labels" => all("/metadata/labels"),
        "metadata.annotations" => all("/metadata/annotations"),
        "spec.nodeName" => plain("/spec/nodeName"),
        "spec.serviceAccountName" => plain("/spec/serviceAccountName"),
        "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => Some("127.0.0.1".to_owned()),
        _ => None,
    }
}

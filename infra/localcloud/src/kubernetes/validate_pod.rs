//! What makes a pod's spec invalid, in a pod or in a template.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{
    failure::Cause,
    names,
    value::{self, items, number, text},
};

/// What is wrong with a pod's spec at `path`.
pub fn spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let restart = text(spec, "/restartPolicy");
    if !matches!(restart, "" | "Always" | "OnFailure" | "Never") {
        let known = ["Always", "OnFailure", "Never"];
        causes.push(Cause::unsupported(format!("{path}.restartPolicy"), &json!(restart), &known));
    }
    if let Some(deadline) = number(spec, "/activeDeadlineSeconds").filter(|deadline| *deadline < 1) {
        let why = "must be between 1 and 2147483647, inclusive";
        causes.push(Cause::invalid(format!("{path}.activeDeadlineSeconds"), &json!(deadline), why));
    }
    let mut volumes = HashSet::new();
    for (index, volume) in items(spec, "/volumes").iter().enumerate() {
        let name = text(volume, "/name");
        let field = format!("{path}.volumes[{index}].name");
        if name.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if !names::is_label(name) {
            causes.push(Cause::invalid(field, &json!(name), "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"));
        } else if !volumes.insert(name) {
            causes.push(Cause::duplicate(field, &json!(name)));
        }
        for (source, one) in items(volume, "/projected/sources").iter().enumerate() {
            let Some(token) = one.get("serviceAccountToken").filter(|token| !token.is_null()) else { continue };
            let path = format!("{path}.volumes[{index}].projected.sources[{source}].serviceAccountToken");
            if text(token, "/path").is_empty() {
                causes.push(Cause::required(format!("{path}.path"), ""));
            }
            let seconds = number(token, "/expirationSeconds").unwrap_or_default();
            check_lifetime(seconds, &format!("{path}.expirationSeconds"), causes);
        }
    }
    if items(spec, "/containers").is_empty() {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let mut seen = HashSet::new();
    for list in ["initContainers", "containers"] {
        for (index, one) in items(spec, &format!("/{list}")).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            let name = text(one, "/name");
            if name.is_empty() {
                causes.push(Cause::required(format!("{path}.name"), ""));
            } else if !names::is_label(name) {
                causes.push(Cause::invalid(format!("{path}.name"), &json!(name), "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"));
            } else if !seen.insert(name) {
                causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
            }
            container(one, &path, &volumes, causes);
            restart_policy(one, &path, list == "initContainers", causes);
        }
    }
}

/// A token's lifetime is one that the API server gives (`ValidateTokenRequest`).
pub fn check_lifetime(seconds: i64, field: &str, causes: &mut Vec<Cause>) {
    let why = match seconds {
        ..600 => "may not specify a duration less than 10 minutes",
        600..=0x1_0000_0000 => return,
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    causes.push(Cause::invalid(field, &json!(seconds), why));
}

/// A pod's spec may change in its images, deadline and tolerations only.
pub fn unchanged(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let strip = |pod: &Value| {
        let mut spec = pod.get("spec").cloned().unwrap_or_default();
        for list in ["initContainers", "containers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                value::unset(container, &["image"]);
            }
        }
        for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName"] {
            value::unset(&mut spec, &[field]);
        }
        spec
    };
    let node = text(old, "/spec/nodeName");
    if strip(old) != strip(new) || !node.is_empty() && node != text(new, "/spec/nodeName") {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,\
                   `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                   existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)";
        causes.push(Cause::forbidden("spec", why));
    }
}

/// Only init containers have a restart policy, which makes them sidecars; only those have probes and hooks
/// (`validateInitContainers`).
fn restart_policy(one: &Value, path: &str, init: bool, causes: &mut Vec<Cause>) {
    match (text(one, "/restartPolicy"), init) {
        ("", true) => {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if one.get(field).is_some_and(|given| !given.is_null()) {
                    let why = "may not be set for init containers without restartPolicy=Always";
                    causes.push(Cause::forbidden(format!("{path}.{field}"), why));
                }
            }
        }
        ("", false) | ("Always", true) => {}
        (other, true) => {
            causes.push(Cause::unsupported(format!("{path}.restartPolicy"), &json!(other), &["Always"]));
        }
        (_, false) => {
            causes.push(Cause::forbidden(format!("{path}.restartPolicy"), "may not be set for non-init containers"));
        }
    }
}

fn container(one: &Value, path: &str, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    if text(one, "/image").is_empty() {
        causes.push(Cause::required(format!("{path}.image"), ""));
    }
    for (index, variable) in items(one, "/env").iter().enumerate() {
        let path = format!("{path}.env[{index}]");
        if text(variable, "/name").is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        if !text(variable, "/value").is_empty() && variable.get("valueFrom").is_some_and(|from| !from.is_null()) {
            let why = "may not be specified when `value` is not empty";
            causes.push(Cause::invalid(format!("{path}.valueFrom"), &json!(""), why));
        }
    }
    for (index, mount) in items(one, "/volumeMounts").iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let name = text(mount, "/name");
        if !volumes.contains(name) {
            causes.push(Cause {
                reason: "FieldValueNotFound",
                field: format!("{path}.name"),
                message: format!("Not found: {name:?}"),
            });
        }
        if text(mount, "/mountPath").is_empty() {
            causes.push(Cause::required(format!("{path}.mountPath"), ""));
        }
    }
    for (index, port) in items(one, "/ports").iter().enumerate() {
        let given = number(port, "/containerPort").unwrap_or_default();
        if !(1..=65535).contains(&given) {
            let why = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.ports[{index}].containerPort"), &json!(given), why));
        }
    }
    for part in ["requests", "limits"] {
        for (resource, quantity) in value::entries(one, &format!("/resources/{part}")) {
            let path = format!("{path}.resources.{part}[{resource}]");
            match super::quantity::parse(quantity) {
                None => {
                    let why =
                        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
                    causes.push(Cause::invalid(path, &json!(quantity), why));
                }
                Some(amount) if amount < 0 => {
                    causes.push(Cause::invalid(path, &json!(quantity), "must be greater than or equal to 0"));
                }
                Some(amount) => {
                    let limit = value::text(one, &format!("/resources/limits/{}", resource.replace('/', "~1")));
                    if part == "requests" && super::quantity::parse(limit).is_some_and(|limit| amount > limit) {
                        let why = format!("must be less than or equal to {resource} limit of {limit}");
                        causes.push(Cause::invalid(path, &json!(quantity), &why));
                    }
                }
            }
        }
    }
}

//! The tables that kubectl prints: the cells of an object, one for each column of its kind.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    age::{age, duration},
    kinds::Kind,
    table_pod,
    value::{self, items, number, text},
};

/// The cells of an object, one for each column of its kind.
pub fn cells(kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = json!(value::name(object));
    let age = json!(age(object, "/metadata/creationTimestamp", now));
    let created = json!(text(object, "/metadata/creationTimestamp"));
    let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    let amount = |pointer: &str| json!(number(object, pointer).unwrap_or_default());
    match kind.plural {
        "pods" => table_pod::cells(object, now),
        "jobs" => {
            let [containers, images] = programs(object);
            let duration = json!(job_duration(object, now));
            let selector = json!(selector(object.pointer("/spec/selector")));
            vec![
                name,
                json!(job_status(object)),
                json!(completions(object)),
                duration,
                age,
                containers,
                images,
                selector,
            ]
        }
        "deployments" => {
            let ready = format!(
                "{}/{}",
                number(object, "/status/readyReplicas").unwrap_or_default(),
                number(object, "/spec/replicas").unwrap_or_default()
            );
            let [containers, images] = programs(object);
            let selector = json!(selector(object.pointer("/spec/selector")));
            let (updated, available) = (amount("/status/updatedReplicas"), amount("/status/availableReplicas"));
            vec![name, json!(ready), updated, available, age, containers, images, selector]
        }
        "replicasets" => {
            let [containers, images] = programs(object);
            let selector = json!(selector(object.pointer("/spec/selector")));
            let (current, ready) = (amount("/status/replicas"), amount("/status/readyReplicas"));
            vec![name, amount("/spec/replicas"), current, ready, age, containers, images, selector]
        }
        "events" => event(object, now),
        "namespaces" => vec![name, json!(text(object, "/status/phase")), age],
        "services" => service(object, name, age),
        "configmaps" => vec![name, json!(count("/data") + count("/binaryData")), age],
        "secrets" => vec![name, json!(text(object, "/type")), json!(count("/data")), age],
        "serviceaccounts" => vec![name, json!(items(object, "/secrets").len()), age],
        "nodes" => node(object, name, age),
        "resourcequotas" => {
            let part = |limits: bool| {
                let used = |key: &str| text(object, &format!("/status/used/{}", key.replace('/', "~1"))).to_owned();
                let pairs: Vec<_> = value::entries(object, "/status/hard")
                    .filter(|(key, _)| key.starts_with("limits.") == limits)
                    .map(|(key, hard)| format!("{key}: {}/{hard}", used(key)))
                    .collect();
                json!(pairs.join(", "))
            };
            vec![name, part(false), part(true), age]
        }
        "roles" | "clusterroles" => vec![name, created],
        "rolebindings" | "clusterrolebindings" => {
            let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
            let of = |kind: &str| {
                let subjects = items(object, "/subjects").iter().filter(|one| text(one, "/kind") == kind);
                let names: Vec<_> = subjects
                    .map(|one| match text(one, "/namespace") {
                        "" => text(one, "/name").to_owned(),
                        namespace => format!("{namespace}/{}", text(one, "/name")),
                    })
                    .collect();
                json!(names.join(", "))
            };
            vec![name, json!(role), age, of("User"), of("Group"), of("ServiceAccount")]
        }
        "networkpolicies" => vec![name, json!(selector(object.pointer("/spec/podSelector"))), age],
        "priorityclasses" => {
            let global = value::truth(object, "/globalDefault");
            vec![name, amount("/value"), json!(global), age, json!(text(object, "/preemptionPolicy"))]
        }
        "poddisruptionbudgets" => {
            let plain = |pointer: &str| match object.pointer(pointer) {
                None | Some(Value::Null) => json!("N/A"),
                Some(Value::String(text)) => json!(text),
                Some(other) => json!(other.to_string()),
            };
            let allowed = amount("/status/disruptionsAllowed");
            vec![name, plain("/spec/minAvailable"), plain("/spec/maxUnavailable"), allowed, age]
        }
        _ => vec![name, age],
    }
}

fn job_status(job: &Value) -> &'static str {
    let has = |kind: &str| value::has_condition(job, kind);
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if value::is_deleting(job) {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value) -> String {
    let succeeded = number(job, "/status/succeeded").unwrap_or_default();
    match number(job, "/spec/completions") {
        Some(completions) => format!("{succeeded}/{completions}"),
        None => match number(job, "/spec/parallelism").unwrap_or_default() {
            parallelism if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            _ => format!("{succeeded}/1"),
        },
    }
}

fn job_duration(job: &Value, now: Timestamp) -> String {
    let Some(start) = value::time(job, "/status/startTime") else { return String::new() };
    let end = value::time(job, "/status/completionTime").or_else(|| {
        let failed = value::condition(job, "Failed").filter(|failed| text(failed, "/status") == "True")?;
        value::time(failed, "/lastTransitionTime")
    });
    duration(end.unwrap_or(now).duration_since(start).as_secs())
}

fn programs(object: &Value) -> [Value; 2] {
    let containers = items(object, "/spec/template/spec/containers");
    let join = |pointer: &str| {
        let all: Vec<_> = containers.iter().map(|container| text(container, pointer)).collect();
        json!(all.join(","))
    };
    [join("/name"), join("/image")]
}

fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return "<none>".to_owned() };
    let labels = if selector.get("matchLabels").is_some() { "/matchLabels" } else { "" };
    let pairs: Vec<_> = value::entries(selector, labels).map(|(key, text)| format!("{key}={text}")).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let first = if text(event, "/firstTimestamp").is_empty() { "/eventTime" } else { "/firstTimestamp" };
    let last = if text(event, "/lastTimestamp").is_empty() { first } else { "/lastTimestamp" };
    let object =
        format!("{}/{}", text(event, "/involvedObject/kind").to_lowercase(), text(event, "/involvedObject/name"));
    let source = match (text(event, "/source/component"), text(event, "/source/host")) {
        ("", _) => text(event, "/reportingComponent").to_owned(),
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    vec![
        json!(age(event, last, now)),
        json!(text(event, "/type")),
        json!(text(event, "/reason")),
        json!(object),
        json!(text(event, "/involvedObject/fieldPath")),
        json!(source),
        json!(text(event, "/message").trim()),
        json!(age(event, first, now)),
        json!(number(event, "/count").unwrap_or(1).to_string()),
        json!(value::name(event)),
    ]
}

fn service(service: &Value, name: Value, age: Value) -> Vec<Value> {
    let ports: Vec<_> = items(service, "/spec/ports")
        .iter()
        .map(|port| {
            let node = number(port, "/nodePort").map_or_else(String::new, |node| format!(":{node}"));
            format!("{}{node}/{}", number(port, "/port").unwrap_or_default(), text(port, "/protocol"))
        })
        .collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    let selector = selector(service.pointer("/spec/selector"));
    let (kind, address) = (text(service, "/spec/type"), text(service, "/spec/clusterIP"));
    vec![name, json!(kind), json!(address), json!("<none>"), json!(ports), age, json!(selector)]
}

fn node(node: &Value, name: Value, age: Value) -> Vec<Value> {
    let mut status = if value::has_condition(node, "Ready") { "Ready" } else { "NotReady" }.to_owned();
    if value::truth(node, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let addresses = items(node, "/status/addresses").iter();
    let address = addresses
        .filter(|address| text(address, "/type") == "InternalIP")
        .map(|address| text(address, "/address"))
        .next();
    vec![
        name,
        json!(status),
        json!("<none>"),
        age,
        json!(text(node, "/status/nodeInfo/kubeletVersion")),
        json!(address.unwrap_or("<none>")),
        json!("<none>"),
        json!(text(node, "/status/nodeInfo/osImage")),
        json!(text(node, "/status/nodeInfo/kernelVersion")),
        json!(text(node, "/status/nodeInfo/containerRuntimeVersion")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::{columns::columns, kinds};

    #[test]
    fn every_kind_has_a_cell_for_each_column() {
        for kind in kinds::KINDS {
            assert_eq!(cells(kind, &json!({}), Timestamp::UNIX_EPOCH).len(), columns(kind).len(), "{}", kind.kind);
        }
    }
}

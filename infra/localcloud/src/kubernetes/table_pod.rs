//! The row that kubectl prints for a pod, with the status it works out from the containers.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    age::{age, duration},
    value::{self, items, number, text, truth},
};

/// The cells of a pod.
pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let containers = items(pod, "/status/containerStatuses");
    let ready = containers.iter().filter(|one| truth(one, "/ready") && one.pointer("/state/running").is_some()).count();
    let total = items(pod, "/spec/containers").len();
    let or_none = |given: &str| if given.is_empty() { json!("<none>") } else { json!(given) };
    vec![
        json!(value::name(pod)),
        json!(format!("{ready}/{total}")),
        json!(status(pod)),
        json!(restarts(containers, now)),
        json!(age(pod, "/metadata/creationTimestamp", now)),
        or_none(text(pod, "/status/podIP")),
        or_none(text(pod, "/spec/nodeName")),
        json!("<none>"),
        json!("<none>"),
    ]
}

fn restarts(containers: &[Value], now: Timestamp) -> String {
    let count: i64 = containers.iter().filter_map(|one| number(one, "/restartCount")).sum();
    let last = containers.iter().filter_map(|one| value::time(one, "/lastState/terminated/finishedAt")).max();
    match last.filter(|_| count > 0) {
        Some(last) => format!("{count} ({} ago)", duration(now.duration_since(last).as_secs())),
        None => count.to_string(),
    }
}

/// `STATUS` as kubectl shows it.
pub fn status(pod: &Value) -> String {
    let mut status = match text(pod, "/status/reason") {
        "" => text(pod, "/status/phase").to_owned(),
        reason => reason.to_owned(),
    };
    let starting = initializing(pod, &mut status);
    if !starting {
        let mut running = false;
        for container in items(pod, "/status/containerStatuses").iter().rev() {
            if let Some(waiting) = container.pointer("/state/waiting").filter(|one| !text(one, "/reason").is_empty()) {
                text(waiting, "/reason").clone_into(&mut status);
            } else if let Some(ended) = container.pointer("/state/terminated") {
                status = terminated(ended);
            } else if truth(container, "/ready") && container.pointer("/state/running").is_some() {
                running = true;
            }
        }
        if status == "Completed" && running {
            status = if value::has_condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }
    if value::is_deleting(pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
        "Terminating".clone_into(&mut status);
    }
    status
}

fn initializing(pod: &Value, status: &mut String) -> bool {
    let total = items(pod, "/spec/initContainers").len();
    for (index, container) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
        if number(container, "/state/terminated/exitCode") == Some(0) {
            continue;
        }
        *status = match (container.pointer("/state/terminated"), text(container, "/state/waiting/reason")) {
            (Some(ended), _) => format!("Init:{}", terminated(ended)),
            (None, "" | "PodInitializing") => format!("Init:{index}/{total}"),
            (None, reason) => format!("Init:{reason}"),
        };
        return true;
    }
    false
}

fn terminated(ended: &Value) -> String {
    match (text(ended, "/reason"), number(ended, "/signal").unwrap_or_default()) {
        ("", 0) => format!("ExitCode:{}", number(ended, "/exitCode").unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

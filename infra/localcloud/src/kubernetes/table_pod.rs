//! The row that kubectl prints for a pod, with the status it works out from the containers.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    age::{age, duration},
    quota::is_sidecar,
    value::{self, items, number, text, truth},
};

/// The cells of a pod.
pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let containers = items(pod, "/status/containerStatuses");
    let sidecars = sidecars(pod);
    let serving = sidecars.iter().copied().chain(containers);
    let ready = serving.filter(|one| truth(one, "/ready") && one.pointer("/state/running").is_some()).count();
    let total = items(pod, "/spec/containers").len() + sidecars.len();
    let or_none = |given: &str| if given.is_empty() { json!("<none>") } else { json!(given) };
    vec![
        json!(value::name(pod)),
        json!(format!("{ready}/{total}")),
        json!(status(pod)),
        json!(restarts(sidecars.into_iter().chain(containers), now)),
        json!(age(pod, "/metadata/creationTimestamp", now)),
        or_none(text(pod, "/status/podIP")),
        or_none(text(pod, "/spec/nodeName")),
        json!("<none>"),
        json!("<none>"),
    ]
}

/// The statuses of a pod's sidecars.
fn sidecars(pod: &Value) -> Vec<&Value> {
    let specs = items(pod, "/spec/initContainers").iter();
    let both = specs.zip(items(pod, "/status/initContainerStatuses"));
    both.filter(|(spec, _)| is_sidecar(spec)).map(|(_, status)| status).collect()
}

fn restarts<'a>(containers: impl Iterator<Item = &'a Value> + Clone, now: Timestamp) -> String {
    let count: i64 = containers.clone().filter_map(|one| number(one, "/restartCount")).sum();
    let last = containers.filter_map(|one| value::time(one, "/lastState/terminated/finishedAt")).max();
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
    if !starting || value::has_condition(pod, "Initialized") {
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
    let sidecars = sidecars(pod);
    for (index, container) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
        let is_up = sidecars.contains(&container) && truth(container, "/started");
        if is_up || number(container, "/state/terminated/exitCode") == Some(0) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_count_as_containers() {
        let check = |phase: &str, sidecar: Value, main: Value, ready: &str, status: &str| {
            let initialized = json!({"type": "Initialized", "status": "True"});
            let pod = json!({
                "metadata": {"name": "p"},
                "spec": {
                    "initContainers": [{"name": "install"}, {"name": "program", "restartPolicy": "Always"}],
                    "containers": [{"name": "engine"}],
                },
                "status": {
                    "phase": phase, "conditions": if main.is_null() { json!([]) } else { json!([initialized]) },
                    "initContainerStatuses": [{"state": {"terminated": {"exitCode": 0}}}, sidecar],
                    "containerStatuses": if main.is_null() { json!([]) } else { json!([main]) },
                },
            });
            let cells = cells(&pod, Timestamp::UNIX_EPOCH);
            assert_eq!((cells[1].as_str(), cells[2].as_str()), (Some(ready), Some(status)));
        };
        let running = |ready: bool| json!({"state": {"running": {}}, "started": ready, "ready": ready});
        let ended = |code: i64, reason: &str| json!({"state": {"terminated": {"exitCode": code, "reason": reason}}});
        check("Pending", running(false), Value::Null, "0/2", "Init:1/2");
        check("Running", running(true), running(true), "2/2", "Running");
        check("Succeeded", ended(143, "Error"), ended(0, "Completed"), "0/2", "Completed");
    }
}

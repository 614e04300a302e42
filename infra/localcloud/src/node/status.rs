//! The status of a pod from the states of its containers: pure, and shaped as the kubelet writes it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kubernetes::{
    quota::is_sidecar,
    value::{self, items, seconds, text},
};

/// State of one container.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Not running yet, or not now.
    Waiting {
        /// `ContainerCreating`, `CrashLoopBackOff` and so on.
        reason: &'static str,
        /// For a person.
        message: String,
    },
    /// Running since then.
    Running(Timestamp),
    /// Ended.
    Terminated(Terminated),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Terminated {
    /// Exit code.
    pub code: i32,
    /// Signal, 0 when none.
    pub signal: i32,
    /// `Completed`, `Error` and so on.
    pub reason: &'static str,
    /// Termination message.
    pub message: String,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Whether it is an init container that runs beside the others.
    pub sidecar: bool,
    /// Its image as the pod names it.
    pub image: String,
    /// The image that runs, with digest.
    pub image_id: String,
    /// What it does.
    pub state: State,
    /// How its run before this ended.
    pub last: Option<Terminated>,
    /// How often it was started again.
    pub restarts: i64,
    /// Whether its readiness probe is content.
    pub ready: bool,
    /// Whether its startup probe is content.
    pub started: bool,
}

impl Container {
    /// A container that waits.
    pub fn waiting(spec: &Value, reason: &'static str) -> Self {
        Self {
            name: text(spec, "/name").to_owned(),
            sidecar: is_sidecar(spec),
            image: text(spec, "/image").to_owned(),
            image_id: String::new(),
            state: State::Waiting { reason, message: String::new() },
            last: None,
            restarts: 0,
            ready: false,
            started: false,
        }
    }

    fn has_begun(&self) -> bool {
        !matches!(self.state, State::Waiting { .. }) || self.last.is_some()
    }

    /// Whether the containers after this init container may start.
    fn is_initialized(&self) -> bool {
        if self.sidecar { self.started } else { self.ended().is_some_and(|ended| ended.code == 0) }
    }

    fn ended(&self) -> Option<&Terminated> {
        match &self.state {
            State::Terminated(ended) => Some(ended),
            _ => None,
        }
    }
}

/// Why a pod failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `DeadlineExceeded` and so on.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// Everything a status is made of.
#[derive(Clone, Debug)]
pub struct Containers {
    /// Init containers, in order.
    pub init: Vec<Container>,
    /// Containers.
    pub main: Vec<Container>,
    /// Why the pod failed, whatever its containers say.
    pub verdict: Option<Verdict>,
    /// Whether no container will be started again.
    pub done: bool,
}

/// The phase of a pod.
pub fn phase(all: &Containers) -> &'static str {
    if all.verdict.is_some() {
        return "Failed";
    }
    let failed = |one: &Container| one.ended().is_some_and(|ended| ended.code != 0);
    if all.done {
        let success = !all.init.iter().any(|one| !one.sidecar && failed(one))
            && all.main.iter().all(|one| one.ended().is_some_and(|end| end.code == 0));
        return if success { "Succeeded" } else { "Failed" };
    }
    if all.main.iter().any(Container::has_begun) { "Running" } else { "Pending" }
}

/// Writes the status of a pod, keeping what others wrote into it. Says whether anything changed.
pub fn write(pod: &mut Value, all: &Containers, now: Timestamp) -> bool {
    let before = pod.get("status").cloned().unwrap_or_default();
    let phase = phase(all);
    let ended = matches!(phase, "Succeeded" | "Failed");
    let initialized = all.main.iter().any(Container::has_begun) || all.init.iter().all(Container::is_initialized);
    let serving = all.init.iter().filter(|one| one.sidecar).chain(&all.main);
    let unready: Vec<_> = serving.filter(|one| !one.ready).map(|one| one.name.as_str()).collect();
    let ready = !ended && initialized && unready.is_empty();
    let (reason, message) = match (ready, phase) {
        (true, _) => ("", String::new()),
        (false, "Succeeded") => ("PodCompleted", String::new()),
        (false, "Failed") => ("PodFailed", String::new()),
        (false, _) => ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))),
    };
    let generation = value::number(pod, "/metadata/generation");
    let mut condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let list = value::list_at(pod, &["status", "conditions"]);
        let old = list.iter().position(|condition| text(condition, "/type") == kind);
        let since = old
            .map(|at| &list[at])
            .filter(|old| text(old, "/status") == status)
            .map_or_else(|| seconds(now), |old| text(old, "/lastTransitionTime").to_owned());
        let mut new = json!({
            "type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since,
        });
        if let Some(generation) = generation {
            new["observedGeneration"] = generation.into();
        }
        if !reason.is_empty() {
            new["reason"] = reason.into();
        }
        if !message.is_empty() {
            new["message"] = message.into();
        }
        match old {
            Some(at) => list[at] = new,
            None => list.push(new),
        }
    };
    condition("PodReadyToStartContainers", !ended, "", "");
    let why = if initialized { "" } else { "ContainersNotInitialized" };
    let incomplete = all.init.iter().filter(|one| !one.is_initialized());
    let incomplete: Vec<_> = incomplete.map(|one| one.name.as_str()).collect();
    let uninitialized = if initialized {
        String::new()
    } else {
        format!("containers with incomplete status: [{}]", incomplete.join(" "))
    };
    condition("Initialized", initialized, if phase == "Succeeded" { "PodCompleted" } else { why }, &uninitialized);
    condition("Ready", ready, reason, &message);
    condition("ContainersReady", ready, reason, &message);
    let status = value::map_at(pod, &["status"]);
    status.insert("phase".to_owned(), phase.into());
    if let Some(generation) = generation {
        status.insert("observedGeneration".to_owned(), generation.into());
    }
    if let Some(verdict) = &all.verdict {
        status.insert("reason".to_owned(), verdict.reason.into());
        status.insert("message".to_owned(), verdict.message.clone().into());
    }
    for (field, address) in [("hostIP", "hostIPs"), ("podIP", "podIPs")] {
        status.insert(field.to_owned(), "127.0.0.1".into());
        status.insert(address.to_owned(), json!([{"ip": "127.0.0.1"}]));
    }
    let uid = value::uid(pod).to_owned();
    let show = |list: &[Container]| -> Value { list.iter().map(|one| container(one, &uid)).collect() };
    let status = value::map_at(pod, &["status"]);
    if !all.init.is_empty() {
        status.insert("initContainerStatuses".to_owned(), show(&all.init));
    }
    status.insert("containerStatuses".to_owned(), show(&all.main));
    pod.get("status") != Some(&before)
}

fn container(one: &Container, uid: &str) -> Value {
    let id = format!("deskgrid://{uid}/{}/{}", one.name, one.restarts);
    let end = |ended: &Terminated, id: &str| {
        let mut written = json!({
            "exitCode": ended.code, "reason": ended.reason, "startedAt": seconds(ended.started),
            "finishedAt": seconds(ended.finished), "containerID": id,
        });
        if ended.signal != 0 {
            written["signal"] = ended.signal.into();
        }
        if !ended.message.is_empty() {
            written["message"] = ended.message.clone().into();
        }
        written
    };
    let state = match &one.state {
        State::Waiting { reason, message } if message.is_empty() => json!({"waiting": {"reason": reason}}),
        State::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
        State::Running(since) => json!({"running": {"startedAt": seconds(*since)}}),
        State::Terminated(ended) => json!({"terminated": end(ended, &id)}),
    };
    let last = match &one.last {
        Some(ended) => {
            json!({"terminated": end(ended, &format!("deskgrid://{uid}/{}/{}", one.name, (one.restarts - 1).max(0)))})
        }
        None => json!({}),
    };
    let begun = !matches!(one.state, State::Waiting { .. });
    json!({
        "name": one.name, "image": one.image, "imageID": one.image_id, "containerID": if begun { id } else { String::new() },
        "state": state, "lastState": last, "ready": one.ready, "restartCount": one.restarts, "started": one.started,
    })
}

/// The containers of a pod as its status shows them: for pods of a former life.
pub fn initial(pod: &Value) -> Containers {
    let waiting = |list: &str, reason: &'static str| -> Vec<Container> {
        items(pod, list).iter().map(|spec| Container::waiting(spec, reason)).collect()
    };
    let init = waiting("/spec/initContainers", "PodInitializing");
    let reason = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    Containers { init, main: waiting("/spec/containers", reason), verdict: None, done: false }
}

//! Short views of Kubernetes objects for people, and running Jobs as plain values. Pure.

use std::collections::BTreeMap;

use contract::{
    labels,
    message::Work,
    outcome::{Reason, Termination, Timestamps},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ContainerStatus, Event, Pod, ResourceQuota},
};
use serde::Serialize;
use sessions::jobs::Active;

/// A Kubernetes Job of ours as a running Job; `None` without a work annotation.
pub fn active(job: &Job) -> Option<Active> {
    let empty = BTreeMap::new();
    let annotations = job.metadata.annotations.as_ref().unwrap_or(&empty);
    let work: Work = serde_json::from_str(annotations.get(labels::ANNOTATION_WORK)?).ok()?;
    let time = |name: &str| annotations.get(name).and_then(|text| text.parse::<Timestamp>().ok());
    let status = job.status.as_ref();
    Some(Active {
        first: work.identity.first,
        items: if work.pack.is_some() { u32::try_from(work.items().len()).unwrap_or(u32::MAX) } else { 1 },
        session: work.session,
        job: work.job,
        generation: work.identity.generation,
        attempt: work.identity.attempt,
        reason: progress(job),
        timestamps: Timestamps {
            published: time(labels::ANNOTATION_PUBLISHED),
            received: time(labels::ANNOTATION_RECEIVED),
            created: job.metadata.creation_timestamp.as_ref().map(|time| time.0),
            finished: status.and_then(|status| status.completion_time.as_ref()).map(|time| time.0),
            ..Timestamps::default()
        },
        kubernetes_job: job.metadata.name.clone().unwrap_or_default(),
    })
}

/// Whether the Job has ended, completed or failed.
pub fn is_finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True")
}

/// The progress of a Kubernetes Job without an outcome.
fn progress(job: &Job) -> Reason {
    let reason = |code: &str, message: String| Reason { code: code.to_owned(), message };
    let status = job.status.clone().unwrap_or_default();
    if is_finished(job) {
        return reason("settling", "the Kubernetes Job ended; its outcome will be written next".to_owned());
    }
    if job.metadata.deletion_timestamp.is_some() {
        return reason("settling", "the Kubernetes Job is being deleted; its outcome will be written next".to_owned());
    }
    if job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true) {
        return reason("suspended", "the Kubernetes Job is suspended until its queue admits it".to_owned());
    }
    if status.ready.unwrap_or_default() > 0 {
        return reason("running", String::new());
    }
    match (status.active.unwrap_or_default(), status.failed.unwrap_or_default()) {
        (0, 0) => reason("created", "no pod yet".to_owned()),
        (0, failed) => reason("retrying", format!("failed {failed} times; the next pod starts after a pause")),
        (_, 0) => reason("pending", "its pod is not running yet".to_owned()),
        (_, failed) => reason("retrying", format!("failed {failed} times; its next pod is not running yet")),
    }
}

/// A Pod in one line.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize)]
#[schemars(rename = "Pod")]
pub struct PodView {
    /// Name.
    pub name: String,
    /// One word: the phase, or the reason why its container waits or ended.
    pub state: String,
    /// A message of the cluster, if there is one.
    pub message: String,
    /// Node.
    pub node: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it was given a node.
    pub scheduled: Option<Timestamp>,
    /// When its container started.
    pub started: Option<Timestamp>,
    /// When its container stopped.
    pub finished: Option<Timestamp>,
    /// Exit code of the last container, once it has one.
    pub exit_code: Option<i32>,
    /// Restarts of its containers.
    pub restarts: i32,
}

impl From<&Pod> for PodView {
    fn from(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let before = status.init_container_statuses.unwrap_or_default();
        let prepares = before.len();
        let containers: Vec<ContainerStatus> =
            before.into_iter().chain(status.container_statuses.unwrap_or_default()).collect();
        let mut state = status.reason.or(status.phase).unwrap_or_else(|| "Unknown".to_owned());
        let mut message = status.message.unwrap_or_default();
        let mut exit_code = None;
        let (mut started, mut finished) = (None, None);
        let scheduled = status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "True")
            .and_then(|condition| condition.last_transition_time.as_ref())
            .map(|time| time.0);
        let unscheduled = status
            .conditions
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        if let Some(condition) = unscheduled {
            state = condition.reason.unwrap_or_else(|| "Unscheduled".to_owned());
            message = condition.message.unwrap_or_default();
        }
        for (index, container) in containers.iter().enumerate() {
            let Some(current) = &container.state else { continue };
            if let Some(waiting) = &current.waiting {
                state = waiting.reason.clone().unwrap_or(state);
                message = waiting.message.clone().unwrap_or(message);
                break;
            }
            if let Some(running) = &current.running {
                started = running.started_at.as_ref().map(|time| time.0);
            }
            // Init containers that succeeded are not shown.
            if let Some(terminated) = current.terminated.as_ref().filter(|end| index >= prepares || end.exit_code != 0)
            {
                started = terminated.started_at.as_ref().map(|time| time.0);
                finished = terminated.finished_at.as_ref().map(|time| time.0);
                exit_code = Some(terminated.exit_code);
                if terminated.exit_code != 0 {
                    state = terminated.reason.clone().unwrap_or(state);
                    message = terminated.message.clone().unwrap_or(message);
                    break;
                }
            }
        }
        // The termination message of our engine is JSON; people need the sentence in it.
        if let Ok(termination) = serde_json::from_str::<Termination>(&message) {
            message = termination.message;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            state = "Terminating".to_owned();
        }
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            state,
            message,
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            scheduled,
            started,
            finished,
            exit_code,
            restarts: containers.iter().map(|container| container.restart_count).sum(),
        }
    }
}

/// Sorts Pods by creation, oldest first. Kubernetes writes whole seconds; of one second, what changed last is last: a
/// Job's next Pod ends after the one before it.
pub(super) fn sort(pods: &mut [Pod]) {
    pods.sort_by_key(|pod| {
        let changed = pod.metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok());
        (pod.metadata.creation_timestamp.as_ref().map(|time| time.0), changed)
    });
}

/// The quotas that are used up, a sentence each: `quota q: count/jobs.batch is used up (5 of 5)`. Amounts such as `2Gi`
/// are compared as text: the quota controller writes a used-up amount like its limit.
pub fn full_quotas(quotas: &[ResourceQuota]) -> Vec<String> {
    let mut full = Vec::new();
    for quota in quotas {
        let Some(status) = &quota.status else { continue };
        let (Some(hard), Some(used)) = (&status.hard, &status.used) else { continue };
        let name = quota.metadata.name.as_deref().unwrap_or_default();
        for (resource, limit) in hard {
            if let Some(used) = used.get(resource).filter(|used| is_used_up(&used.0, &limit.0)) {
                full.push(format!("quota {name}: {resource} is used up ({} of {})", used.0, limit.0));
            }
        }
    }
    full
}

fn is_used_up(used: &str, limit: &str) -> bool {
    match (used.parse::<u64>(), limit.parse::<u64>()) {
        // A limit of 0 is not used up.
        (Ok(0), Ok(0)) => false,
        (Ok(used), Ok(limit)) => used >= limit,
        _ => used == limit,
    }
}

/// An event in one line.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize)]
#[schemars(rename = "Event")]
pub struct EventView {
    /// When it last happened.
    pub time: Option<Timestamp>,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often.
    pub count: i32,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        let time = event.last_timestamp.map(|time| time.0).or(event.event_time.map(|time| time.0));
        Self {
            time: time.or(event.metadata.creation_timestamp.map(|time| time.0)),
            kind: event.type_.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
            count: event.count.unwrap_or(1),
        }
    }
}

/// The state of a business's orchestrator.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize)]
#[schemars(rename = "Orchestrator")]
pub struct OrchestratorView {
    /// Replicas wanted.
    pub wanted: i32,
    /// Replicas ready.
    pub ready: i32,
    /// Its problem, if there is one.
    pub problem: Option<String>,
}

/// The state of the orchestrator, from its Deployments and its Pods.
pub fn orchestrator(deployments: &[Deployment], pods: &[Pod]) -> OrchestratorView {
    let wanted = deployments.iter().filter_map(|d| d.spec.as_ref()).map(|spec| spec.replicas.unwrap_or(1)).sum();
    let ready = deployments.iter().filter_map(|d| d.status.as_ref()?.ready_replicas).sum();
    let problem = if deployments.is_empty() {
        Some("it is not deployed".to_owned())
    } else if wanted == 0 {
        Some("it is scaled to 0, so it takes no messages".to_owned())
    } else if ready < wanted {
        let failing = pods.iter().map(PodView::from).find(|pod| pod.state != "Running" || pod.restarts > 0);
        Some(match failing {
            Some(pod) if pod.message.is_empty() => format!("{ready} of {wanted} ready; {} is {}", pod.name, pod.state),
            Some(pod) => format!("{ready} of {wanted} ready; {} is {}: {}", pod.name, pod.state, pod.message),
            None => format!("{ready} of {wanted} ready"),
        })
    } else {
        None
    };
    OrchestratorView { wanted, ready, problem }
}

#[cfg(test)]
mod tests;

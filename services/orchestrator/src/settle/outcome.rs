//! Decides the outcome of a Job from the Job, its pods and the results in the bucket. Pure.

use contract::{
    Identity, Outcome, exit,
    message::Work,
    names,
    outcome::{Reason, State, Termination, Timestamps},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
};

use crate::{
    execute::job,
    watch::job::{Phase, conditions, phase},
};

/// Reason code of a Job whose every attempt failed.
pub(crate) const RETRIES_EXHAUSTED: &str = "retries-exhausted";

/// The facts that decide an outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) job: &'a Job,
    pub(crate) work: &'a Work,
    pub(crate) pods: &'a [Pod],
    pub(crate) results: Results,
    /// End of the last container's log.
    pub(crate) log_tail: Option<&'a str>,
    pub(crate) now: Timestamp,
}

/// The result in the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Results {
    /// Whether it exists, or every item of the range has one.
    pub(crate) is_complete: bool,
    /// Rows that have an error in it.
    pub(crate) row_errors: u32,
}

/// The state of a Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobState {
    /// It has not ended; there is nothing to settle.
    Running,
    /// It ended.
    Ended(Phase),
    /// It was deleted before it had ended.
    Deleted,
}

/// Reads the state of a Job.
pub(crate) fn job_state(job: &Job) -> JobState {
    match phase(job) {
        Phase::Active if job.metadata.deletion_timestamp.is_some() => JobState::Deleted,
        Phase::Active => JobState::Running,
        ended => JobState::Ended(ended),
    }
}

/// Decides the outcome of a Job that ended or was deleted.
pub(crate) fn decide(facts: Facts<'_>) -> Outcome {
    let Facts { job, work, pods, results, log_tail, now } = facts;
    let last = last_pod(pods);
    // What stopped an init container of a deleted Job is the deletion.
    let stopped =
        last.and_then(|pod| if job_state(job) == JobState::Deleted { engine_end(pod) } else { terminated(pod) });
    let (state, code, message) = reason(facts, last, stopped);
    let mut outcome = Outcome::new(&work.business, state, &code, message);
    let (message_id, published, received) = job::read_origin(job);
    if state == State::Succeeded {
        note_row_errors(&mut outcome, results.row_errors);
    } else {
        outcome.log_tail = log_tail.map(str::to_owned).filter(|tail| !tail.is_empty());
    }
    outcome.timestamps = Timestamps {
        published,
        received,
        created: job.metadata.creation_timestamp.as_ref().map(|time| time.0),
        finished: ended_at(job),
        settled: Some(now),
        ..Timestamps::default()
    };
    if let Some(pod) = last {
        PodFacts::new(pod, stopped).add_to(&mut outcome);
    }
    outcome.kubernetes_job = job.metadata.name.clone();
    let cpu: Vec<f64> = pods.iter().filter_map(termination).map(|message| message.cpu_seconds).collect();
    outcome.cpu_seconds = (!cpu.is_empty()).then(|| cpu.iter().sum());
    outcome.pods = pods_started(job).max(u32::try_from(pods.len()).unwrap_or(u32::MAX));
    outcome.message_id = message_id;
    outcome.work = Some(work.clone());
    debug_assert!(state != State::Succeeded || results.is_complete, "succeeded without its result");
    outcome
}

/// What an outcome says of the pod that ended last.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodFacts {
    node: Option<String>,
    image: Option<String>,
    scheduled: Option<Timestamp>,
    started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    exit_code: Option<i32>,
}

impl PodFacts {
    /// The facts of a pod that stopped like this.
    pub(crate) fn new(pod: &Pod, stopped: Option<&ContainerStateTerminated>) -> Self {
        Self {
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            image: image(pod),
            scheduled: scheduled(pod),
            started: stopped.and_then(|stopped| stopped.started_at.as_ref()).map(|time| time.0),
            finished: stopped.and_then(|stopped| stopped.finished_at.as_ref()).map(|time| time.0),
            exit_code: stopped.map(|stopped| stopped.exit_code),
        }
    }

    /// Adds them to an outcome.
    pub(crate) fn add_to(self, outcome: &mut Outcome) {
        let times = &mut outcome.timestamps;
        (times.scheduled, times.started, times.finished) =
            (self.scheduled, self.started, self.finished.or(times.finished));
        (outcome.node, outcome.image, outcome.exit_code) = (self.node, self.image, self.exit_code);
    }
}

/// Records how many rows have an error in the result of a Job that succeeded.
pub(crate) fn note_row_errors(outcome: &mut Outcome, row_errors: u32) {
    outcome.row_errors = row_errors;
    match row_errors {
        0 => {}
        1 => outcome.reason.message.push_str("; 1 row in it has an error"),
        _ => outcome.reason.message.push_str(&format!("; {row_errors} rows in it have an error")),
    }
}

/// The reason of a Job whose input is missing.
pub(crate) fn input_missing(work: &Work) -> Reason {
    let Identity { object, generation, .. } = &work.identity;
    Reason {
        code: "input-missing".to_owned(),
        message: format!("generation {generation} of {object} does not exist in the bucket"),
    }
}

/// When a Job ended, according to its condition.
pub(crate) fn ended_at(job: &Job) -> Option<Timestamp> {
    let ended = conditions(job).find(|c| matches!(&*c.type_, "Complete" | "Failed") && c.status == "True")?;
    ended.last_transition_time.as_ref().map(|time| time.0)
}

/// Name of the most relevant pod, and of its engine container.
pub(crate) fn pod_with_log(pods: &[Pod]) -> Option<(&str, Option<&str>)> {
    let pod = last_pod(pods)?;
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| &*container.name);
    Some((pod.metadata.name.as_deref()?, container))
}

/// Whether a pod has not ended.
pub(crate) fn is_running(pod: &Pod) -> bool {
    !matches!(pod_phase(pod), "Succeeded" | "Failed")
}

/// The latest version of each pod: a stopped pod may be deleted.
pub(crate) fn latest_pods(before: Vec<Pod>, after: Vec<Pod>) -> Vec<Pod> {
    let is_deleted = |pod: &Pod| !after.iter().any(|other| other.metadata.name == pod.metadata.name);
    let mut all: Vec<Pod> = before.into_iter().filter(is_deleted).collect();
    all.extend(after);
    all
}

fn reason(facts: Facts<'_>, last: Option<&Pod>, stopped: Option<&ContainerStateTerminated>) -> (State, String, String) {
    let Facts { job, results: Results { is_complete, .. }, .. } = facts;
    let (state, code, message) = match job_state(job) {
        // Also when the engine finished its work before a deletion stopped it, or was killed before its exit.
        JobState::Ended(_) | JobState::Deleted if is_complete => return completed(),
        JobState::Ended(Phase::Complete) => {
            (State::Failed, "result-missing", "the engine ended well, but its result is missing")
        }
        JobState::Deleted | JobState::Running => {
            (State::Cancelled, "cancelled", "the Job was deleted before it had ended")
        }
        JobState::Ended(_) => return failed(job, last, stopped),
    };
    (state, code.to_owned(), message.to_owned())
}

/// State and reason of work whose result exists.
pub(crate) fn completed() -> (State, String, String) {
    (State::Succeeded, "completed".to_owned(), "the result is written".to_owned())
}

fn failed(job: &Job, last: Option<&Pod>, stopped: Option<&ContainerStateTerminated>) -> (State, String, String) {
    let condition = conditions(job).find(|c| c.type_ == "Failed" && c.status == "True");
    let job_reason = condition.and_then(|c| c.reason.as_deref()).unwrap_or_default();
    let job_message = condition.and_then(|c| c.message.as_deref()).unwrap_or_default();
    let pod_status = last.and_then(|pod| pod.status.as_ref());
    let pod_reason = pod_status.and_then(|status| status.reason.as_deref()).unwrap_or_default();
    let pod_message = pod_status.and_then(|status| status.message.as_deref()).unwrap_or_default();
    let exit_code = stopped.map(|stopped| stopped.exit_code);
    let exhausted = ["BackoffLimitExceeded", "MaxFailedIndexesExceeded", "FailedIndexes"].contains(&job_reason);
    let with_retries = |text: String| if exhausted { format!("{text}, and its retries are used up") } else { text };
    let (code, message) = if exit_code == Some(i32::from(exit::PERMANENT)) {
        match last.and_then(termination) {
            Some(reported) if names::is_dns_label(&reported.code) => (reported.code, reported.message),
            _ => ("permanent-failure".to_owned(), "the engine reported a permanent failure (exit code 10)".to_owned()),
        }
    } else if pod_reason == "DeadlineExceeded" || job_reason == "DeadlineExceeded" {
        ("timeout".to_owned(), with_retries("the engine ran longer than its timeout".to_owned()))
    } else if stopped.is_some_and(|stopped| stopped.reason.as_deref() == Some("OOMKilled")) {
        (
            "out-of-memory".to_owned(),
            with_retries("the engine was killed for using more memory than its limit".to_owned()),
        )
    } else if pod_reason == "Evicted" {
        ("evicted".to_owned(), with_retries(format!("the node evicted the Pod: {pod_message}")))
    } else if exhausted {
        let last = match (last.and_then(termination), exit_code) {
            (Some(reported), Some(code)) if !reported.message.is_empty() => {
                format!("the engine failed each time, last with exit code {code}: {}", reported.message)
            }
            (_, Some(code)) => format!("the engine failed each time, last with exit code {code}"),
            (_, None) => format!("the engine did not run to its end ({pod_reason} {pod_message})"),
        };
        (RETRIES_EXHAUSTED.to_owned(), last)
    } else {
        let code = if job_reason.is_empty() { "failed".to_owned() } else { kebab(job_reason) };
        (code, job_message.to_owned())
    };
    (State::Failed, code, message)
}

/// `BackoffLimitExceeded` as `backoff-limit-exceeded`.
fn kebab(reason: &str) -> String {
    let mut text = String::new();
    for character in reason.chars().filter(char::is_ascii_alphanumeric) {
        if character.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(character.to_ascii_lowercase());
    }
    text
}

/// The most relevant pod: of those that failed, else of all, the one that finished last. Kubernetes writes whole
/// seconds; of one second, what changed last counts.
fn last_pod(pods: &[Pod]) -> Option<&Pod> {
    let key = |pod: &&Pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let finished = terminated(pod).and_then(|stopped| stopped.finished_at.as_ref()).map(|time| time.0);
        let changed = pod.metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok());
        (pod_phase(pod) == "Failed", finished, created, changed)
    };
    pods.iter().max_by_key(key)
}

pub(crate) fn pod_phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// How the first container of a pod stopped.
fn engine_end(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let mut main = pod.status.as_ref()?.container_statuses.iter().flatten();
    main.find_map(end)
}

/// How the first container of a pod stopped, or the init container whose failure kept it from starting.
pub(crate) fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let mut init = pod.status.as_ref()?.init_container_statuses.iter().flatten();
    engine_end(pod).or_else(|| init.find_map(|status| end(status).filter(|end| end.exit_code != 0)))
}

fn end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

/// What the engine wrote as its termination message.
pub(crate) fn termination(pod: &Pod) -> Option<Termination> {
    serde_json::from_str(terminated(pod)?.message.as_deref()?).ok()
}

fn scheduled(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let scheduled = conditions.into_iter().find(|c| c.type_ == "PodScheduled" && c.status == "True")?;
    scheduled.last_transition_time.as_ref().map(|time| time.0)
}

fn image(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let image = if status.image_id.is_empty() { &status.image } else { &status.image_id };
    Some(image.clone()).filter(|image| !image.is_empty())
}

fn pods_started(job: &Job) -> u32 {
    let Some(status) = &job.status else { return 0 };
    let counts = [status.succeeded, status.failed, status.active];
    counts.into_iter().flatten().filter_map(|count| u32::try_from(count).ok()).sum()
}

#[cfg(test)]
mod tests;

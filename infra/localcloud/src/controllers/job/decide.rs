//! What to do about a Job, given its pods: a pure function of both and the time.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    indexes,
    tally::{self, Backoff, Pod, Tally},
};
use crate::kubernetes::{
    events::Weight,
    value::{self, number, text, truth},
};

/// Most pods made at a time.
const BATCH: usize = 500;
/// Longest pause after failures.
const MAX_PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// A pod to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodToCreate {
    pub(super) index: Option<u32>,
    pub(super) failures: Option<u32>,
}

/// A pod to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodToDelete {
    pub(super) name: String,
    /// Whether it is to leave no trace in the counts.
    pub(super) uncounted: bool,
}

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(super) create: Vec<PodToCreate>,
    pub(super) delete: Vec<PodToDelete>,
    /// Pods that the status counts from now on.
    pub(super) count: Vec<String>,
    pub(super) backoff: Backoff,
    /// When to decide again.
    pub(super) wake: Option<Timestamp>,
    pub(super) events: Vec<(Weight, &'static str, String)>,
    status: Value,
    active: usize,
}

impl Decision {
    /// The Job's status once this many of the pods were made.
    pub(super) fn status(&self, created: usize) -> Value {
        let mut status = self.status.clone();
        set_count(&mut status, "active", self.active + created);
        status
    }

    fn condition(&mut self, kind: &str, reason: &str, message: &str, now: Timestamp) {
        let conditions = value::list_at(&mut self.status, &["conditions"]);
        conditions.retain(|one| text(one, "/type") != kind);
        let at = value::seconds(now);
        conditions.push(json!({
            "type": kind, "status": "True", "reason": reason, "message": message, "lastProbeTime": at,
            "lastTransitionTime": at,
        }));
    }
}

fn set_count(status: &mut Value, field: &str, count: usize) {
    if count == 0 {
        value::unset(status, &[field]);
    } else {
        value::set(status, &[field], count);
    }
}

/// Decides.
pub(super) fn decide(
    job: &Value,
    pods: &[Pod<'_>],
    backoff: Backoff,
    base: SignedDuration,
    now: Timestamp,
) -> Decision {
    let status = job.get("status").cloned().unwrap_or_else(|| json!({}));
    let mut decision = Decision { status, backoff, ..Decision::default() };
    let is = |kind: &str| value::has_condition(job, kind);
    if is("Complete") || is("Failed") {
        decision.count = pods
            .iter()
            .filter(|pod| !pod.counted && (pod.ended() || pod.deleting))
            .map(|pod| pod.name.clone())
            .collect();
        terminating(&mut decision, pods);
        return decision;
    }
    let suspended = truth(job, "/spec/suspend");
    if text(&decision.status, "/startTime").is_empty() && !suspended {
        value::set(&mut decision.status, &["startTime"], value::seconds(now));
    }
    let tally = tally::tally(job, pods, backoff, now);
    (decision.count, decision.backoff) = (tally.counted.clone(), tally.backoff);
    if value::is_deleting(job) {
        write(&mut decision, job, pods, &tally);
        return decision;
    }
    let verdict = target(job).or_else(|| verdict(job, pods, &tally, &decision.status, now, &mut decision.wake));
    let over = verdict.is_some() || is("SuccessCriteriaMet") || enough(job, pods, &tally);
    if over {
        finish(&mut decision, job, pods, verdict, now);
    } else if suspended {
        suspend(&mut decision, job, pods, now);
    } else {
        resume(&mut decision, job, now);
        fill(&mut decision, job, pods, &tally, base, now);
    }
    write(&mut decision, job, pods, &tally);
    decision
}

/// The verdict that was passed already and waits for the last pods.
fn target(job: &Value) -> Option<(String, String)> {
    let target = value::condition(job, "FailureTarget").filter(|target| text(target, "/status") == "True")?;
    Some((text(target, "/reason").to_owned(), text(target, "/message").to_owned()))
}

/// Why the Job has failed, if it has.
fn verdict(
    job: &Value,
    pods: &[Pod<'_>],
    tally: &Tally,
    status: &Value,
    now: Timestamp,
    wake: &mut Option<Timestamp>,
) -> Option<(String, String)> {
    let because = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
    if let Some(why) = &tally.fail_job {
        return because("PodFailurePolicy", why);
    }
    let limit = number(job, "/spec/backoffLimit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(6);
    let restarts: i64 = if text(job, "/spec/template/spec/restartPolicy") == "OnFailure" {
        let statuses = pods.iter().filter(|pod| !pod.ended()).flat_map(|pod| {
            value::items(pod.object, "/status/containerStatuses")
                .iter()
                .chain(value::items(pod.object, "/status/initContainerStatuses"))
        });
        statuses.filter_map(|status| number(status, "/restartCount")).sum()
    } else {
        0
    };
    let restarts = usize::try_from(restarts).unwrap_or_default();
    if tally.failed > limit || restarts > 0 && restarts >= limit.max(1) {
        return because("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if let Some(seconds) = number(job, "/spec/activeDeadlineSeconds").filter(|_| !truth(job, "/spec/suspend")) {
        let start = value::time(status, "/startTime").unwrap_or(now);
        let end = start.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        if now >= end {
            return because("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        *wake = Some(end);
    }
    let failed = tally.failed_indexes.len();
    if let Some(max) = number(job, "/spec/maxFailedIndexes").and_then(|max| usize::try_from(max).ok())
        && failed > max
    {
        return because("MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
    }
    let completions = number(job, "/spec/completions").and_then(|count| usize::try_from(count).ok());
    if failed > 0 && completions.is_some_and(|completions| failed + tally.completed.len() >= completions) {
        return because("FailedIndexes", "Job has failed indexes");
    }
    None
}

/// Whether enough pods have succeeded.
fn enough(job: &Value, pods: &[Pod<'_>], tally: &Tally) -> bool {
    match number(job, "/spec/completions").and_then(|completions| usize::try_from(completions).ok()) {
        Some(completions) => tally.succeeded >= completions,
        None => tally.succeeded > 0 && !pods.iter().any(Pod::active),
    }
}

/// Ends the pods that are left, then the Job.
fn finish(decision: &mut Decision, job: &Value, pods: &[Pod<'_>], verdict: Option<(String, String)>, now: Timestamp) {
    let before = value::has_condition(job, "FailureTarget") || value::has_condition(job, "SuccessCriteriaMet");
    let (target, end, reason, message) = match &verdict {
        Some((reason, message)) => ("FailureTarget", "Failed", reason.as_str(), message.as_str()),
        None => ("SuccessCriteriaMet", "Complete", "CompletionsReached", "Reached expected number of succeeded pods"),
    };
    if !before {
        decision.condition(target, reason, message, now);
    }
    decision.delete = pods
        .iter()
        .filter(|pod| pod.active())
        .map(|pod| PodToDelete { name: pod.name.clone(), uncounted: false })
        .collect();
    if pods.iter().any(|pod| !(pod.ended() || pod.deleting && pod.counted && verdict.is_none())) {
        return;
    }
    decision.condition(end, reason, message, now);
    decision.wake = None;
    match verdict {
        Some((reason, message)) => {
            let reason = known_reason(&reason);
            decision.events.push((Weight::Warning, reason, message));
        }
        None => {
            value::set(&mut decision.status, &["completionTime"], value::seconds(now));
            decision.events.push((Weight::Normal, "Completed", "Job completed".to_owned()));
        }
    }
}

fn known_reason(reason: &str) -> &'static str {
    match reason {
        "BackoffLimitExceeded" => "BackoffLimitExceeded",
        "DeadlineExceeded" => "DeadlineExceeded",
        "PodFailurePolicy" => "PodFailurePolicy",
        "FailedIndexes" => "FailedIndexes",
        "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
        _ => "Failed",
    }
}

fn suspend(decision: &mut Decision, job: &Value, pods: &[Pod<'_>], now: Timestamp) {
    decision.delete = pods
        .iter()
        .filter(|pod| pod.active())
        .map(|pod| PodToDelete { name: pod.name.clone(), uncounted: true })
        .collect();
    value::unset(&mut decision.status, &["startTime"]);
    if !value::has_condition(job, "Suspended") {
        decision.condition("Suspended", "JobSuspended", "Job suspended", now);
        decision.events.push((Weight::Normal, "Suspended", "Job suspended".to_owned()));
    }
}

fn resume(decision: &mut Decision, job: &Value, now: Timestamp) {
    if value::has_condition(job, "Suspended") {
        decision.condition("Suspended", "JobResumed", "Job resumed", now);
        for condition in value::list_at(&mut decision.status, &["conditions"]) {
            if text(condition, "/type") == "Suspended" {
                value::set(condition, &["status"], "False");
            }
        }
        value::set(&mut decision.status, &["startTime"], value::seconds(now));
        decision.events.push((Weight::Normal, "Resumed", "Job resumed".to_owned()));
    }
}

/// Makes the pods that lack, or takes away those that are too many.
fn fill(decision: &mut Decision, job: &Value, pods: &[Pod<'_>], tally: &Tally, base: SignedDuration, now: Timestamp) {
    let amount = |field: &str| number(job, &format!("/spec/{field}")).and_then(|count| usize::try_from(count).ok());
    let parallelism = amount("parallelism").unwrap_or(1);
    let completions = amount("completions");
    let only_failed = text(job, "/spec/podReplacementPolicy") == "Failed";
    let blocks = |pod: &&Pod<'_>| pod.active() || only_failed && pod.deleting && !pod.ended();
    let active: Vec<_> = pods.iter().filter(blocks).collect();
    let desired = match completions {
        Some(completions) => parallelism.min(completions.saturating_sub(tally.succeeded + tally.failed_indexes.len())),
        None if tally.succeeded > 0 => active.len().min(parallelism),
        None => parallelism,
    };
    if active.len() > desired {
        let running = active.iter().filter(|pod| pod.active());
        decision.delete =
            running.skip(desired).map(|pod| PodToDelete { name: pod.name.clone(), uncounted: true }).collect();
        return;
    }
    let lacking = desired - active.len();
    if lacking == 0 {
        return;
    }
    let per_index = job.pointer("/spec/backoffLimitPerIndex").is_some();
    // With a limit for each index, each index waits by itself.
    if let (Some(last), failures @ 1..) = (decision.backoff.last, decision.backoff.failures)
        && !per_index
    {
        let at = retry_at(last, failures, base);
        if at > now {
            decision.wake = Some(decision.wake.map_or(at, |wake| wake.min(at)));
            return;
        }
    }
    let batch = lacking.min(BATCH);
    if batch < lacking {
        decision.wake = Some(now);
    }
    if text(job, "/spec/completionMode") != "Indexed" {
        decision.create = vec![PodToCreate { index: None, failures: None }; batch];
        return;
    }
    let taken: BTreeSet<u32> = active.iter().filter_map(|pod| pod.index).collect();
    let all = 0..u32::try_from(completions.unwrap_or_default()).unwrap_or(u32::MAX);
    let free = all.filter(|index| {
        !taken.contains(index) && !tally.completed.contains(index) && !tally.failed_indexes.contains(index)
    });
    let failures = |index: u32| per_index.then(|| tally.failures.get(&index).copied().unwrap_or_default());
    let mut wake = decision.wake;
    let due = free.filter(|index| {
        let last = pods.iter().filter(|pod| pod.failed && pod.index == Some(*index)).filter_map(Pod::finished).max();
        let at = match (failures(*index), last) {
            (Some(failures @ 1..), Some(last)) => retry_at(last, failures, base),
            _ => now,
        };
        if at > now {
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
        }
        at <= now
    });
    decision.create =
        due.take(batch).map(|index| PodToCreate { index: Some(index), failures: failures(index) }).collect();
    decision.wake = wake;
}

/// When a pod is made after so many failures, the last of them then.
fn retry_at(last: Timestamp, failures: u32, base: SignedDuration) -> Timestamp {
    let factor = 2_i32.saturating_pow(failures.saturating_sub(1).min(20));
    let delay = base.checked_mul(factor).unwrap_or(MAX_PAUSE).min(MAX_PAUSE);
    last.checked_add(delay).unwrap_or(last)
}

fn write(decision: &mut Decision, job: &Value, pods: &[Pod<'_>], tally: &Tally) {
    let deleted = decision.delete.len();
    decision.active = pods.iter().filter(|pod| pod.active()).count().saturating_sub(deleted);
    let doomed = |pod: &&Pod<'_>| decision.delete.iter().any(|one| one.name == pod.name);
    let ready = pods.iter().filter(|pod| pod.active() && pod.ready && !doomed(pod)).count();
    terminating(decision, pods);
    let status = &mut decision.status;
    value::set(status, &["ready"], ready);
    value::set(status, &["uncountedTerminatedPods"], json!({}));
    set_count(status, "succeeded", tally.succeeded);
    set_count(status, "failed", tally.failed);
    if text(job, "/spec/completionMode") == "Indexed" && !tally.completed.is_empty() {
        value::set(status, &["completedIndexes"], indexes::format(&tally.completed));
    }
    if job.pointer("/spec/backoffLimitPerIndex").is_some() {
        value::set(status, &["failedIndexes"], indexes::format(&tally.failed_indexes));
    }
}

fn terminating(decision: &mut Decision, pods: &[Pod<'_>]) {
    let count = pods.iter().filter(|pod| pod.deleting && !pod.ended()).count() + decision.delete.len();
    value::set(&mut decision.status, &["terminating"], count);
}

//! Decides the outcome of each input of a batch. Pure.

use std::collections::{BTreeSet, HashSet};

use contract::{
    Outcome,
    batch::{Batch, Entry, Manifest},
    exit, labels,
    outcome::{State, Timestamps},
};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

pub(crate) use self::reports::Reports;
use crate::outcome::{self, JobState, RETRIES_EXHAUSTED};

mod reports;

/// Label of a pod of an Indexed Job.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The facts that decide the outcomes.
pub(crate) struct BatchFacts<'a> {
    pub(crate) job: &'a Job,
    pub(crate) batch: &'a Batch,
    pub(crate) state: JobState,
    pub(crate) manifest: &'a Manifest,
    pub(crate) pods: &'a [Pod],
    pub(crate) reports: Reports,
    /// Names of the results that exist, of inputs that no report says are done.
    pub(crate) results: BTreeSet<String>,
    /// Inputs that failed and do not exist in the bucket.
    pub(crate) missing_inputs: HashSet<u32>,
    pub(crate) now: Timestamp,
}

/// The decision about an input.
#[derive(Debug, PartialEq)]
pub(crate) enum Fate {
    /// Record this outcome.
    Settle(Box<Outcome>),
    /// No pod settled it: requeue it as a Job of its own.
    RunAlone,
    /// The batch was deleted because of other inputs: requeue it.
    Requeue,
    /// A pod may still settle it.
    Wait,
}

impl BatchFacts<'_> {
    /// The inputs of which no report has the final result.
    pub(crate) fn unresolved(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0..).zip(&self.manifest.entries).filter(|(input, _)| !self.reports.is_final(*input))
    }

    /// Whether a report says how many rows of the result of an input have an error.
    pub(crate) fn knows_row_errors(&self, input: u32) -> bool {
        self.reports.done(input).is_some_and(|(_, done)| done.row_errors.is_some())
    }

    /// The inputs with transient failures and without a result.
    pub(crate) fn exhausted(&self) -> impl Iterator<Item = u32> {
        let failed = self.unresolved().filter(|(input, _)| self.reports.failed(*input).is_some());
        failed.filter(|(_, entry)| !self.results.contains(&entry.work.output(None))).map(|(input, _)| input)
    }
}

/// Decides what happens to an input.
pub(crate) fn decide(facts: &BatchFacts<'_>, input: u32, entry: &Entry) -> Fate {
    let done = facts.reports.done(input);
    let failed = facts.reports.failed(input);
    let times = |started, finished| (Some(started), Some(finished));
    let (report, state, reason, (started, finished)) = if let Some((report, done)) = done {
        (Some(report), State::Succeeded, completed(), times(done.started, done.finished))
    } else if facts.results.contains(&entry.work.output(None)) {
        (None, State::Succeeded, completed(), (None, outcome::ended_at(facts.job)))
    } else if let Some((report, failed)) = failed.filter(|(_, failed)| failed.permanent) {
        let reason = (failed.code.clone(), failed.message.clone());
        (Some(report), State::Failed, reason, times(failed.started, failed.finished))
    } else {
        match (facts.state, failed) {
            (JobState::Running, _) => return Fate::Wait,
            (JobState::Deleted, _)
                if PartialCancel::from_annotations(facts.job)
                    .is_some_and(|partial| !partial.includes(input, entry)) =>
            {
                return Fate::Requeue;
            }
            (JobState::Deleted, _) => {
                let message = "the Job was deleted before it had ended".to_owned();
                (None, State::Cancelled, ("cancelled".to_owned(), message), (None, None))
            }
            (JobState::Ended(_), None) => return Fate::RunAlone,
            (JobState::Ended(_), Some((report, failed))) => {
                let reason = if facts.missing_inputs.contains(&input) {
                    let reason = outcome::input_missing(&entry.work);
                    (reason.code, reason.message)
                } else if failed.code == "timeout" {
                    (failed.code.clone(), format!("{}, and its retries are used up", failed.message))
                } else {
                    let message = format!("the engine failed each time, last: {}", failed.message);
                    (RETRIES_EXHAUSTED.to_owned(), message)
                };
                (Some(report), State::Failed, reason, times(failed.started, failed.finished))
            }
        }
    };
    let mut ended = Outcome::new(&entry.work.business, state, &reason.0, reason.1);
    let pod = report.and_then(|report| facts.pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(&report.pod)));
    if let (State::Failed, Some((_, failed))) = (state, failed) {
        ended.exit_code = Some(i32::from(if failed.permanent { exit::PERMANENT } else { exit::TRANSIENT }));
        ended.log_tail = failed.log_tail.clone().filter(|tail| !tail.is_empty());
    }
    if let Some((_, done)) = done {
        outcome::note_row_errors(&mut ended, done.row_errors.unwrap_or_default());
    }
    ended.timestamps = Timestamps {
        published: entry.published,
        received: Some(entry.received),
        created: facts.job.metadata.creation_timestamp.as_ref().map(|time| time.0),
        scheduled: pod.and_then(outcome::scheduled),
        started,
        finished,
        settled: Some(facts.now),
    };
    ended.kubernetes_job = facts.job.metadata.name.clone();
    ended.node = pod.and_then(|pod| pod.spec.as_ref()).and_then(|spec| spec.node_name.clone());
    ended.image = pod.and_then(outcome::image);
    ended.cpu_seconds = report.map(|report| report.cpu_seconds);
    ended.pods = count_pods(facts, facts.batch.index_of(input));
    ended.message_id = Some(entry.message_id.clone());
    ended.work = Some(entry.work.clone());
    Fate::Settle(Box::new(ended))
}

/// The cancelled part of a batch that was deleted because of some of its inputs.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct PartialCancel {
    /// Inputs published before this time.
    pub(crate) before: Option<Timestamp>,
    /// The inputs at these positions.
    pub(crate) inputs: Vec<u32>,
}

impl PartialCancel {
    /// Read from a Job's annotations; `None` when the whole batch was deleted.
    fn from_annotations(job: &Job) -> Option<Self> {
        let annotations = job.metadata.annotations.as_ref()?;
        let before = annotations.get(labels::ANNOTATION_CANCELLED_BEFORE).and_then(|time| time.parse().ok());
        let inputs = annotations.get(labels::ANNOTATION_CANCELLED_INPUTS).map(String::as_str).unwrap_or_default();
        let inputs: Vec<u32> = inputs.split(',').filter_map(|input| input.parse().ok()).collect();
        (before.is_some() || !inputs.is_empty()).then_some(Self { before, inputs })
    }

    fn includes(&self, input: u32, entry: &Entry) -> bool {
        self.before.is_some_and(|before| !is_after(entry, before)) || self.inputs.contains(&input)
    }

    /// The annotations of a Job for this part.
    pub(crate) fn annotations(&self) -> Vec<(&'static str, String)> {
        let inputs: Vec<String> = self.inputs.iter().map(ToString::to_string).collect();
        let before = self.before.map(|before| (labels::ANNOTATION_CANCELLED_BEFORE, before.to_string()));
        let inputs = (!inputs.is_empty()).then(|| (labels::ANNOTATION_CANCELLED_INPUTS, inputs.join(",")));
        before.into_iter().chain(inputs).collect()
    }
}

/// Whether an input came after this time, so that a cancel at this time spares it. Admission checks a requeued input
/// once more.
pub(crate) fn is_after(entry: &Entry, before: Timestamp) -> bool {
    entry.published.unwrap_or(entry.received) >= before
}

fn completed() -> (String, String) {
    ("completed".to_owned(), "the result is written".to_owned())
}

/// How many pods of an index still exist.
fn count_pods(facts: &BatchFacts<'_>, index: u32) -> u32 {
    let index = index.to_string();
    let of_index = |pod: &&Pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get(INDEX)) == Some(&index);
    u32::try_from(facts.pods.iter().filter(of_index).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests;

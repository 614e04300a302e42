//! How each input of a batch ended and why. Pure.

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
use crate::outcome::{self, RETRIES_EXHAUSTED, Standing};

mod reports;

/// Label of a pod of an Indexed Job.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// Everything the outcomes are decided from.
pub(crate) struct Facts<'a> {
    pub(crate) job: &'a Job,
    pub(crate) batch: &'a Batch,
    pub(crate) standing: Standing,
    pub(crate) manifest: &'a Manifest,
    pub(crate) pods: &'a [Pod],
    pub(crate) reports: Reports,
    /// Names of the results that exist, of inputs that no report says are done.
    pub(crate) results: BTreeSet<String>,
    /// Inputs that failed and are not in the bucket.
    pub(crate) gone: HashSet<u32>,
    pub(crate) now: Timestamp,
}

/// What is to become of an input.
#[derive(Debug, PartialEq)]
pub(crate) enum Fate {
    /// It ended so.
    Ended(Box<Outcome>),
    /// No pod brought it to an end; it is to be a Job of its own.
    Alone,
    /// The batch was ended because of other inputs; it is to begin again.
    Again,
    /// It is still being worked on.
    Later,
}

impl Facts<'_> {
    /// The inputs of which no report says how they ended for good.
    pub(crate) fn unresolved(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0..).zip(&self.manifest.entries).filter(|(input, _)| !self.reports.is_known(*input))
    }

    /// The inputs that failed for what a retry could have cured, and have no result.
    pub(crate) fn given_up(&self) -> impl Iterator<Item = u32> {
        let failed = self.unresolved().filter(|(input, _)| self.reports.failed(*input).is_some());
        failed.filter(|(_, entry)| !self.results.contains(&entry.work.output(None))).map(|(input, _)| input)
    }
}

/// Decides what is to become of an input.
pub(crate) fn decide(facts: &Facts<'_>, input: u32, entry: &Entry) -> Fate {
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
        match (facts.standing, failed) {
            (Standing::Running, _) => return Fate::Later,
            (Standing::Deleted, _) if Cut::of(facts.job).is_some_and(|cut| !cut.means(input, entry)) => {
                return Fate::Again;
            }
            (Standing::Deleted, _) => {
                let message = "the Job was deleted before it had ended".to_owned();
                (None, State::Cancelled, ("cancelled".to_owned(), message), (None, None))
            }
            (Standing::Ended(_), None) => return Fate::Alone,
            (Standing::Ended(_), Some((report, failed))) => {
                let reason = if facts.gone.contains(&input) {
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
    ended.pods = pods_of(facts, facts.batch.index_of(input));
    ended.message_id = Some(entry.message_id.clone());
    ended.work = Some(entry.work.clone());
    Fate::Ended(Box::new(ended))
}

/// What of a batch was cancelled, when it was deleted because of some of its inputs.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cut {
    /// What was published before this time.
    pub(crate) before: Option<Timestamp>,
    /// The inputs at these positions.
    pub(crate) inputs: Vec<u32>,
}

impl Cut {
    /// As a Job's annotations tell; `None` when it was deleted as a whole.
    fn of(job: &Job) -> Option<Self> {
        let annotations = job.metadata.annotations.as_ref()?;
        let before = annotations.get(labels::ANNOTATION_CANCELLED_BEFORE).and_then(|time| time.parse().ok());
        let inputs = annotations.get(labels::ANNOTATION_CANCELLED_INPUTS).map(String::as_str).unwrap_or_default();
        let inputs: Vec<u32> = inputs.split(',').filter_map(|input| input.parse().ok()).collect();
        (before.is_some() || !inputs.is_empty()).then_some(Self { before, inputs })
    }

    fn means(&self, input: u32, entry: &Entry) -> bool {
        self.before.is_some_and(|before| !is_spared(entry, before)) || self.inputs.contains(&input)
    }

    /// Annotations that say it.
    pub(crate) fn annotations(&self) -> Vec<(&'static str, String)> {
        let inputs: Vec<String> = self.inputs.iter().map(ToString::to_string).collect();
        let before = self.before.map(|before| (labels::ANNOTATION_CANCELLED_BEFORE, before.to_string()));
        let inputs = (!inputs.is_empty()).then(|| (labels::ANNOTATION_CANCELLED_INPUTS, inputs.join(",")));
        before.into_iter().chain(inputs).collect()
    }
}

/// Whether a cancel of what came before this time does not mean an input. Begun again, it is asked more closely.
pub(crate) fn is_spared(entry: &Entry, before: Timestamp) -> bool {
    entry.published.unwrap_or(entry.received) >= before
}

fn completed() -> (String, String) {
    ("completed".to_owned(), "the result is written".to_owned())
}

/// How many pods an index had, as far as they are still there.
fn pods_of(facts: &Facts<'_>, index: u32) -> u32 {
    let index = index.to_string();
    let of_index = |pod: &&Pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get(INDEX)) == Some(&index);
    u32::try_from(facts.pods.iter().filter(of_index).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests;

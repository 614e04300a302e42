//! What a Job's pods came to: each that ended is counted once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    indexes,
    policy::{self, Action},
};
use crate::kubernetes::value::{self, number, text};

/// Finalizer of a pod that is not counted yet.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label of a pod of an Indexed Job.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Annotation: how often this index had failed before.
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// How often in a row a Job's pods have failed, and when last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    pub(super) failures: u32,
    pub(super) last: Option<Timestamp>,
}

/// What matters of a pod.
#[derive(Clone, Debug)]
pub(super) struct Pod<'a> {
    pub(super) object: &'a Value,
    pub(super) name: String,
    pub(super) index: Option<u32>,
    pub(super) succeeded: bool,
    pub(super) failed: bool,
    pub(super) deleting: bool,
    pub(super) counted: bool,
    pub(super) ready: bool,
}

impl<'a> Pod<'a> {
    /// The view of a pod; none for one that the Job does not control.
    pub(super) fn of(object: &'a Value) -> Option<Self> {
        value::controller_of(object)?;
        let phase = text(object, "/status/phase");
        Some(Self {
            object,
            name: value::name(object).to_owned(),
            index: value::annotation(object, INDEX).parse().ok(),
            succeeded: phase == "Succeeded",
            failed: phase == "Failed",
            deleting: value::is_deleting(object),
            counted: !value::has_finalizer(object, TRACKING),
            ready: value::has_condition(object, "Ready"),
        })
    }

    pub(super) fn ended(&self) -> bool {
        self.succeeded || self.failed
    }

    /// When its last container ended; when it was made, if none ran.
    pub(super) fn finished(&self) -> Option<Timestamp> {
        let statuses = value::items(self.object, "/status/containerStatuses").iter();
        let ended = statuses.filter_map(|status| value::time(status, "/state/terminated/finishedAt")).max();
        ended.or_else(|| value::time(self.object, "/metadata/creationTimestamp"))
    }

    pub(super) fn active(&self) -> bool {
        !self.ended() && !self.deleting
    }
}

/// What a Job's pods, taken together, came to.
pub(super) struct Tally {
    pub(super) completed: BTreeSet<u32>,
    pub(super) failed_indexes: BTreeSet<u32>,
    pub(super) succeeded: usize,
    pub(super) failed: usize,
    pub(super) failures: BTreeMap<u32, u32>,
    pub(super) fail_job: Option<String>,
    /// Pods that are counted from now on.
    pub(super) counted: Vec<String>,
    /// The failures in a row, with those of these pods.
    pub(super) backoff: Backoff,
}

/// Counts the pods that ended, beside what the status has counted already.
pub(super) fn tally(job: &Value, pods: &[Pod<'_>], backoff: Backoff, now: Timestamp) -> Tally {
    let count = |pointer: &str| number(job, pointer).and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
    let mut tally = Tally {
        completed: indexes::parse(text(job, "/status/completedIndexes")),
        failed_indexes: indexes::parse(text(job, "/status/failedIndexes")),
        succeeded: count("/status/succeeded"),
        failed: count("/status/failed"),
        failures: BTreeMap::new(),
        fail_job: None,
        counted: Vec::new(),
        backoff,
    };
    let indexed = text(job, "/spec/completionMode") == "Indexed";
    let per_index = number(job, "/spec/backoffLimitPerIndex").and_then(|limit| u32::try_from(limit).ok());
    let completions = number(job, "/spec/completions").unwrap_or_default();
    let only_failed = text(job, "/spec/podReplacementPolicy") == "Failed";
    for pod in pods {
        let before: u32 = value::annotation(pod.object, INDEX_FAILURES).parse().unwrap_or_default();
        let failed = pod.failed || pod.deleting && !pod.succeeded && !only_failed;
        if let Some(index) = pod.index {
            let here = tally.failures.entry(index).or_default();
            *here = (*here).max(before + u32::from(failed));
        }
        if pod.counted || !(pod.succeeded || failed) {
            continue;
        }
        tally.counted.push(pod.name.clone());
        if pod.succeeded {
            tally.backoff = Backoff::default();
            match pod.index.filter(|_| indexed) {
                Some(index) if i64::from(index) < completions => drop(tally.completed.insert(index)),
                Some(_) => {}
                None => tally.succeeded += 1,
            }
            continue;
        }
        match policy::judge(job, pod.object) {
            Action::Ignore => {
                if let (Some(index), Some(_)) = (pod.index, per_index) {
                    tally.failures.insert(index, before);
                }
                continue;
            }
            Action::FailJob(why) => tally.fail_job = Some(why),
            Action::FailIndex => tally.failed_indexes.extend(pod.index),
            Action::Count => {
                if let (Some(index), Some(limit)) = (pod.index, per_index)
                    && before + 1 > limit
                {
                    tally.failed_indexes.insert(index);
                }
            }
        }
        tally.failed += 1;
        tally.backoff.failures = tally.backoff.failures.saturating_add(1);
        tally.backoff.last = Some(now);
    }
    if indexed {
        tally.failed_indexes.retain(|index| !tally.completed.contains(index));
        tally.succeeded = tally.completed.len();
    }
    tally
}

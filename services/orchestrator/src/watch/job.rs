//! What the watch shows of a Job.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use contract::labels;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};

/// Whether and how a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has not ended.
    Active,
    /// Its condition `Complete` is true.
    Complete,
    /// Its condition `Failed` is true.
    Failed,
}

/// What is known of the submission of a Job without reading it, so that a cancel reads only Jobs that it may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Submission {
    /// Hash of the label of its session (see [`label_hash`]).
    pub(crate) session: u64,
    /// Hash of the label of its job; `None` for a batch.
    pub(crate) job: Option<u64>,
    /// When its message was published, if known.
    pub(crate) published: Option<Timestamp>,
}

impl Submission {
    pub(crate) fn of(job: &Job) -> Self {
        let label = |name: &str| job.metadata.labels.as_ref()?.get(name).map(String::as_str);
        let published = job.metadata.annotations.as_ref().and_then(|all| all.get(labels::ANNOTATION_PUBLISHED));
        Self {
            session: label_hash(label(labels::SESSION).unwrap_or_default()),
            job: label(labels::JOB).map(label_hash),
            published: published.and_then(|time| time.parse().ok()),
        }
    }
}

/// Hash of the value of a label.
pub(crate) fn label_hash(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Whether a Job has our finalizer.
pub(crate) fn is_held(job: &Job) -> bool {
    job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == labels::FINALIZER)
}

pub(crate) fn conditions(job: &Job) -> impl Iterator<Item = &JobCondition> {
    job.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

/// Whether and how a Job ended.
pub(crate) fn phase(job: &Job) -> Phase {
    let mut ends = conditions(job).filter(|condition| condition.status == "True");
    let end = ends.find_map(|condition| match &*condition.type_ {
        "Complete" => Some(Phase::Complete),
        "Failed" => Some(Phase::Failed),
        _ => None,
    });
    end.unwrap_or(Phase::Active)
}

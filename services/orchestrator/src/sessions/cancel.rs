//! Deletes the Kubernetes Jobs of cancelled work.
//!
//! The view names the Jobs that a decision may be about, so nothing is listed, and each of them is read and deleted by
//! its name.

use std::collections::HashMap;

use anyhow::Context as _;
use contract::{control::Control, names};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::PropagationPolicy;

use super::{Decision, Decisions, Errors};
use crate::{
    base::Base,
    execute::job,
    settle::outcome::{JobState, job_state},
    watch::job::{Submission, label_hash},
};

/// Jobs that are read and deleted at the same time.
const CONCURRENCY: usize = 32;

/// What is cancelled of a session.
struct Cancelled<'a> {
    session: &'a str,
    control: &'a Control,
    /// The time before which single Jobs are cancelled, by hash of the label.
    jobs: HashMap<u64, Timestamp>,
}

impl<'a> Cancelled<'a> {
    fn new(session: &'a str, control: &'a Control) -> Self {
        let jobs = control.cancelled_jobs.iter();
        let jobs = jobs.map(|(job, before)| (label_hash(&names::label_value(job)), *before)).collect();
        Self { session, control, jobs }
    }

    /// Whether it may be about a Job with this submission.
    fn may_be_about(&self, submission: &Submission) -> bool {
        let single = match submission.job {
            Some(job) => self.jobs.get(&job).copied(),
            None => self.jobs.values().max().copied(),
        };
        let before = self.control.cancelled_before.max(single);
        before.is_some_and(|before| submission.published.is_none_or(|published| published < before))
    }
}

/// Deletes the cancelled Jobs that have not ended; settling writes their outcomes. A Job that cannot be read does not
/// block the others.
pub(super) async fn jobs(base: &Base, decisions: &Decisions, errors: &mut Errors) {
    let cancelled: HashMap<u64, Cancelled<'_>> = decisions
        .iter()
        .filter(|(_, Decision { control, .. })| control.has_cancelled())
        .map(|(session, Decision { control, .. })| {
            (label_hash(&names::label_value(session)), Cancelled::new(session, control))
        })
        .collect();
    if cancelled.is_empty() {
        return;
    }
    let of = |submission: &Submission| cancelled.get(&submission.session);
    let running = base.jobs.view().running(|submission| of(submission).is_some_and(|all| all.may_be_about(submission)));
    let deletes = futures::stream::iter(running).map(|(name, submission)| async move {
        let Some(cancelled) = of(&submission) else { return Ok(()) };
        delete(base, &name, cancelled).await.with_context(|| format!("cancel the Job {name}"))
    });
    let mut deletes = Box::pin(deletes.buffer_unordered(CONCURRENCY));
    while let Some(deleted) = deletes.next().await {
        if let Err(error) = deleted {
            errors.add(error);
        }
    }
}

/// Deletes one Job of a session if it has not ended and is cancelled.
async fn delete(base: &Base, name: &str, Cancelled { session, control, .. }: &Cancelled<'_>) -> anyhow::Result<()> {
    let Some(job) = &base.cluster.job(name).await? else { return Ok(()) };
    let Some(uid) = &job.metadata.uid else { return Ok(()) };
    if job_state(job) != JobState::Running || !is_cancelled(job, control) {
        return Ok(());
    }
    base.cluster.delete(name, uid, PropagationPolicy::Background).await?;
    tracing::info!(session, kubernetes_job = name, "deleted a cancelled Job");
    Ok(())
}

/// Whether the decision cancels the message of this Job.
fn is_cancelled(job: &Job, control: &Control) -> bool {
    let (_, published, _) = job::read_origin(job);
    let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let name = job::read_work(job).map(|work| work.job).unwrap_or_default();
    control.cancels(&name, 1, published.or(created), None)
}

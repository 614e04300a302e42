//! Deletes the Kubernetes Jobs of cancelled work.

use contract::{control::Control, labels, names};
use k8s_openapi::api::batch::v1::Job;

use super::Errors;
use crate::{
    base::Base,
    job,
    outcome::{JobState, job_state},
};

/// Deletes the cancelled Jobs of a session that have not ended; settling writes their outcomes. A Job that cannot be
/// read does not block the others.
pub(super) async fn jobs(base: &Base, session: &str, control: &Control, errors: &mut Errors) {
    let selector = format!("{}={}", labels::SESSION, names::label_value(session));
    let jobs = match base.cluster.jobs(&selector).await {
        Ok(jobs) => jobs,
        Err(error) => return errors.add(error.context(format!("list the Jobs of session {session}"))),
    };
    for job in jobs {
        if let Err(error) = delete(base, session, control, &job).await {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            errors.add(error.context(format!("cancel the Job {name}")));
        }
    }
}

/// Deletes one Job of a session if it has not ended and is cancelled.
async fn delete(base: &Base, session: &str, control: &Control, job: &Job) -> anyhow::Result<()> {
    let (Some(name), Some(uid)) = (&job.metadata.name, &job.metadata.uid) else { return Ok(()) };
    if job_state(job) != JobState::Running || !is_cancelled(job, control) {
        return Ok(());
    }
    base.cluster.delete(name, uid).await?;
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

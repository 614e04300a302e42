//! Deletes the Kubernetes Jobs of cancelled work.

use contract::{
    batch::{Batch, Entry, Manifest},
    control::Control,
    labels, names,
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::Errors;
use crate::{
    base::Base,
    batch_job::read_batch,
    batch_outcome::{PartialCancel, is_after},
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
    if job_state(job) != JobState::Running {
        return Ok(());
    }
    match read_batch(job)? {
        None if !is_cancelled(job, control) => return Ok(()),
        None => {}
        Some(batch) => match cancelled_share(base, &batch, control).await? {
            Share::None => return Ok(()),
            Share::All => {}
            Share::Some(partial) => {
                for (annotation, value) in partial.annotations() {
                    base.cluster.annotate(name, uid, annotation, &value).await?;
                }
            }
        },
    }
    base.cluster.delete(name, uid).await?;
    tracing::info!(session, kubernetes_job = name, "deleted a cancelled Job");
    Ok(())
}

/// How much of a batch is cancelled.
enum Share {
    None,
    All,
    /// Only this part. The other inputs are requeued, since a Job cannot be deleted in part.
    Some(PartialCancel),
}

/// How much of a running batch a decision cancels. A batch created after the decision, and before this process read it,
/// may have messages from before and after the decision.
async fn cancelled_share(base: &Base, batch: &Batch, control: &Control) -> anyhow::Result<Share> {
    let Some((_, text)) = base.store.read(&batch.bucket, &batch.manifest(), None).await? else {
        // Every input has an outcome.
        return Ok(Share::None);
    };
    let entries = Manifest::decode(&text, batch)?.entries;
    let is_older = |entry: &Entry, before: Option<Timestamp>| before.is_some_and(|before| !is_after(entry, before));
    let with_session = entries.iter().filter(|entry| is_older(entry, control.cancelled_before)).count();
    let is_named = |entry: &Entry| {
        !is_older(entry, control.cancelled_before)
            && is_older(entry, control.cancelled_jobs.get(&entry.work.job).copied())
    };
    let inputs: Vec<u32> = (0..).zip(&entries).filter(|(_, entry)| is_named(entry)).map(|(input, _)| input).collect();
    Ok(match with_session + inputs.len() {
        0 => Share::None,
        all if all == entries.len() => Share::All,
        _ => Share::Some(PartialCancel { before: control.cancelled_before.filter(|_| with_session > 0), inputs }),
    })
}

/// Whether the decision cancels the message of this Job.
fn is_cancelled(job: &Job, control: &Control) -> bool {
    let (_, published, _) = job::read_origin(job);
    let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let name = job::read_work(job).map(|work| work.job).unwrap_or_default();
    control.cancels(&name, 1, published.or(created), None)
}

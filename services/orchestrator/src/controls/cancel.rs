//! Ends the Kubernetes Jobs of what was cancelled.

use contract::{
    batch::{Batch, Entry, Manifest},
    control::Control,
    labels, names,
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::Failed;
use crate::{
    batch_job::batch_of,
    batch_outcome::{Cut, is_spared},
    context::Context,
    job,
    outcome::{Standing, standing},
};

/// Deletes the cancelled Jobs of a session that have not ended; settling gives them their outcome. One of which nobody
/// can tell whether it is meant holds up no other.
pub(super) async fn jobs(context: &Context, session: &str, control: &Control, failed: &mut Failed) {
    let selector = format!("{}={}", labels::SESSION, names::label_value(session));
    let jobs = match context.cluster.jobs(&selector).await {
        Ok(jobs) => jobs,
        Err(error) => return failed.add(error.context(format!("look for the Jobs of session {session}"))),
    };
    for job in jobs {
        if let Err(error) = one(context, session, control, &job).await {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            failed.add(error.context(format!("cancel what is cancelled of the Job {name}")));
        }
    }
}

/// Deletes one Job of a session if it has not ended and is cancelled.
async fn one(context: &Context, session: &str, control: &Control, job: &Job) -> anyhow::Result<()> {
    let (Some(name), Some(uid)) = (&job.metadata.name, &job.metadata.uid) else { return Ok(()) };
    if standing(job) != Standing::Running {
        return Ok(());
    }
    match batch_of(job)? {
        None if !is_cancelled(job, control) => return Ok(()),
        None => {}
        Some(batch) => match cancelled_of(context, &batch, control).await? {
            Share::None => return Ok(()),
            Share::All => {}
            Share::Some(cut) => {
                for (annotation, value) in cut.annotations() {
                    context.cluster.annotate(name, uid, annotation, &value).await?;
                }
            }
        },
    }
    context.cluster.delete(name, uid).await?;
    tracing::info!(session, kubernetes_job = name, "deleted, since it was cancelled");
    Ok(())
}

/// How much of a batch is cancelled.
enum Share {
    None,
    All,
    /// Only this. The others are published again, since one Job cannot end in part.
    Some(Cut),
}

/// How much of a running batch a decision cancels. It may have been made between the decision and the moment at which
/// this process read it, of messages from before and after.
async fn cancelled_of(context: &Context, batch: &Batch, control: &Control) -> anyhow::Result<Share> {
    let Some((_, text)) = context.store.read(&batch.bucket, &batch.manifest(), None).await? else {
        // Every input has its outcome.
        return Ok(Share::None);
    };
    let entries = Manifest::decode(&text, batch)?.entries;
    let is_older = |entry: &Entry, before: Option<Timestamp>| before.is_some_and(|before| !is_spared(entry, before));
    let with_session = entries.iter().filter(|entry| is_older(entry, control.cancelled_before)).count();
    let is_named = |entry: &Entry| {
        !is_older(entry, control.cancelled_before)
            && is_older(entry, control.cancelled_jobs.get(&entry.work.job).copied())
    };
    let inputs: Vec<u32> = (0..).zip(&entries).filter(|(_, entry)| is_named(entry)).map(|(input, _)| input).collect();
    Ok(match with_session + inputs.len() {
        0 => Share::None,
        all if all == entries.len() => Share::All,
        _ => Share::Some(Cut { before: control.cancelled_before.filter(|_| with_session > 0), inputs }),
    })
}

/// Whether a Job is of a message that came before it, or its session, was cancelled.
fn is_cancelled(job: &Job, control: &Control) -> bool {
    let (_, published, _) = job::origin_of(job);
    let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let name = job::work_of(job).map(|work| work.job).unwrap_or_default();
    control.cancels(&name, 1, published.or(created), None)
}

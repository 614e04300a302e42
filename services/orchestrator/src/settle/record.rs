//! Steps of settling: record the outcome, stop pods, remove the finalizer.

use std::time::Duration;

use anyhow::Context as _;
use cloud::storage::Written;
use contract::{
    Outcome,
    message::Work,
    outcome::{State, row_errors},
};
use jiff::SignedDuration;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

use crate::{
    admit::packs::Packs,
    base::Base,
    hooks::Step,
    settle::{
        outcome::{self, Results},
        settled_cache::SettledCache,
    },
};

/// How often the pods of a deleted Job are read, at first and later.
const POLL_MIN: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_secs(1);
/// How long after the end of its grace period a pod counts as stopped, since its node is lost.
const OVERDUE: SignedDuration = SignedDuration::from_secs(5);
/// Seconds that a finished Job stays when there are more than the limit.
const SHORT_TTL_SECS: u32 = 60;

/// Whether the result of a single input exists, or all results of a Job that version 1 split.
pub(crate) async fn read_result(base: &Base, work: &Work) -> anyhow::Result<Results> {
    let names = work.outputs();
    let count = names.len();
    let found = base.store.find(&work.identity.bucket, names.into_iter().collect()).await?;
    let row_errors = found.iter().map(|found| row_errors(&found.metadata)).sum();
    Ok(Results { is_complete: found.len() == count, row_errors })
}

/// Writes an outcome unless the work has one; returns the outcome in the bucket, and whether it is new.
pub(crate) async fn write_outcome(base: &Base, work: &Work, outcome: Outcome) -> anyhow::Result<(Outcome, bool)> {
    let text = serde_json::to_vec_pretty(&outcome).context("encode the outcome")?;
    let object = work.outcome();
    let bucket = &work.identity.bucket;
    match base.store.write_once(bucket, &object, text, (&outcome).into()).await? {
        Written::New(_) => {
            base.metrics.settled(outcome.state);
            tracing::info!(
                job = work.job,
                session = work.session,
                object = work.identity.object,
                generation = work.identity.generation,
                state = outcome.state.as_str(),
                reason = outcome.reason.code,
                "settled"
            );
            Ok((outcome, true))
        }
        // The first outcome counts, whichever process wrote it.
        Written::Exists => {
            let first = cloud::outcomes::read(&base.store, bucket, &object)
                .await?
                .with_context(|| format!("read {object}, which existed a moment ago"))?
                .context("settle by the existing outcome; delete that object to have a new one written")?;
            if outcome.state == State::Succeeded && first.state != State::Succeeded {
                // Another Job with the same input ended otherwise before, so this result does not count.
                delete_result(base, work).await?;
            }
            Ok((first, false))
        }
    }
}

/// The steps after an outcome is written: deletes the input of a success, or of a pack whose last range this was, and
/// publishes the event.
pub(crate) async fn finish_work(
    base: &Base,
    settled: &SettledCache,
    packs: &Packs,
    work: &Work,
    outcome: &Outcome,
) -> anyhow::Result<()> {
    let identity = &work.identity;
    settled.insert(identity);
    base.hooks.reached(Step::OutcomeWritten, None, Some(identity)).await;
    let delete_input = async {
        if work.range().is_some() {
            packs.settle_range(base, work).await?;
        } else if outcome.state == State::Succeeded {
            delete_settled(base, packs, work).await?;
        }
        anyhow::Ok(())
    };
    let (deleted, ()) = tokio::join!(delete_input, base.events.publish(outcome));
    deleted
}

/// Deletes the input of work that succeeded; that of a pack when all its ranges have.
pub(crate) async fn delete_settled(base: &Base, packs: &Packs, work: &Work) -> anyhow::Result<()> {
    let identity = &work.identity;
    if work.range().is_some() {
        return packs.finish(base, work).await;
    }
    if identity.has_object() {
        base.store.delete(&identity.bucket, &identity.object, identity.generation).await?;
        base.hooks.reached(Step::InputDeleted, None, Some(identity)).await;
    }
    Ok(())
}

/// Deletes the result of work whose outcome says that it has none. Results of a range count only by its outcome.
async fn delete_result(base: &Base, work: &Work) -> anyhow::Result<()> {
    let (bucket, name) = (&work.identity.bucket, work.output());
    if work.pack.is_none()
        && let Some(found) = base.store.describe(bucket, &name, None).await?
    {
        tracing::warn!(object = name, "deleting a result that was written after another outcome");
        base.store.delete(bucket, &name, found.generation).await?;
    }
    Ok(())
}

/// Deletes the pods of a deleted Job and waits until they have stopped: no pod may write a result after its input
/// counts as cancelled. Our finalizer keeps the Job until then.
pub(crate) async fn stop_pods(base: &Base, name: &str) -> anyhow::Result<Vec<Pod>> {
    let mut wait = POLL_MIN;
    loop {
        let pods = base.cluster.pods(name).await?;
        let now = (base.clock)();
        let overdue = |pod: &Pod| {
            let until = pod.metadata.deletion_timestamp.as_ref();
            until.is_some_and(|until| until.0.checked_add(OVERDUE).is_ok_and(|until| until < now))
        };
        let running: Vec<&str> = pods
            .iter()
            .filter(|pod| !overdue(pod))
            .flat_map(|pod| outcome::running_pods(std::slice::from_ref(pod)))
            .collect();
        if running.is_empty() {
            return Ok(pods);
        }
        for pod in running {
            base.cluster.delete_pod(pod).await?;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(POLL_MAX);
    }
}

/// Removes our finalizer from the Job, also when the Job changes meanwhile. Above the limit of finished Jobs it stays
/// only for a moment: listings of Jobs and pods cost the API server more with each of them.
pub(crate) async fn remove_finalizer(base: &Base, name: &str, job: Job) -> anyhow::Result<()> {
    let is_over = base.jobs.view().finished() > usize::try_from(base.business.max_finished_jobs).unwrap_or(usize::MAX);
    let ttl_secs = is_over.then_some(SHORT_TTL_SECS.min(base.business.retention.finished_jobs_secs));
    let mut job = Some(job);
    while let Some(current) = job {
        if base.cluster.remove_finalizer(&current, ttl_secs).await? {
            break;
        }
        job = base.cluster.job(name).await?.filter(|other| other.metadata.uid == current.metadata.uid);
    }
    Ok(())
}

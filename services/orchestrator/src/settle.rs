//! Gives every Job that ended, or that somebody deleted, its one outcome, and then lets go of it.
//!
//! Level-triggered: the view says which Jobs still carry our finalizer, and each pass reads what it needs anew. The
//! order is what makes a crash harmless: the outcome is written before the input is deleted, and the finalizer goes last.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use cloud::storage::Written;
use contract::{
    Outcome,
    message::Work,
    outcome::{LOG_TAIL_BYTES, State},
};
use futures::TryStreamExt as _;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::turns::Turns;
use crate::{
    batch_job::batch_of,
    clock::seconds_between,
    context::Context,
    hooks::Step,
    job,
    outcome::{self, Facts, Standing},
    settle_batch,
    watched::Phase,
};

mod turns;

/// A pass even when nothing seems to have changed.
const PASS_EVERY: Duration = Duration::from_secs(10);

/// Settles Jobs until `stop`, then finishes those under way.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut under_way: JoinSet<(String, anyhow::Result<()>)> = JoinSet::new();
    let mut turns = Turns::default();
    let mut changes = context.jobs.changes();
    while !stop.is_cancelled() {
        changes.borrow_and_update();
        let now = Instant::now();
        let names = turns.begin(&context.jobs.look(), &context.progress, now);
        for name in names {
            let context = context.clone();
            let span = tracing::info_span!("settle", kubernetes_job = name);
            under_way.spawn(async move { (name.clone(), settle(&context, &name).await) }.instrument(span));
        }
        let wake =
            turns.next_due().unwrap_or(now + PASS_EVERY).clamp(now + Duration::from_millis(10), now + PASS_EVERY);
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = under_way.join_next() => {
                let (name, settled) = ended.context("settle a Job")?;
                turns.ended(&name, settled.is_ok(), Instant::now());
                if let Err(error) = settled {
                    context.metrics.settle_failures.inc();
                    tracing::warn!(kubernetes_job = name, "failed to settle: {error:#}");
                }
            }
            _ = changes.changed(), if turns.has_room() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
    }
    while under_way.join_next().await.is_some() {}
    Ok(())
}

/// Settles one Job, whatever was done for it before.
async fn settle(context: &Context, name: &str) -> anyhow::Result<()> {
    let Some(job) = context.cluster.job(name).await? else {
        context.jobs.change(|view| view.settled(name));
        return Ok(());
    };
    let held = job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == contract::labels::FINALIZER);
    let standing = outcome::standing(&job);
    if !held {
        context.jobs.change(|view| view.settled(name));
        return Ok(());
    }
    if let Some(batch) = batch_of(&job)? {
        return settle_batch::settle(context, name, job, &batch, standing).await;
    }
    if standing == Standing::Running {
        context.jobs.change(|view| view.settled(name));
        return Ok(());
    }
    let work = job::work_of(&job)?;
    context.hooks.at(Step::Finished, None, Some(&work.identity)).await;
    let outcome = record(context, &job, &work, standing).await?;
    context.recent.add(&work.identity);
    context.hooks.at(Step::OutcomeWritten, None, Some(&work.identity)).await;
    let delete_input = async {
        if outcome.state == State::Succeeded {
            let identity = &work.identity;
            context.store.delete(&identity.bucket, &identity.object, identity.generation).await?;
            context.hooks.at(Step::InputDeleted, None, Some(identity)).await;
        }
        anyhow::Ok(())
    };
    let (deleted, ()) = tokio::join!(delete_input, context.events.publish(&outcome));
    deleted?;
    release(context, name, job).await?;
    context.jobs.change(|view| view.settled(name));
    context.hooks.at(Step::FinalizerRemoved, None, Some(&work.identity)).await;
    Ok(())
}

/// Makes sure the outcome is in the bucket, and returns the one that is.
async fn record(context: &Context, job: &Job, work: &Work, standing: Standing) -> anyhow::Result<Outcome> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let mut pods = context.cluster.pods(name).await?;
    let mut log_tail = None;
    if standing == Standing::Deleted {
        // Their logs go with them. And what they may still write must be there before the results are looked at: of what
        // counts as cancelled there is none.
        log_tail = read_log_tail(context, &pods).await;
        let stopped = settle_batch::stopped_pods(context, name).await?;
        pods = outcome::last_seen(pods, stopped);
    }
    let results = match standing {
        Standing::Ended(Phase::Failed) => 0,
        _ => results(context, work).await?,
    };
    let facts = Facts { job, work, pods: &pods, results, log_tail: log_tail.as_deref(), now: (context.clock)() };
    let mut outcome = outcome::decide(facts);
    if outcome.state != State::Succeeded && standing != Standing::Deleted {
        let log_tail = read_log_tail(context, &pods).await;
        outcome = outcome::decide(Facts { log_tail: log_tail.as_deref(), now: (context.clock)(), ..facts });
    }
    if outcome.reason.code == outcome::RETRIES_EXHAUSTED {
        // The engine may not list, so Cloud Storage tells it "denied" for an input that is gone.
        let identity = &work.identity;
        if context.store.describe(&identity.bucket, &identity.object, Some(identity.generation)).await?.is_none() {
            outcome.reason = outcome::input_missing(work);
        }
    }
    let (outcome, new) = write(context, work, outcome).await?;
    if new && let (Some(ended), Some(settled)) = (outcome::ended_at(job), outcome.timestamps.settled) {
        context.metrics.finished_to_settled.observe(seconds_between(ended, settled));
    }
    Ok(outcome)
}

/// Writes an outcome unless there is one; returns the one that is there, and whether it is new.
pub(crate) async fn write(context: &Context, work: &Work, outcome: Outcome) -> anyhow::Result<(Outcome, bool)> {
    let text = serde_json::to_vec_pretty(&outcome).context("encode the outcome")?;
    let object = work.outcome();
    let bucket = &work.identity.bucket;
    match context.store.write_once(bucket, &object, text, (&outcome).into()).await? {
        Written::New(_) => {
            context.metrics.settled(outcome.state);
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
        // The first one counts, whoever wrote it.
        Written::Exists => {
            let first = cloud::outcomes::read(&context.store, bucket, &object)
                .await?
                .with_context(|| format!("read {object}, which was there a moment ago"))?
                .context("settle by an outcome that is there; when that object is deleted, it is written anew")?;
            if outcome.state == State::Succeeded && first.state != State::Succeeded {
                // Another Job had the same input and ended otherwise before; the result came too late to count.
                discard(context, work).await?;
            }
            Ok((first, false))
        }
    }
}

/// Deletes the results of work whose outcome says that there are none.
async fn discard(context: &Context, work: &Work) -> anyhow::Result<()> {
    let bucket = &work.identity.bucket;
    for name in work.outputs() {
        if let Some(found) = context.store.describe(bucket, &name, None).await? {
            tracing::warn!(object = name, "deleting a result that came after another outcome");
            context.store.delete(bucket, &name, found.generation).await?;
        }
    }
    Ok(())
}

/// How many of the results exist.
async fn results(context: &Context, work: &Work) -> anyhow::Result<u32> {
    let bucket = &work.identity.bucket;
    if work.tasks.is_none() {
        let found = context.store.describe(bucket, &work.output(None), None).await?;
        return Ok(u32::from(found.is_some()));
    }
    let mut listed = context.store.list_stream(bucket, &format!("{}/", work.output(None)));
    let mut count = 0;
    while let Some(found) = listed.try_next().await? {
        count += u32::from(outcome::result_index(work, &found.name).is_some());
    }
    Ok(count)
}

/// The end of the log that tells most. Missing logs are no reason to wait: the pod or its node may be gone.
async fn read_log_tail(context: &Context, pods: &[Pod]) -> Option<String> {
    let (pod, container) = outcome::pod_to_read(pods)?;
    match context.cluster.log_tail(pod, container, LOG_TAIL_BYTES).await {
        Ok(text) => Some(text),
        Err(error) => {
            tracing::info!(pod, "the outcome has no log: {error:#}");
            None
        }
    }
}

/// Takes our finalizer off the Job, however often it changes meanwhile.
pub(crate) async fn release(context: &Context, name: &str, job: Job) -> anyhow::Result<()> {
    let mut job = Some(job);
    while let Some(current) = job {
        if context.cluster.release(&current).await? {
            break;
        }
        job = context.cluster.job(name).await?.filter(|other| other.metadata.uid == current.metadata.uid);
    }
    Ok(())
}

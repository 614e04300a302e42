//! Gives every input of a batch its one outcome, and then lets go of the batch's Job.
//!
//! An input is settled as soon as a pod has reported it, while other indexes still run or are tried again. When the
//! Job has ended, or somebody deleted it, the rest follows: the result that lies in the bucket says that an input is
//! done, whatever became of the pod. The manifest is deleted when every input is settled, and the finalizer goes last;
//! a Job without manifest has nothing left to settle.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use contract::{
    Outcome,
    batch::{Batch, Entry, Manifest},
    labels,
    outcome::State,
};
use futures::{StreamExt as _, TryStreamExt as _};
use google_cloud_pubsub::model::Message;
use jiff::SignedDuration;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

use self::reports::Space;
use crate::{
    batch_outcome::{self, Facts, Fate, Reports},
    clock::seconds_between,
    context::Context,
    hooks::Step,
    outcome::{self, Standing},
    settle,
};

mod reports;

/// Inputs of a batch that are settled at once.
const CONCURRENCY: usize = 64;
/// How often it is looked whether the pods of a deleted Job have stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_MOST: Duration = Duration::from_secs(1);
/// How long after the end of its grace period a pod counts as stopped: its node is gone.
const OVERDUE: SignedDuration = SignedDuration::from_secs(5);

/// Which inputs of batches that still run this process has settled, by Kubernetes Job. Only saves work.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    settled: Mutex<HashMap<String, HashSet<u32>>>,
    /// What the reports of all batches may take.
    space: Space,
}

impl Progress {
    fn settled(&self) -> MutexGuard<'_, HashMap<String, HashSet<u32>>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, name: &str) -> HashSet<u32> {
        self.settled().get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn add(&self, name: &str, input: u32) {
        self.settled().entry(name.to_owned()).or_default().insert(input);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.settled().len()
    }

    /// Keeps what is known of these Jobs only: another replica may have settled the others to their end.
    pub(crate) fn keep(&self, is_wanted: impl Fn(&str) -> bool) {
        self.settled().retain(|name, _| is_wanted(name));
    }
}

/// Settles what can be settled of a batch, whatever was done for it before.
pub(crate) async fn settle(
    context: &Context,
    name: &str,
    job: Job,
    batch: &Batch,
    standing: Standing,
) -> anyhow::Result<()> {
    if standing != Standing::Running {
        context.hooks.at(Step::Finished, None, None).await;
    }
    let pods_ended = job.status.as_ref().map_or(0, |status| {
        let counts = [status.succeeded, status.failed].into_iter().flatten();
        counts.filter_map(|count| u32::try_from(count).ok()).sum::<u32>()
    });
    let pods = match standing {
        Standing::Deleted => stopped_pods(context, name).await?,
        _ => context.cluster.pods(name).await?,
    };
    if let Some((_, text)) = context.store.read(&batch.bucket, &batch.manifest(), None).await? {
        let manifest = Manifest::decode(&text, batch)?;
        let settled = context.progress.of(name);
        let (reports, _taken) = context.progress.space.read(context, batch, standing, &settled).await?;
        inputs(context, name, &job, batch, standing, &manifest, &pods, reports, &settled).await?;
    } else if standing == Standing::Running {
        tracing::warn!("its manifest is gone, so its inputs are published again once it has ended");
    }
    if standing == Standing::Running {
        context.jobs.change(|view| view.reported(name, pods_ended));
        return Ok(());
    }
    delete(context, batch).await?;
    context.hooks.at(Step::BatchDeleted, None, None).await;
    settle::release(context, name, job).await?;
    context.jobs.change(|view| view.settled(name));
    context.hooks.at(Step::FinalizerRemoved, None, None).await;
    Ok(())
}

/// Stops the pods of a deleted Job, which we hold, and waits for that: a result that is written after its input counts
/// as cancelled would be one too many.
pub(crate) async fn stopped_pods(context: &Context, name: &str) -> anyhow::Result<Vec<Pod>> {
    let mut wait = LOOK_EVERY;
    loop {
        let pods = context.cluster.pods(name).await?;
        let now = (context.clock)();
        let overdue = |pod: &Pod| {
            let until = pod.metadata.deletion_timestamp.as_ref();
            until.is_some_and(|until| until.0.checked_add(OVERDUE).is_ok_and(|until| until < now))
        };
        let alive: Vec<&str> = pods
            .iter()
            .filter(|pod| !overdue(pod))
            .flat_map(|pod| outcome::pods_alive(std::slice::from_ref(pod)))
            .collect();
        if alive.is_empty() {
            return Ok(pods);
        }
        for pod in alive {
            context.cluster.delete_pod(pod).await?;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LOOK_MOST);
    }
}

/// Settles the inputs that can be.
#[expect(clippy::too_many_arguments, reason = "everything that is known of the batch")]
async fn inputs(
    context: &Context,
    name: &str,
    job: &Job,
    batch: &Batch,
    standing: Standing,
    manifest: &Manifest,
    pods: &[Pod],
    reports: Reports,
    settled: &HashSet<u32>,
) -> anyhow::Result<()> {
    let mut facts = Facts {
        job,
        batch,
        standing,
        manifest,
        pods,
        reports,
        results: BTreeSet::new(),
        gone: HashSet::new(),
        now: (context.clock)(),
    };
    if standing != Standing::Running {
        let unknown = facts.unresolved().filter(|(input, _)| !settled.contains(input));
        let results = unknown.map(|(_, entry)| entry.work.output(None)).collect();
        facts.results = context.store.present(&batch.bucket, results).await?;
        // The engine may not list, so Cloud Storage tells it "denied" for an input that is gone.
        let doubtful: Vec<u32> = facts.given_up().filter(|input| !settled.contains(input)).collect();
        let looks: Vec<_> = doubtful
            .into_iter()
            .filter_map(|input| Some((input, &manifest.entries.get(input as usize)?.work.identity)))
            .map(|(input, identity)| async move {
                let found =
                    context.store.describe(&identity.bucket, &identity.object, Some(identity.generation)).await?;
                anyhow::Ok(found.is_none().then_some(input))
            })
            .collect();
        let gone: Vec<_> = futures::stream::iter(looks).buffer_unordered(CONCURRENCY).try_collect().await?;
        facts.gone = gone.into_iter().flatten().collect();
    }
    let facts = &facts;
    let work: Vec<_> = (0_u32..)
        .zip(&manifest.entries)
        .filter(|(input, _)| !settled.contains(input))
        .map(|(input, entry)| async move {
            match batch_outcome::decide(facts, input, entry) {
                Fate::Ended(outcome) => record(context, job, entry, *outcome).await?,
                Fate::Alone => publish(context, entry, true).await?,
                Fate::Again => publish(context, entry, false).await?,
                Fate::Later => return anyhow::Ok(()),
            }
            context.progress.add(name, input);
            Ok(())
        })
        .collect();
    // All of them are tried, so that one that cannot be settled holds up no other.
    let mut tried = futures::stream::iter(work).buffer_unordered(CONCURRENCY);
    let mut first = Ok(());
    while let Some(one) = tried.next().await {
        first = first.and(one);
    }
    first
}

/// Makes sure that the outcome is in the bucket and the input gone if it succeeded.
async fn record(context: &Context, job: &Job, entry: &Entry, outcome: Outcome) -> anyhow::Result<()> {
    let work = &entry.work;
    let identity = &work.identity;
    let (outcome, new) = settle::write(context, work, outcome).await?;
    if new && let (Some(ended), Some(settled)) = (outcome::ended_at(job), outcome.timestamps.settled) {
        context.metrics.finished_to_settled.observe(seconds_between(ended, settled));
    }
    context.recent.add(identity);
    context.hooks.at(Step::OutcomeWritten, None, Some(identity)).await;
    let delete_input = async {
        if outcome.state == State::Succeeded {
            context.store.delete(&identity.bucket, &identity.object, identity.generation).await?;
            context.hooks.at(Step::InputDeleted, None, Some(identity)).await;
        }
        anyhow::Ok(())
    };
    let (deleted, ()) = tokio::join!(delete_input, context.events.publish(&outcome));
    deleted
}

/// Publishes an input that no pod brought to an end again. It becomes a Job of its own when it is to be `alone`:
/// whatever ended the pods, another input may have been the cause, and alone it shows.
async fn publish(context: &Context, entry: &Entry, alone: bool) -> anyhow::Result<()> {
    let (data, mut attributes) = entry.work.encode();
    if alone {
        attributes.insert(labels::ATTRIBUTE_ALONE.to_owned(), "true".to_owned());
    }
    let message = Message::new().set_data(data).set_attributes(attributes);
    let object = &entry.work.identity.object;
    context.again.publish(message).await.with_context(|| format!("publish {object} again"))?;
    let (job, session) = (&entry.work.job, &entry.work.session);
    if alone {
        tracing::warn!(job, session, "no pod of its batch brought it to an end, so it gets a Job of its own");
    } else {
        tracing::info!(job, session, "published again, since its batch was ended for others that were cancelled");
    }
    context.hooks.at(Step::PublishedAlone, None, Some(&entry.work.identity)).await;
    Ok(())
}

/// Deletes manifest and reports.
async fn delete(context: &Context, batch: &Batch) -> anyhow::Result<()> {
    let mut objects = context.store.list(&batch.bucket, &batch.reports()).await?;
    objects.extend(context.store.describe(&batch.bucket, &batch.manifest(), None).await?);
    // The manifest last.
    for object in objects {
        context.store.delete(&batch.bucket, &object.name, object.generation).await?;
    }
    Ok(())
}

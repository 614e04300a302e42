//! Settles the Job of a batch: records the one outcome of every input and removes our finalizer.
//!
//! An input is settled as soon as a pod has reported it, while other indexes still run or are retried. The other inputs
//! follow when the Job has ended or was deleted: a result in the bucket says that an input is done, whatever happened
//! to its pod. The manifest is deleted when every input is settled, and the finalizer is removed last; a Job without
//! manifest has nothing left to settle.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contract::{
    Outcome,
    batch::{Batch, Entry, Manifest},
    outcome::{State, row_errors},
};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::batch::v1::Job;

use self::reports::ReportMemory;
use crate::{
    base::Base,
    batch_outcome::{self, BatchFacts, Fate},
    clock::seconds_between,
    hooks::Step,
    outcome::{self, JobState},
    record::{finish_work, remove_finalizer, stop_pods, write_outcome},
    settled_cache::SettledCache,
};

mod reports;

/// Inputs of a batch that are settled at the same time.
const CONCURRENCY: usize = 64;
/// The inputs that this process has settled of batches that still run, by Kubernetes Job. It only saves work.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    settled: Mutex<HashMap<String, HashSet<u32>>>,
    /// Limits the memory of the reports of all batches.
    memory: ReportMemory,
}

impl Progress {
    fn settled(&self) -> MutexGuard<'_, HashMap<String, HashSet<u32>>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled_inputs(&self, name: &str) -> HashSet<u32> {
        self.settled().get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn add(&self, name: &str, input: u32) {
        self.settled().entry(name.to_owned()).or_default().insert(input);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.settled().len()
    }

    /// Removes the other Jobs, also those that another replica settled completely.
    pub(crate) fn retain(&self, is_held: impl Fn(&str) -> bool) {
        self.settled().retain(|name, _| is_held(name));
    }
}

/// Settles batches.
pub(crate) struct BatchSettler {
    pub(crate) base: Arc<Base>,
    pub(crate) settled: Arc<SettledCache>,
    pub(crate) progress: Progress,
}

impl BatchSettler {
    /// Settles the inputs that can be settled, whatever an earlier attempt did for them.
    pub(crate) async fn settle(&self, name: &str, job: Job, batch: &Batch, state: JobState) -> anyhow::Result<()> {
        if state != JobState::Running {
            self.base.hooks.reached(Step::Finished, None, None).await;
        }
        let pods_ended = job.status.as_ref().map_or(0, |status| {
            let counts = [status.succeeded, status.failed].into_iter().flatten();
            counts.filter_map(|count| u32::try_from(count).ok()).sum::<u32>()
        });
        let pods = match state {
            JobState::Deleted => stop_pods(&self.base, name).await?,
            _ => self.base.cluster.pods(name).await?,
        };
        if let Some((_, text)) = self.base.store.read(&batch.bucket, &batch.manifest(), None).await? {
            let manifest = Manifest::decode(&text, batch)?;
            let settled = self.progress.settled_inputs(name);
            let (reports, _permit) = self.progress.memory.read(&self.base, batch, state, &settled).await?;
            self.settle_inputs(
                name,
                &settled,
                BatchFacts {
                    job: &job,
                    batch,
                    state,
                    manifest: &manifest,
                    pods: &pods,
                    reports,
                    results: BTreeSet::new(),
                    missing_inputs: HashSet::new(),
                    now: (self.base.clock)(),
                },
            )
            .await?;
        } else if state == JobState::Running {
            tracing::warn!(
                "the manifest of a running batch is missing; the sweep requeues its inputs after the Job has ended"
            );
        }
        if state == JobState::Running {
            self.base.jobs.change(|view| view.record_reports(name, pods_ended));
            return Ok(());
        }
        self.delete_objects(batch).await?;
        self.base.hooks.reached(Step::BatchDeleted, None, None).await;
        remove_finalizer(&self.base, name, job).await?;
        self.base.jobs.change(|view| view.record_settled(name));
        self.base.hooks.reached(Step::FinalizerRemoved, None, None).await;
        Ok(())
    }

    /// Settles the inputs of which the facts say how they ended.
    async fn settle_inputs(&self, name: &str, settled: &HashSet<u32>, mut facts: BatchFacts<'_>) -> anyhow::Result<()> {
        let manifest = facts.manifest;
        if facts.state != JobState::Running {
            let unresolved = facts.unresolved().filter(|(input, _)| !settled.contains(input));
            let results = unresolved.map(|(_, entry)| entry.work.output(None)).collect();
            facts.results = self.base.store.present(&facts.batch.bucket, results).await?;
            // The engine may not list, so for a missing input Cloud Storage answers "denied" to it.
            let failed: Vec<u32> = facts.exhausted().filter(|input| !settled.contains(input)).collect();
            let checks: Vec<_> = failed
                .into_iter()
                .filter_map(|input| Some((input, &manifest.entries.get(input as usize)?.work.identity)))
                .map(|(input, identity)| async move {
                    let found =
                        self.base.store.describe(&identity.bucket, &identity.object, Some(identity.generation)).await?;
                    anyhow::Ok(found.is_none().then_some(input))
                })
                .collect();
            let missing: Vec<_> = futures::stream::iter(checks).buffer_unordered(CONCURRENCY).try_collect().await?;
            facts.missing_inputs = missing.into_iter().flatten().collect();
        }
        let facts = &facts;
        let work: Vec<_> = (0_u32..)
            .zip(&manifest.entries)
            .filter(|(input, _)| !settled.contains(input))
            .map(|(input, entry)| async move {
                match batch_outcome::decide(facts, input, entry) {
                    Fate::Settle(mut outcome) => {
                        if outcome.state == State::Succeeded && !facts.knows_row_errors(input) {
                            let output = entry.work.output(None);
                            let found = self.base.store.describe(&facts.batch.bucket, &output, None).await?;
                            let errors = found.map(|found| row_errors(&found.metadata)).unwrap_or_default();
                            outcome::note_row_errors(&mut outcome, errors);
                        }
                        self.record(facts.job, entry, *outcome).await?;
                    }
                    Fate::RunAlone => self.requeue(entry, true).await?,
                    Fate::Requeue => self.requeue(entry, false).await?,
                    Fate::Wait => return anyhow::Ok(()),
                }
                self.progress.add(name, input);
                Ok(())
            })
            .collect();
        // All of them run, so that one that fails does not block the others.
        let mut attempts = futures::stream::iter(work).buffer_unordered(CONCURRENCY);
        let mut first = Ok(());
        while let Some(one) = attempts.next().await {
            first = first.and(one);
        }
        first
    }

    /// Writes the outcome unless the work has one, and deletes the input of a success.
    async fn record(&self, job: &Job, entry: &Entry, outcome: Outcome) -> anyhow::Result<()> {
        let work = &entry.work;
        let (outcome, is_new) = write_outcome(&self.base, work, outcome).await?;
        if is_new && let (Some(ended), Some(settled)) = (outcome::ended_at(job), outcome.timestamps.settled) {
            self.base.metrics.finished_to_settled.observe(seconds_between(ended, settled));
        }
        finish_work(&self.base, &self.settled, &work.identity, &outcome).await
    }

    /// Requeues an input that no pod settled. With `alone` it becomes a Job of its own: the cause that ended the pods
    /// may be another input, and a Job of its own shows which.
    async fn requeue(&self, entry: &Entry, alone: bool) -> anyhow::Result<()> {
        self.base.requeue(&entry.work, alone).await?;
        let (job, session) = (&entry.work.job, &entry.work.session);
        if alone {
            tracing::warn!(job, session, "requeued an input that no pod of its batch settled, as a Job of its own");
        } else {
            tracing::info!(job, session, "requeued an input, since other inputs of its batch were cancelled");
        }
        self.base.hooks.reached(Step::PublishedAlone, None, Some(&entry.work.identity)).await;
        Ok(())
    }

    /// Deletes manifest and reports.
    async fn delete_objects(&self, batch: &Batch) -> anyhow::Result<()> {
        let mut objects = self.base.store.list(&batch.bucket, &batch.reports()).await?;
        objects.extend(self.base.store.describe(&batch.bucket, &batch.manifest(), None).await?);
        // The manifest is deleted last.
        for object in objects {
            self.base.store.delete(&batch.bucket, &object.name, object.generation).await?;
        }
        Ok(())
    }
}

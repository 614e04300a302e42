//! Settles every Job that ended or was deleted: records its one outcome and removes our finalizer.
//!
//! Level-triggered: the view says which Jobs have our finalizer, and each pass reads the Job, its pods and objects once
//! more. The order makes a crash harmless: the outcome is written before the input is deleted, and the finalizer is
//! removed last.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use contract::{
    Outcome,
    message::Work,
    outcome::{LOG_TAIL_BYTES, State},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::{
    outcome::{Facts, JobState, Results},
    queue::SettleQueue,
    record::{finish_work, read_result, remove_finalizer, stop_pods, write_outcome},
    settled_cache::SettledCache,
};
use crate::{admit::packs::Packs, base::Base, clock::seconds_between, execute::job, hooks::Step};

pub(crate) mod conclude;
pub(crate) mod events;
pub(crate) mod outcome;
pub(crate) mod pods;
mod queue;
mod ranges;
pub(crate) mod record;
pub(crate) mod settled_cache;
mod version_1;

/// How long until a pass when no change was seen.
const PASS_INTERVAL: Duration = Duration::from_secs(10);

/// Settles Jobs.
pub(crate) struct Settler {
    pub(crate) base: Arc<Base>,
    pub(crate) settled: Arc<SettledCache>,
    pub(crate) packs: Arc<Packs>,
}

/// Settles Jobs until `stop`, then finishes those in progress.
pub(crate) async fn run(settler: Arc<Settler>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut under_way: JoinSet<(String, anyhow::Result<()>)> = JoinSet::new();
    let mut queue = SettleQueue::default();
    let base = &settler.base;
    let mut changes = base.jobs.changes();
    while !stop.is_cancelled() {
        changes.borrow_and_update();
        let now = Instant::now();
        let names = queue.start_due(&base.jobs.view(), now);
        for name in names {
            let settler = settler.clone();
            let span = tracing::info_span!("settle", kubernetes_job = name);
            under_way.spawn(async move { (name.clone(), settler.settle(&name).await) }.instrument(span));
        }
        for work in settler.packs.due(now) {
            let settler = settler.clone();
            under_way
                .spawn(async move { (work.identity.object.clone(), settler.packs.finish(&settler.base, &work).await) });
        }
        let wake =
            queue.next_due().unwrap_or(now + PASS_INTERVAL).clamp(now + Duration::from_millis(10), now + PASS_INTERVAL);
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = under_way.join_next() => {
                let (name, settled) = ended.context("settle a Job")?;
                queue.finished(&name, settled.is_ok(), Instant::now());
                if let Err(error) = settled {
                    base.metrics.settle_failures.inc();
                    tracing::warn!(kubernetes_job = name, "failed to settle: {error:#}");
                }
            }
            _ = changes.changed(), if queue.has_room() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
    }
    while under_way.join_next().await.is_some() {}
    Ok(())
}

impl Settler {
    /// Settles one Job, whatever an earlier attempt did for it.
    async fn settle(&self, name: &str) -> anyhow::Result<()> {
        let Some(job) = self.base.cluster.job(name).await? else {
            self.base.jobs.change(|view| view.record_settled(name));
            return Ok(());
        };
        let has_finalizer =
            job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == contract::labels::FINALIZER);
        let state = outcome::job_state(&job);
        if !has_finalizer {
            self.base.jobs.change(|view| view.record_settled(name));
            return Ok(());
        }
        if state == JobState::Running {
            self.base.jobs.change(|view| view.record_settled(name));
            return Ok(());
        }
        if version_1::is_batch(&job) {
            stop_pods(&self.base, name).await?;
            version_1::requeue_batch(&self.base, &job).await?;
            remove_finalizer(&self.base, name, job).await?;
            self.base.jobs.change(|view| view.record_settled(name));
            return Ok(());
        }
        let work = job::read_work(&job)?;
        self.base.hooks.reached(Step::Finished, None, Some(&work.identity)).await;
        let outcome = self.record(&job, &work, state).await?;
        finish_work(&self.base, &self.settled, &self.packs, &work, &outcome).await?;
        remove_finalizer(&self.base, name, job).await?;
        self.base.pods.remove(name);
        self.base.jobs.change(|view| view.record_settled(name));
        self.base.hooks.reached(Step::FinalizerRemoved, None, Some(&work.identity)).await;
        Ok(())
    }

    /// Writes the outcome unless the work has one; returns the outcome in the bucket.
    async fn record(&self, job: &Job, work: &Work, state: JobState) -> anyhow::Result<Outcome> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let (mut pods, mut log_tail) = (Vec::new(), None);
        if state == JobState::Deleted {
            // The logs are deleted with the pods. And the pods must stop before the results are read: cancelled work
            // has no result.
            pods = self.base.cluster.pods(name).await?;
            log_tail = self.read_log_tail(&pods).await;
            let stopped = stop_pods(&self.base, name).await?;
            pods = outcome::latest_pods(pods, stopped);
        }
        // Whatever the state: an engine may have been killed after it wrote its result.
        let range = work.range();
        let parts = if range.is_some() { ranges::read_parts(&self.base, work).await? } else { Vec::new() };
        let results = match range {
            Some(_) => Results { is_complete: ranges::is_complete(work, &parts), row_errors: 0 },
            None => read_result(&self.base, work).await?,
        };
        if !results.is_complete && state != JobState::Deleted {
            pods = self.base.cluster.pods(name).await?;
            log_tail = self.read_log_tail(&pods).await;
        }
        let now = (self.base.clock)();
        let mut outcome =
            outcome::decide(Facts { job, work, pods: &pods, results, log_tail: log_tail.as_deref(), now });
        if outcome.state == State::Succeeded
            && state != JobState::Deleted
            && let Some(ended) = self.base.pods.of_job(name, outcome::ended_at(job), now).await
        {
            ended.add_to(&mut outcome);
        }
        if outcome.reason.code == outcome::RETRIES_EXHAUSTED {
            // The engine may not list, so for a missing input Cloud Storage answers "denied" to it.
            let identity = &work.identity;
            if self.base.store.describe(&identity.bucket, &identity.object, Some(identity.generation)).await?.is_none()
            {
                outcome.reason = outcome::input_missing(work);
            }
        }
        ranges::set_items(&self.base, work, &parts, &mut outcome).await?;
        let (outcome, is_new) = write_outcome(&self.base, work, outcome).await?;
        if is_new && let (Some(ended), Some(settled)) = (outcome::ended_at(job), outcome.timestamps.settled) {
            self.base.metrics.finished_to_settled.observe(seconds_between(ended, settled));
        }
        Ok(outcome)
    }

    /// The end of the most relevant log. A log that cannot be read does not stop settling: its pod or node may be
    /// deleted.
    async fn read_log_tail(&self, pods: &[Pod]) -> Option<String> {
        let (pod, container) = outcome::pod_with_log(pods)?;
        match self.base.cluster.log_tail(pod, container, LOG_TAIL_BYTES).await {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::info!(pod, "writing the outcome without a log: {error:#}");
                None
            }
        }
    }
}

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
use jiff::SignedDuration;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::{
    outcome::{Facts, JobState, Results},
    pods::Pods,
    queue::SettleQueue,
    record::Records,
};
use crate::{base::Base, clock::seconds_between, execute::job, hooks::Step, watch::job::is_held};

pub(crate) mod ended;
pub(crate) mod events;
pub(crate) mod outcome;
pub(crate) mod pods;
mod progress;
mod queue;
pub(crate) mod ranges;
pub(crate) mod record;
mod settled_cache;
mod version_1;

/// How long until a pass when no change was seen.
const PASS_INTERVAL: Duration = Duration::from_secs(10);

/// How often the pods of a deleted Job are read, at first and later.
const POLL_MIN: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_secs(1);
/// How long after the end of its grace period a pod counts as stopped, since its node is lost.
const OVERDUE: SignedDuration = SignedDuration::from_secs(5);
/// Seconds that a finished Job stays when there are more than the limit.
const SHORT_TTL_SECS: u32 = 60;

/// Settles Jobs.
pub(crate) struct Settler {
    pub(crate) base: Arc<Base>,
    pub(crate) records: Arc<Records>,
    pub(crate) pods: Arc<Pods>,
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
        for work in settler.records.progress.due(now) {
            let settler = settler.clone();
            let name = work.identity.object.clone();
            under_way.spawn(async move { (name, settler.records.finish_pack(&work).await) });
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
        if let Some(job) = self.base.cluster.job(name).await? {
            let state = outcome::job_state(&job);
            if is_held(&job) && state != JobState::Running {
                self.settle_ended(name, job, state).await?;
            }
        }
        self.base.jobs.change(|view| view.record_settled(name));
        Ok(())
    }

    async fn settle_ended(&self, name: &str, job: Job, state: JobState) -> anyhow::Result<()> {
        if version_1::is_batch(&job) {
            self.stop_pods(name).await?;
            version_1::requeue_batch(&self.base, &job).await?;
            return self.remove_finalizer(name, job).await;
        }
        let work = job::read_work(&job)?;
        self.base.hooks.reached(Step::Finished, None, Some(&work.identity)).await;
        let outcome = self.record(&job, &work, state).await?;
        self.records.finish(&work, &outcome).await?;
        self.remove_finalizer(name, job).await?;
        self.pods.remove(name);
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
            let stopped = self.stop_pods(name).await?;
            pods = outcome::latest_pods(pods, stopped);
        }
        // Whatever the state: an engine may have been killed after it wrote its result.
        let range = work.range();
        let parts = if range.is_some() { ranges::read_parts(&self.base, work).await? } else { Vec::new() };
        let results = match range {
            Some(_) => Results { is_complete: ranges::is_complete(work, &parts), row_errors: 0 },
            None => self.records.read_result(work).await?,
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
            && let Some(ended) = self.pods.of_job(name, outcome::ended_at(job), now).await
        {
            ended.add_to(&mut outcome);
        }
        // The engine may not list, so for a missing input Cloud Storage answers "denied" to it.
        if outcome.reason.code == outcome::RETRIES_EXHAUSTED && self.base.input(work).await?.is_none() {
            outcome.reason = outcome::input_missing(work);
        }
        ranges::set_items(&self.base, work, &parts, &mut outcome).await?;
        let (outcome, is_new) = self.records.write(work, outcome).await?;
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

    /// Deletes the pods of a deleted Job and waits until they have stopped: no pod may write a result after its input
    /// counts as cancelled. Our finalizer keeps the Job until then.
    async fn stop_pods(&self, name: &str) -> anyhow::Result<Vec<Pod>> {
        let mut wait = POLL_MIN;
        loop {
            let pods = self.base.cluster.pods(name).await?;
            let now = (self.base.clock)();
            let overdue = |pod: &Pod| {
                let until = pod.metadata.deletion_timestamp.as_ref();
                until.is_some_and(|until| until.0.checked_add(OVERDUE).is_ok_and(|until| until < now))
            };
            let running = pods.iter().filter(|pod| outcome::is_running(pod) && !overdue(pod));
            let running: Vec<&str> = running.filter_map(|pod| pod.metadata.name.as_deref()).collect();
            if running.is_empty() {
                return Ok(pods);
            }
            for pod in running {
                self.base.cluster.delete_pod(pod).await?;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(POLL_MAX);
        }
    }

    /// Removes our finalizer from the Job, also when the Job changes meanwhile. Above the limit of finished Jobs it stays
    /// only for a moment: listings of Jobs and pods cost the API server more with each of them.
    async fn remove_finalizer(&self, name: &str, job: Job) -> anyhow::Result<()> {
        let is_over = self.base.jobs.view().finished()
            > usize::try_from(self.base.business.max_finished_jobs).unwrap_or(usize::MAX);
        let ttl_secs = is_over.then_some(SHORT_TTL_SECS.min(self.base.business.retention.finished_jobs_secs));
        let mut job = Some(job);
        while let Some(current) = job {
            if self.base.cluster.remove_finalizer(&current, ttl_secs).await? {
                break;
            }
            job = self.base.cluster.job(name).await?.filter(|other| other.metadata.uid == current.metadata.uid);
        }
        Ok(())
    }
}

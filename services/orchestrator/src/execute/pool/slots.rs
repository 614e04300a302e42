//! The engines of the pool as Kubernetes Jobs, one for each slot. The name of a slot's Job makes its creation idempotent,
//! so two orchestrators do not create more engines than the pool may have.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use ::pool::dispatcher::EngineId;
use anyhow::Context as _;
use contract::{config, labels, names};
use futures::{Stream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Resource,
    api::PropagationPolicy,
    runtime::{WatchStreamExt as _, reflector, reflector::Store, watcher},
};
use serde_json::{Map, Value};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Pool;
use crate::{
    cluster::answers::{Answer, classify},
    execute::job::{object, variable},
    settle::outcome::{JobState, job_state, pod_phase},
    watch::job::Phase,
};

/// Seconds of work for which one engine is enough.
const SECS_PER_ENGINE: f64 = 5.0;
/// Assumed time of an item in seconds, before one has ended.
const ITEM_SECS: f64 = 1.0;
/// How often engines and their Jobs are compared with the work.
const TICK: Duration = Duration::from_millis(200);
/// Time that the pod of an engine has to start.
const STARTED_AFTER: SignedDuration = SignedDuration::from_secs(60);
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Seconds after which the API server ends a watch and a new one begins.
const WATCH_SECS: u32 = 60;

/// The Job that every engine of the pool has in common.
#[derive(Clone, Debug)]
pub(crate) struct EngineTemplate {
    job: Map<String, Value>,
    hash: String,
}

impl EngineTemplate {
    /// Reads the template that `deploy` wrote.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub(crate) fn parse(text: &str, namespace: &str, queue: Option<&str>) -> anyhow::Result<Self> {
        let job: Value = serde_json::from_str(text).context("parse the template of the pool's engines")?;
        let Value::Object(mut job) = job else { anyhow::bail!("the template of the pool's engines is no object") };
        object(&mut job, &["metadata"])?.insert("namespace".into(), namespace.into());
        if queue.is_some() {
            object(&mut job, &["spec"])?.insert("suspend".into(), true.into());
        }
        Ok(Self { job, hash: names::hash(&[text], 16) })
    }

    /// The Job of the engine in a slot.
    fn job(&self, slot: u32) -> anyhow::Result<Vec<u8>> {
        let (mut job, slot) = (self.job.clone(), slot.to_string());
        object(&mut job, &["metadata"])?.insert("name".into(), name(&slot).into());
        object(&mut job, &["metadata", "annotations"])?
            .insert(labels::ANNOTATION_POOL_TEMPLATE.into(), self.hash.as_str().into());
        for path in [&["metadata", "labels"][..], &["spec", "template", "metadata", "labels"]] {
            object(&mut job, path)?.insert(labels::POOL_SLOT.into(), slot.as_str().into());
        }
        let pod = object(&mut job, &["spec", "template", "spec"])?;
        for container in pod.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
            let container = container.as_object_mut().context("read a container of the template")?;
            let environment = container.entry("env").or_insert_with(|| Value::Array(Vec::new()));
            let environment = environment.as_array_mut().context("read a container's env in the template")?;
            environment.push(variable(labels::ENV_POOL_SLOT, &slot));
        }
        serde_json::to_vec(&job).context("encode the Job of an engine")
    }
}

fn name(slot: &str) -> String {
    format!("pool-{slot}")
}

/// The number of engines for so many items of so many seconds each.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
pub(crate) fn desired(items: usize, item_secs: Option<f64>, pool: &config::Pool) -> u32 {
    if items == 0 {
        return pool.min;
    }
    let items = u32::try_from(items).unwrap_or(u32::MAX);
    let seconds = f64::from(items) * item_secs.unwrap_or(ITEM_SECS);
    let for_work = (seconds / (SECS_PER_ENGINE * f64::from(pool.slots.max(1)))).ceil() as u32;
    // An engine without an item of its own is of no use.
    for_work.clamp(1, items.div_ceil(pool.slots.max(1))).clamp(pool.min.min(pool.max), pool.max)
}

/// The Job of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SlotJob {
    uid: String,
    has_ended: bool,
    /// Its engine ended by itself: nobody deleted or preempted its pod.
    has_failed: bool,
    is_deleting: bool,
    is_current: bool,
    /// Its pod has had time to start, and has not: it has no node, or an image cannot be pulled.
    is_stuck: bool,
}

impl SlotJob {
    fn new(job: &Job, pod: Option<&Pod>, hash: &str, now: Timestamp) -> Self {
        let (annotations, state) = (job.metadata.annotations.as_ref(), job_state(job));
        let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let is_old = created.is_some_and(|created| now.duration_since(created) >= STARTED_AFTER);
        Self {
            uid: job.metadata.uid.clone().unwrap_or_default(),
            has_ended: matches!(state, JobState::Ended(_)),
            has_failed: state == JobState::Ended(Phase::Failed) && pod.is_some_and(|pod| !is_preempted(pod)),
            is_stuck: is_old && pod.is_none_or(|pod| pod_phase(pod) == "Pending"),
            is_deleting: job.metadata.deletion_timestamp.is_some(),
            is_current: annotations
                .and_then(|all| all.get(labels::ANNOTATION_POOL_TEMPLATE))
                .is_some_and(|at| at == hash),
        }
    }
}

/// What to do about a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    /// Create its Job.
    Create(u32),
    /// Delete its Job, which has ended, or whose engine has not started and is not needed as it is.
    Delete(u32),
    /// Let its engine finish and end: it is of an older template, or above the maximum.
    Release(u32),
}

/// Decides about all slots. `held` has the slots in which engines fail, until it is time to try again.
fn decide(desired: u32, max: u32, jobs: &BTreeMap<u32, SlotJob>, held: impl Fn(u32) -> bool) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for slot in (0..desired).filter(|slot| !held(*slot)) {
        match jobs.get(&slot) {
            None => decisions.push(Decision::Create(slot)),
            Some(job) if job.has_ended && !job.is_deleting => decisions.push(Decision::Delete(slot)),
            Some(_) => {}
        }
    }
    let starting = |job: &SlotJob| job.is_stuck && !job.has_ended && !job.is_deleting;
    // A stream is needed to release an engine.
    let unneeded = jobs.iter().filter(|(slot, job)| starting(job) && (**slot >= desired || !job.is_current));
    decisions.extend(unneeded.map(|(slot, _)| Decision::Delete(*slot)));
    let running = |job: &&SlotJob| !job.has_ended && !job.is_deleting && !job.is_stuck;
    decisions.extend(jobs.range(max..).filter(|(_, job)| running(job)).map(|(slot, _)| Decision::Release(*slot)));
    // One after another: the next one when all are current but one.
    let old = jobs.range(..max).find(|(_, job)| running(job) && !job.is_current);
    decisions.extend(old.map(|(slot, _)| Decision::Release(*slot)));
    decisions
}

/// Slots whose engines failed to start.
#[derive(Debug, Default)]
struct Failures {
    /// How often in a row, and until when the next one waits.
    waits: HashMap<u32, (u32, Instant)>,
    /// Slots whose engine has opened a stream: its end is no failure to start, however soon it comes. Items that end
    /// engines fail after two of them.
    started: BTreeSet<u32>,
}

impl Failures {
    /// The engine of a slot has ended; whether it had failed to start.
    fn ended(&mut self, slot: u32, has_failed: bool, now: Instant) -> bool {
        let has_started = self.started.remove(&slot) || !has_failed;
        match has_started {
            true => drop(self.waits.remove(&slot)),
            false => self.record(slot, now),
        }
        !has_started
    }

    fn record(&mut self, slot: u32, now: Instant) {
        let count = self.waits.get(&slot).map_or(0, |(count, _)| *count);
        let wait = RETRY_MIN.saturating_mul(2_u32.saturating_pow(count)).min(RETRY_MAX);
        self.waits.insert(slot, (count.saturating_add(1), now + wait));
    }

    fn is_held(&self, slot: u32, now: Instant) -> bool {
        self.waits.get(&slot).is_some_and(|(_, until)| now < *until)
    }
}

/// The Jobs and pods of the engines, as the watches show them.
struct Observed {
    jobs: Store<Job>,
    pods: Store<Pod>,
}

/// Creates, replaces and releases engines until `stop`.
pub(crate) async fn run(pool: Arc<Pool>, template: EngineTemplate, stop: CancellationToken) -> anyhow::Result<()> {
    let base = &pool.base;
    let selector = format!("{}={},{}=true", labels::BUSINESS, base.business.name, labels::POOL);
    let (jobs, mut job_events) = followed(base.cluster.watched_jobs(), &selector);
    let (pods, mut pod_events) = followed(base.cluster.watched_pods(), &selector);
    let observed = Observed { jobs, pods };
    let mut failures = Failures::default();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut has_jobs, mut has_pods) = (false, false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(listed) = job_events.next() => has_jobs |= listed,
            Some(listed) = pod_events.next() => has_pods |= listed,
            () = pool.changed.notified() => {}
            _ = ticks.tick() => {}
        }
        if has_jobs && has_pods {
            step(&pool, &template, &observed, &mut failures).await;
        }
    }
}

/// A store that a watch keeps up to date while the stream is polled. The stream has `true` after a listing.
fn followed<K>(api: kube::Api<K>, selector: &str) -> (Store<K>, impl Stream<Item = bool> + Unpin + use<K>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let config = watcher::Config::default().labels(selector).timeout(WATCH_SECS);
    let events = watcher(api, config).default_backoff().reflect(writer);
    let listed = events.map(|event| match event {
        Ok(event) => matches!(event, watcher::Event::InitDone),
        Err(error) => {
            tracing::warn!("failed to watch the engines of the pool: {:#}", anyhow::Error::from(error));
            false
        }
    });
    (store, listed.boxed())
}

/// Compares the engines with the work once.
async fn step(pool: &Pool, template: &EngineTemplate, observed: &Observed, failures: &mut Failures) {
    let config = &pool.config;
    failures.started.extend(pool.lock().dispatcher.engines().values().map(|engine| engine.slot));
    report_pods(pool, observed);
    let (desired, connected) = {
        let mut state = pool.lock();
        let now = pool.now();
        let idle = Duration::from_secs(config.idle_secs.into());
        let actions = state.dispatcher.tick(config.min, idle, now);
        state.carry_out(actions);
        let dispatcher = &state.dispatcher;
        // The engines that work stay: only idle ones are released.
        let desired = desired(dispatcher.waiting() + dispatcher.assigned(), dispatcher.item_secs(), config);
        let connected = dispatcher.engines().values().filter(|engine| engine.is_connected);
        (desired, connected.map(|engine| engine.slot).collect::<BTreeSet<u32>>())
    };
    let slot = |job: &Job| job.metadata.labels.as_ref()?.get(labels::POOL_SLOT)?.parse::<u32>().ok();
    let pods = observed.pods.state();
    let owner = |pod: &Arc<Pod>| Some(pod.metadata.owner_references.as_ref()?.first()?.uid.clone());
    let pods: HashMap<String, &Arc<Pod>> = pods.iter().filter_map(|pod| Some((owner(pod)?, pod))).collect();
    let (now, time) = (Instant::now(), (pool.base.clock)());
    let slot_job = |job: &Job| {
        let pod = pods.get(job.metadata.uid.as_deref()?).map(|pod| &***pod);
        let (slot, mut found) = (slot(job)?, SlotJob::new(job, pod, &template.hash, time));
        found.is_stuck &= !connected.contains(&slot);
        Some((slot, found))
    };
    let jobs: BTreeMap<u32, SlotJob> = observed.jobs.state().iter().filter_map(|job| slot_job(job)).collect();
    for decision in decide(desired, config.max, &jobs, |slot| failures.is_held(slot, now)) {
        let done = match decision {
            Decision::Create(slot) => create(pool, template, slot, failures).await,
            Decision::Delete(slot) => delete(pool, slot, &jobs[&slot], failures).await,
            Decision::Release(slot) => {
                let mut state = pool.lock();
                let actions = state.dispatcher.release(slot, pool.now());
                state.carry_out(actions);
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!("failed to change an engine of the pool: {error:#}");
        }
    }
}

async fn create(pool: &Pool, template: &EngineTemplate, slot: u32, failures: &mut Failures) -> anyhow::Result<()> {
    let Err(error) = pool.base.cluster.create(template.job(slot)?).await else {
        tracing::info!(slot, "created an engine of the pool");
        return Ok(());
    };
    // Another orchestrator created it, or the one before is being deleted.
    if matches!(classify(&error), Answer::Exists) {
        return Ok(());
    }
    failures.record(slot, Instant::now());
    Err(error).with_context(|| format!("create the Job {}", name(&slot.to_string())))
}

/// Deletes the Job of an engine that ended, so that the next one can have its name.
async fn delete(pool: &Pool, slot: u32, job: &SlotJob, failures: &mut Failures) -> anyhow::Result<()> {
    if failures.ended(slot, job.has_failed, Instant::now()) {
        let name = name(&slot.to_string());
        tracing::error!(
            slot,
            "an engine of the pool failed to start; see: kubectl -n {} logs job/{name}",
            pool.base.business.namespace
        );
    }
    pool.base.cluster.delete(&name(&slot.to_string()), &job.uid, PropagationPolicy::Foreground).await
}

/// Reports to the dispatcher which engines without a stream have ended, and when all that run have reported.
fn report_pods(pool: &Pool, observed: &Observed) {
    let mut state = pool.lock();
    let now = pool.now();
    let pods = observed.pods.state();
    let pods: HashMap<&str, &Arc<Pod>> =
        pods.iter().filter_map(|pod| Some((pod.metadata.uid.as_deref()?, pod))).collect();
    let lost = state.dispatcher.engines().iter().filter(|(_, engine)| !engine.is_connected);
    let lost: Vec<EngineId> = lost.map(|(id, _)| id.clone()).collect();
    for id in lost {
        let is_preempted = match pods.get(&*id) {
            // Somebody deleted it.
            None => true,
            Some(pod) if matches!(pod_phase(pod), "Succeeded" | "Failed") => is_preempted(pod),
            Some(_) => continue,
        };
        let actions = state.dispatcher.pod_ended(&id, is_preempted, now);
        state.carry_out(actions);
    }
    let running = pods.iter().filter(|(_, pod)| pod_phase(pod) == "Running").map(|(uid, _)| *uid);
    let running: BTreeSet<&str> = running.collect();
    if running.iter().all(|uid| state.streams.contains_key(*uid)) {
        let actions = state.dispatcher.all_reported(now);
        state.carry_out(actions);
    }
}

/// Whether a pod ended because of its node or of a person, and not by itself.
fn is_preempted(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_some()
        || conditions.into_iter().any(|one| one.type_ == "DisruptionTarget" && one.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POOL: config::Pool = config::Pool { min: 1, max: 8, slots: 2, idle_secs: 60, spot: false };

    #[test]
    fn the_work_decides_the_number_of_engines() {
        let check = |items, secs, expected| assert_eq!(desired(items, secs, &POOL), expected, "{items} of {secs:?}");
        check(0, None, 1);
        check(1, None, 1);
        check(25, None, 3);
        check(1_000_000, None, 8);
        check(10_000, Some(0.001), 1);
        check(3, Some(3600.0), 2);
        assert_eq!(desired(0, None, &config::Pool { min: 0, ..POOL }), 0);
        assert_eq!(desired(1, None, &config::Pool { min: 0, ..POOL }), 1);
    }

    fn job(has_ended: bool, is_current: bool) -> SlotJob {
        SlotJob { uid: "u".into(), has_ended, has_failed: false, is_deleting: false, is_current, is_stuck: false }
    }

    #[test]
    fn slots_are_filled_and_old_engines_replaced_one_after_another() {
        let check = |desired, jobs: &[(u32, SlotJob)], expected: &[Decision]| {
            let jobs = jobs.iter().cloned().collect();
            assert_eq!(decide(desired, 4, &jobs, |slot| slot == 3), expected);
        };
        check(4, &[], &[Decision::Create(0), Decision::Create(1), Decision::Create(2)]);
        check(2, &[(0, job(false, true)), (1, job(true, true))], &[Decision::Delete(1)]);
        check(1, &[(0, job(false, true)), (1, job(true, true)), (2, job(false, true))], &[]);
        let old = [(0, job(false, true)), (1, job(false, false)), (2, job(false, false)), (7, job(false, true))];
        check(1, &old, &[Decision::Release(7), Decision::Release(1)]);
        // An engine that has not started is not there to be released.
        let stuck = |is_current| SlotJob { is_stuck: true, ..job(false, is_current) };
        check(1, &[(0, stuck(true)), (1, stuck(true))], &[Decision::Delete(1)]);
        check(2, &[(0, stuck(false)), (1, job(false, false))], &[Decision::Delete(0), Decision::Release(1)]);
    }

    #[test]
    fn the_pod_of_a_job_says_whether_its_engine_has_started_and_why_it_ended() {
        let ended = |kind: &str| json!({"conditions": [{"type": kind, "status": "True"}]});
        let created = "2026-01-01T00:00:00Z";
        let check = |secs, status: Value, pod: Option<Value>, expected| {
            let metadata = json!({"creationTimestamp": created});
            let job: Job = serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap();
            let pod: Option<Pod> = pod.map(|status| serde_json::from_value(json!({"status": status})).unwrap());
            let now = created.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(secs);
            let found = SlotJob::new(&job, pod.as_ref(), "hash", now);
            assert_eq!((found.is_stuck, found.has_failed), expected, "{secs} {pod:?}");
        };
        let phase = |phase: &str| Some(json!({"phase": phase}));
        check(59, json!({}), phase("Pending"), (false, false));
        check(60, json!({}), phase("Pending"), (true, false));
        check(60, json!({}), None, (true, false));
        check(60, json!({}), phase("Running"), (false, false));
        check(5, ended("Failed"), phase("Failed"), (false, true));
        // A drained node.
        check(5, ended("Failed"), None, (false, false));
        let preempted = json!({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True"}]});
        check(5, ended("Failed"), Some(preempted), (false, false));
    }

    #[test]
    fn only_an_engine_that_never_had_a_stream_has_failed_to_start() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for wait in [1, 2, 4] {
            assert!(failures.ended(0, true, now));
            assert!(failures.is_held(0, now + Duration::from_secs(wait) - Duration::from_millis(1)));
            assert!(!failures.is_held(0, now + Duration::from_secs(wait)));
        }
        failures.started.insert(0);
        assert!(!failures.ended(0, true, now) && !failures.is_held(0, now));
        assert!(failures.ended(0, true, now), "the next engine starts anew");
        assert!(!failures.ended(0, false, now) && !failures.is_held(0, now));
    }
}

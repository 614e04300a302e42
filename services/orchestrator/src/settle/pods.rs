//! What outcomes say of pods that ended. A watch shows these pods, so that a success lists none: a listing costs the API
//! server more with each pod of the namespace.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contract::Outcome;
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;

use crate::{
    base::Base,
    cluster::JOB_NAME,
    settle::outcome::{self, PodFacts},
    watch::{selector, view::View},
};

/// Seconds after which the API server ends a watch and a new one begins.
const WATCH_SECS: u32 = 60;
/// How long a Job that ended just now waits until the watch shows its pod.
const WAIT: SignedDuration = SignedDuration::from_secs(2);
/// How long any Job waits for the first listing.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// Number of Jobs up to which nothing is pruned.
const PRUNE_MIN: usize = 512;

/// The pods that ended, of Jobs that are not settled.
#[derive(Debug)]
pub(crate) struct Pods {
    known: Mutex<Known>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    jobs: HashMap<Box<str>, Ended>,
    hasher: RandomState,
    /// The first listing is complete or has failed.
    is_listed: bool,
    prune_at: usize,
}

/// The pods of a Job that ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    /// The one that finished last, and whether it succeeded; one that did precedes all others.
    last: (bool, PodFacts),
    /// The CPU time of each, by a hash of its name: the watch may show a pod several times.
    cpu_seconds: HashMap<u64, Option<f64>>,
}

impl Pods {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pods of a Job that ended at this time; `None` when the watch does not show them soon.
    pub(crate) async fn of_job(&self, job: &str, ended: Option<Timestamp>, now: Timestamp) -> Option<Ended> {
        let mut changes = self.changed.subscribe();
        let mut limit = tokio::time::Instant::now() + FIRST_WAIT;
        loop {
            changes.borrow_and_update();
            {
                let known = self.known();
                if let Some(found) = known.jobs.get(job) {
                    return Some(found.clone());
                }
                if known.is_listed {
                    let age = ended.map_or(SignedDuration::ZERO, |ended| now.duration_since(ended));
                    let left = Duration::try_from(WAIT - age.clamp(SignedDuration::ZERO, WAIT)).unwrap_or_default();
                    limit = limit.min(tokio::time::Instant::now() + left);
                }
            }
            if !matches!(tokio::time::timeout_at(limit, changes.changed()).await, Ok(Ok(()))) {
                return None;
            }
        }
    }

    /// Removes a Job that is settled.
    pub(crate) fn remove(&self, job: &str) {
        self.known().jobs.remove(job);
    }

    /// Records a pod that the watch shows.
    fn record(&self, pod: &Pod, view: &View) {
        let labels = pod.metadata.labels.as_ref();
        let Some(job) = labels.and_then(|labels| labels.get(JOB_NAME)).filter(|job| view.may_settle(job)) else {
            return;
        };
        let mut known = self.known();
        if known.jobs.len() >= known.prune_at.max(PRUNE_MIN) {
            known.jobs.retain(|job, _| view.is_held(job));
            known.prune_at = 2 * known.jobs.len();
        }
        let name = known.hasher.hash_one(&pod.metadata.name);
        let ended = known.jobs.entry(job.as_str().into()).or_default();
        let last = (outcome::pod_phase(pod) == "Succeeded", PodFacts::new(pod, outcome::terminated(pod)));
        if (last.0, last.1.finished) >= (ended.last.0, ended.last.1.finished) {
            ended.last = last;
        }
        ended.cpu_seconds.insert(name, outcome::termination(pod).map(|reported| reported.cpu_seconds));
        drop(known);
        self.changed.send_replace(());
    }

    fn record_listing(&self) {
        self.known().is_listed = true;
        self.changed.send_replace(());
    }
}

impl Ended {
    /// Adds them to an outcome.
    pub(crate) fn add_to(self, outcome: &mut Outcome) {
        let Self { last: (_, facts), cpu_seconds } = self;
        facts.add_to(outcome);
        outcome.pods = outcome.pods.max(u32::try_from(cpu_seconds.len()).unwrap_or(u32::MAX));
        let reported: Vec<f64> = cpu_seconds.into_values().flatten().collect();
        outcome.cpu_seconds = (!reported.is_empty()).then(|| reported.iter().sum());
    }
}

/// Follows the pods that ended; never returns while the watch can go on. While it fails, outcomes of successes lack
/// what they say of pods, and nothing else.
pub(crate) async fn run(base: Arc<Base>, pods: Arc<Pods>) -> anyhow::Result<()> {
    let jobs = &base.jobs;
    // Then it is known which pods of the first listing belong to settled Jobs.
    let mut changes = jobs.changes();
    while !jobs.view().is_synced() {
        changes.changed().await?;
    }
    let config = watcher::Config::default()
        .labels(&selector(&base.business.name))
        .fields("status.phase!=Pending,status.phase!=Running")
        .page_size(100)
        .timeout(WATCH_SECS);
    let mut events = watcher(base.cluster.watched_pods(), config).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                pods.record(&pod, &jobs.view());
            }
            Ok(watcher::Event::InitDone) => pods.record_listing(),
            // What is known of a deleted pod is kept until its Job is settled.
            Ok(watcher::Event::Init | watcher::Event::Delete(_)) => {}
            Err(error) => {
                tracing::warn!("failed to watch the pods: {:#}", anyhow::Error::from(error));
                pods.record_listing();
            }
        }
    }
    anyhow::bail!("the watch of the pods ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::view::tests::{job, synced};

    fn pod(job: &str, name: &str, phase: &str, finished: &str, cpu: f64) -> Pod {
        let said = serde_json::json!({"code": "done", "message": "", "cpu_seconds": cpu}).to_string();
        let ended = serde_json::json!({"exitCode": 0, "finishedAt": finished, "message": said});
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "labels": {JOB_NAME: job}},
            "spec": {"nodeName": format!("node-of-{name}"), "containers": []},
            "status": {"phase": phase, "containerStatuses": [{
                "name": "engine", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": ended},
            }]},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn the_pod_that_succeeded_counts_and_each_pod_has_its_cpu_time_once() {
        let (pods, mut view) = (Pods::new(), synced());
        view.apply(&job("a", Some("Complete"), false, true));
        view.apply(&job("settled", Some("Complete"), false, false));
        for (name, phase, minute) in [("a-2", "Succeeded", 1), ("a-1", "Failed", 2), ("a-2", "Succeeded", 1)] {
            pods.record(&pod("a", name, phase, &format!("2026-01-01T00:0{minute}:00Z"), 1.0), &view);
        }
        pods.record(&pod("settled", "b-1", "Succeeded", "2026-01-01T00:00:00Z", 1.0), &view);
        let mut outcome = Outcome::new("bu1", contract::outcome::State::Succeeded, "completed", "");
        let now: Timestamp = "2026-01-01T00:02:01Z".parse().unwrap();
        pods.of_job("a", None, now).await.unwrap().add_to(&mut outcome);
        assert_eq!((outcome.node.as_deref(), outcome.cpu_seconds, outcome.pods), (Some("node-of-a-2"), Some(2.0), 2));
        pods.record_listing();
        let ended = now.checked_sub(WAIT).unwrap();
        assert!(pods.of_job("settled", Some(ended), now).await.is_none(), "it is not kept");
        pods.remove("a");
        assert!(pods.known().jobs.is_empty());
    }

    #[test]
    fn pods_of_unknown_jobs_are_bounded() {
        let (pods, mut view) = (Pods::new(), synced());
        view.apply(&job("held", Some("Complete"), false, true));
        pods.record(&pod("held", "held-1", "Succeeded", "2026-01-01T00:00:00Z", 1.0), &view);
        for index in 0..3 * PRUNE_MIN {
            let name = format!("gone-{index}");
            pods.record(&pod(&name, &name, "Succeeded", "2026-01-01T00:00:00Z", 1.0), &view);
            assert!(pods.known().jobs.len() <= PRUNE_MIN);
        }
        assert!(pods.known().jobs.contains_key("held"));
    }
}

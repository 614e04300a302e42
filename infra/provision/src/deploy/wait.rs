//! Waits until a Deployment runs what was applied last, and says in seconds why it does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant as Moment},
};

use anyhow::bail;
use contract::labels;
use futures::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Event, Pod},
};
use kube::{
    Api, Client,
    api::{ListParams, LogParams},
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::time::Instant;

use super::{
    reach::CALL_LIMIT,
    rollout::{
        Cause, Happening, On, Patience, Refusal, Seen, Stage, Verdict, Why, has_refusals, is_current, refused,
        restarts, stage, verdict,
    },
};

/// How long a rollout may take; a safety net, since a failing one is recognised long before.
pub const LIMIT: Duration = Duration::from_secs(300);
/// Last log lines of a container that does not stay up.
const LOG_LINES: i64 = 20;
/// What a node writes in the place of a log that it has not kept.
const LOST_LOG: &str = "unable to retrieve container logs for";
/// Time between two judgements, beside those when something changed.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Number of Pods whose events and logs are read; the others are like them.
const CLOSELY: usize = 3;
/// Longest that a node is waited for which the autoscaler makes.
const SCALE_UP: Duration = Duration::from_secs(15 * 60);
/// Time beyond the patience with a grant, so that its end is seen before that of the rollout.
const MARGIN: Duration = Duration::from_secs(30);

/// What to wait for, and how long.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// Namespace.
    pub namespace: String,
    /// Deployment; its Pods have the label `app` with the same value.
    pub name: String,
    /// Safety net: a rollout that fails is recognised long before.
    pub limit: Duration,
    /// How long each kind of problem may last before it counts as a failure.
    pub patience: Patience,
}

/// A rollout that cannot succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Deployment, as `namespace/name`.
    pub deployment: String,
    /// Why.
    pub cause: Cause,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the Deployment {} does not run: {}", self.deployment, self.cause.seen)
    }
}

impl std::error::Error for Failed {}

/// How long a rollout may go on at least from when it waits on this first, whatever its limit is.
pub(super) fn allowed(on: On, patience: &Patience) -> Duration {
    match on {
        On::Cluster => Duration::ZERO,
        On::Grant => patience.identity + MARGIN,
        On::Node => SCALE_UP,
    }
}

/// Waits for the Deployment `name` with the patience that Google Cloud needs.
///
/// # Errors
/// [`Failed`] when it cannot run, or does not within `limit`; says why.
pub async fn wait(client: &Client, namespace: &str, name: &str, limit: Duration) -> anyhow::Result<()> {
    let rollout = Rollout { namespace: namespace.to_owned(), name: name.to_owned(), limit, patience: Patience::GOOGLE };
    wait_for(client, &rollout, &|_| {}).await
}

/// Waits for a rollout. `report` hears on what it waits, each time that is something else.
///
/// # Errors
/// [`Failed`] when it cannot succeed, or does not within its limit; says why.
pub async fn wait_for(client: &Client, rollout: &Rollout, report: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
    let Rollout { namespace, name, limit, patience } = rollout;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let by_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let by_label = watcher::Config::default().labels(&format!("{}={name}", labels::APP));
    let deployment_events =
        watcher(deployments, by_name).default_backoff().map_ok(|event| Change::Deployment(Box::new(event)));
    let pod_events = watcher(pods, by_label).default_backoff().map_ok(|event| Change::Pod(Box::new(event)));
    let mut events = stream::select(deployment_events.boxed(), pod_events.boxed());

    let mut cluster = World::default();
    let mut last = "nothing was seen of it yet".to_owned();
    let started = Instant::now();
    let mut deadline = started + *limit;
    let mut waited_on = BTreeSet::from([On::Cluster]);
    let mut poll = tokio::time::interval(POLL_EVERY);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => cluster.see(event),
                // The watch comes back by itself.
                Some(Err(error)) => {
                    last = format!("the watch broke off: {error}");
                    continue;
                }
                None => bail!("the watch of the Deployment {namespace}/{name} ended"),
            },
            _ = poll.tick() => cluster.read_again(client, namespace, POLL_EVERY).await,
        }
        cluster.look_at_refusals(client, namespace).await;
        let Some(mut judged) = cluster.judge(patience) else {
            if Instant::now() >= deadline {
                break;
            }
            continue;
        };
        if matches!(judged, Verdict::Failed(_)) {
            // With what its log says it may be another cause, or one that waiting cures.
            cluster.read_again(client, namespace, Duration::ZERO).await;
            judged = cluster.judge(patience).unwrap_or(judged);
        }
        match judged {
            Verdict::Ready => return Ok(()),
            Verdict::Waiting { why, on } => {
                if why != last {
                    report(&why);
                    last = why;
                }
                if waited_on.insert(on) {
                    deadline = deadline.max(Instant::now() + allowed(on, patience));
                }
            }
            Verdict::Failed(cause) => {
                return Err(Failed { deployment: format!("{namespace}/{name}"), cause }.into());
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    // There is no time left to be patient with what is known to be wrong.
    let cause = match cluster.judge(&Patience::NONE) {
        Some(Verdict::Failed(cause)) => cause,
        _ => {
            let seen = format!("it is not ready after {} s: {last}", started.elapsed().as_secs());
            Cause { why: Why::Stuck, seen }
        }
    };
    Err(Failed { deployment: format!("{namespace}/{name}"), cause }.into())
}

enum Change {
    Deployment(Box<watcher::Event<Deployment>>),
    Pod(Box<watcher::Event<Pod>>),
}

/// A Pod as it is followed.
struct Followed {
    pod: Pod,
    stage: Stage,
    since: Moment,
    events: Vec<(Event, Moment)>,
    log: String,
}

#[derive(Default)]
struct World {
    deployment: Option<Deployment>,
    /// What its Pods are refused for, and since when.
    refused: Option<(String, Moment)>,
    pods: BTreeMap<String, Followed>,
    /// Names seen since the watch began to list anew.
    listed: Option<BTreeSet<String>>,
}

impl World {
    fn see(&mut self, event: Change) {
        use watcher::Event;
        let key = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
        match event {
            Change::Deployment(event) => match *event {
                Event::Apply(deployment) | Event::InitApply(deployment) => self.deployment = Some(deployment),
                Event::Delete(_) => self.deployment = None,
                Event::Init | Event::InitDone => {}
            },
            Change::Pod(event) => match *event {
                Event::Apply(pod) | Event::InitApply(pod) => self.follow(key(&pod), pod),
                Event::Delete(pod) => {
                    self.pods.remove(&key(&pod));
                }
                Event::Init => self.listed = Some(BTreeSet::new()),
                // What went while the watch was broken is in no list any more.
                Event::InitDone => {
                    if let Some(listed) = self.listed.take() {
                        self.pods.retain(|name, _| listed.contains(name));
                    }
                }
            },
        }
    }

    fn follow(&mut self, name: String, pod: Pod) {
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        let stage = stage(&pod);
        let (since, events, log) = match self.pods.remove(&name) {
            // Since a probe found it started: what was before does not count against it.
            Some(old) if old.stage == Stage::Starting && stage == Stage::Unready => {
                (Moment::now(), old.events, old.log)
            }
            // A container that is started again and again does not begin anew to be unready.
            Some(old) if old.stage == stage || old.since_start(&pod) => (old.since, old.events, old.log),
            Some(old) => (Moment::now(), old.events, old.log),
            None => (Moment::now(), Vec::new(), String::new()),
        };
        self.pods.insert(name, Followed { pod, stage, since, events, log });
    }

    /// The verdict on what is there now; none before the Deployment was seen.
    fn judge(&self, patience: &Patience) -> Option<Verdict> {
        let deployment = self.deployment.as_ref()?;
        let refused = self.refused.as_ref();
        let refused = refused.map(|(message, since)| Refusal { message, lasting: since.elapsed() });
        let happened: Vec<Vec<Happening>> = self.pods.values().map(Followed::happened).collect();
        let seen = self.pods.values().zip(&happened).map(|(followed, events)| Seen {
            pod: &followed.pod,
            lasting: followed.since.elapsed(),
            events,
            log: &followed.log,
        });
        Some(verdict(deployment, refused, seen, patience))
    }

    /// Asks for the ReplicaSets, when the Deployment says that Pods of one of them are refused.
    async fn look_at_refusals(&mut self, client: &Client, namespace: &str) {
        let Some(deployment) = self.deployment.as_ref().filter(|deployment| has_refusals(deployment)) else {
            self.refused = None;
            return;
        };
        let api: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        let of = ListParams::default().labels(&format!("{}={name}", labels::APP));
        if let Ok(Ok(sets)) = tokio::time::timeout(CALL_LIMIT, api.list(&of)).await {
            let since = self.refused.as_ref().map_or_else(Moment::now, |(_, since)| *since);
            self.refused = refused(deployment, sets.iter()).map(|message| (message.to_owned(), since));
        }
    }

    /// Asks for events and logs of the Pods that have not been well for so long.
    async fn read_again(&mut self, client: &Client, namespace: &str, after: Duration) {
        let Some(deployment) = &self.deployment else { return };
        let ill = self.pods.iter_mut().filter(|(_, followed)| {
            followed.stage != Stage::Other && is_current(deployment, &followed.pod) && followed.since.elapsed() >= after
        });
        let reads = ill.take(CLOSELY).map(|(name, followed)| async move {
            if let Some(events) = events(client, namespace, name).await {
                followed.hear(events);
            }
            let container = followed.pod.spec.as_ref().and_then(|spec| spec.containers.first());
            if followed.stage != Stage::Unscheduled
                && let Some(container) = container
            {
                let log = last_lines(client, namespace, name, &container.name).await;
                if !log.is_empty() {
                    followed.log = log;
                }
            }
        });
        join_all(reads).await;
    }
}

impl Followed {
    /// Takes note of what happened to it. What was noted before, and did not happen again, is as old as it was.
    fn hear(&mut self, events: Vec<Event>) {
        let now = Moment::now();
        let known = std::mem::take(&mut self.events);
        let when = |event: &Event| known.iter().find(|(old, _)| old == event).map_or(now, |(_, when)| *when);
        self.events = events.into_iter().map(|event| (event.clone(), when(&event))).collect();
    }

    fn happened(&self) -> Vec<Happening> {
        let happening = |(event, when): &(Event, Moment)| Happening {
            reason: event.reason.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
            ago: when.elapsed(),
        };
        self.events.iter().map(happening).collect()
    }

    /// Whether the container of this Pod has been started again since, so that both are the same failure.
    fn since_start(&self, pod: &Pod) -> bool {
        restarts(pod) > 0 && self.stage != Stage::Unscheduled && stage(pod) != Stage::Other
    }
}

/// What happened to a Pod, oldest first; nothing when it cannot be asked for.
async fn events(client: &Client, namespace: &str, pod: &str) -> Option<Vec<Event>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let of = ListParams::default().fields(&format!("involvedObject.name={pod}"));
    let listed = tokio::time::timeout(CALL_LIMIT, api.list(&of)).await.ok()?.ok()?;
    let mut events = listed.items;
    events.sort_by_key(|event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
        let recent = series.map(|time| time.0).or_else(|| event.last_timestamp.as_ref().map(|time| time.0));
        recent.or_else(|| event.event_time.as_ref().map(|time| time.0))
    });
    Some(events)
}

/// The last lines that a container wrote; of its run before, when it was started again.
async fn last_lines(client: &Client, namespace: &str, pod: &str, container: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for previous in [true, false] {
        let parameters = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(LOG_LINES),
            previous,
            ..LogParams::default()
        };
        if let Ok(Ok(log)) = tokio::time::timeout(CALL_LIMIT, pods.logs(pod, &parameters)).await
            && !log.trim().is_empty()
            && !log.starts_with(LOST_LOG)
        {
            return log.trim_end().to_owned();
        }
    }
    String::new()
}

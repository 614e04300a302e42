//! Waits until a Deployment runs what was applied last, and says in seconds why it does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant as Moment},
};

use anyhow::bail;
use common::labels;
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
        Cause, Patience, Seen, Stage, Verdict, Why, has_refusals, is_current, refused, restarts, stage, verdict,
    },
};

/// How long a rollout may take; a safety net, since a failing one is recognised long before.
pub const LIMIT: Duration = Duration::from_secs(300);
/// Last log lines of a container that does not stay up.
const LOG_LINES: i64 = 20;
/// Time between two judgements, beside those when something changed.
const LOOK: Duration = Duration::from_millis(500);
/// Pods that are looked at more closely; the others are like them.
const CLOSELY: usize = 3;
/// Longest that a node is waited for which the autoscaler makes.
const SCALE_UP: Duration = Duration::from_secs(15 * 60);

/// What to wait for, and how long.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// Namespace.
    pub namespace: String,
    /// Deployment; its Pods have the label `app` with the same value.
    pub name: String,
    /// Safety net: a rollout that fails is recognised long before.
    pub limit: Duration,
    /// When each kind of trouble counts as a failure.
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

/// Waits for the Deployment `name` with the patience that Google Cloud needs.
///
/// # Errors
/// [`Failed`] when it cannot run, or does not within `limit`; says why.
pub async fn wait(client: &Client, namespace: &str, name: &str, limit: Duration) -> anyhow::Result<()> {
    let rollout = Rollout { namespace: namespace.to_owned(), name: name.to_owned(), limit, patience: Patience::GOOGLE };
    wait_for(client, &rollout, &|_| {}).await
}

/// Waits for a rollout. `told` hears on what it waits, each time that is something else.
///
/// # Errors
/// [`Failed`] when it cannot succeed, or does not within its limit; says why.
pub async fn wait_for(client: &Client, rollout: &Rollout, told: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
    let Rollout { namespace, name, limit, patience } = rollout;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let by_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let by_label = watcher::Config::default().labels(&format!("{}={name}", labels::APP));
    let deployment_events =
        watcher(deployments, by_name).default_backoff().map_ok(|event| Change::Deployment(Box::new(event)));
    let pod_events = watcher(pods, by_label).default_backoff().map_ok(|event| Change::Pod(Box::new(event)));
    let mut events = stream::select(deployment_events.boxed(), pod_events.boxed());

    let mut world = World::default();
    let mut last = "nothing was seen of it yet".to_owned();
    let mut deadline = Instant::now() + *limit;
    let mut scaling = false;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => world.see(event),
                // The watch comes back by itself.
                Some(Err(error)) => {
                    last = format!("the watch broke off: {error}");
                    continue;
                }
                None => bail!("the watch of the Deployment {namespace}/{name} ended"),
            },
            _ = look.tick() => world.look_closely(client, namespace, LOOK).await,
        }
        world.look_at_refusals(client, namespace).await;
        let Some(mut judged) = world.judge(patience) else {
            if Instant::now() >= deadline {
                break;
            }
            continue;
        };
        if matches!(judged, Verdict::Failed(_)) {
            // With what its log says it may be another cause, or one that waiting cures.
            world.look_closely(client, namespace, Duration::ZERO).await;
            judged = world.judge(patience).unwrap_or(judged);
        }
        match judged {
            Verdict::Ready => return Ok(()),
            Verdict::Waiting { why, scaling: now_scaling } => {
                if why != last {
                    told(&why);
                    last = why;
                }
                if now_scaling && !std::mem::replace(&mut scaling, true) {
                    deadline = deadline.max(Instant::now() + SCALE_UP);
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
    let seen = format!("it is not ready after {} s: {last}", limit.as_secs());
    Err(Failed { deployment: format!("{namespace}/{name}"), cause: Cause { why: Why::Stuck, seen } }.into())
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
    events: Vec<Event>,
    log: String,
}

#[derive(Default)]
struct World {
    deployment: Option<Deployment>,
    /// What its Pods are refused for.
    refused: Option<String>,
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
        Some(verdict(deployment, self.refused.as_deref(), self.seen(), patience))
    }

    fn seen(&self) -> impl Iterator<Item = Seen<'_>> {
        self.pods.values().map(|followed| Seen {
            pod: &followed.pod,
            lasting: followed.since.elapsed(),
            events: &followed.events,
            log: &followed.log,
        })
    }

    /// Asks for the ReplicaSets, when the Deployment says that Pods of one of them are refused.
    async fn look_at_refusals(&mut self, client: &Client, namespace: &str) {
        self.refused = None;
        let Some(deployment) = self.deployment.as_ref().filter(|deployment| has_refusals(deployment)) else { return };
        let api: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        let of = ListParams::default().labels(&format!("{}={name}", labels::APP));
        if let Ok(Ok(sets)) = tokio::time::timeout(CALL_LIMIT, api.list(&of)).await {
            self.refused = refused(deployment, sets.iter()).map(str::to_owned);
        }
    }

    /// Asks for events and logs of the Pods that have not been well for so long.
    async fn look_closely(&mut self, client: &Client, namespace: &str, after: Duration) {
        let Some(deployment) = &self.deployment else { return };
        let ill = self.pods.iter_mut().filter(|(_, followed)| {
            followed.stage != Stage::Other && is_current(deployment, &followed.pod) && followed.since.elapsed() >= after
        });
        let looks = ill.take(CLOSELY).map(|(name, followed)| async move {
            if let Some(events) = events(client, namespace, name).await {
                followed.events = events;
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
        join_all(looks).await;
    }
}

impl Followed {
    /// Whether the container of this Pod has been started again since, so that both are one and the same trouble.
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
        let recent = event.last_timestamp.as_ref().map(|time| time.0);
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
        {
            return log.trim_end().to_owned();
        }
    }
    String::new()
}

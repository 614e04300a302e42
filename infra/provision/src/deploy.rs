//! Brings the rendered objects into the cluster and waits until they run, or says why they do not.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use common::labels;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, LogParams, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::manifests::Rendered;

pub mod applyset;
mod rollout;
mod run;

pub use rollout::{CONFIG_HASH, Verdict, verdict};
pub(crate) use run::ORCHESTRATOR;
pub use run::{Event, Options, Progress, Report, live_images, run};

/// Name under which our fields are owned in the cluster.
pub const FIELD_MANAGER: &str = "deskgrid";
/// Label on a namespace: the environment it belongs to.
const ENVIRONMENT: &str = "deskgrid.dev/environment";
/// Last log lines of a container that does not stay up.
const LOG_LINES: i64 = 20;
/// Kubernetes calls that take longer are given up.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// What happened to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Kind.
    pub kind: String,
    /// Namespace, for what lives in one.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// What happened.
    pub change: Change,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is new.
    Created,
    /// It was there and is different now.
    Changed,
    /// It was there and is as it was.
    Unchanged,
    /// It was there and is gone, since neither the environment nor the templates have it any longer.
    Pruned,
}

/// What to do with a namespace of our name that somebody else made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Foreign {
    /// Stop before anything is written.
    #[default]
    Refuse,
    /// Make it ours. One that belongs to another environment is refused all the same.
    Adopt,
}

impl Foreign {
    /// What the flag `--adopt` asks for.
    pub fn adopt(flag: bool) -> Self {
        if flag { Self::Adopt } else { Self::Refuse }
    }
}

/// Applies every object, server-side and in order; then deletes what was applied before and is no longer wanted.
///
/// # Errors
/// When a namespace of our name is somebody else's, before anything is written; or when the API server refuses an
/// object.
pub async fn apply(
    client: &Client,
    environment: &str,
    rendered: &Rendered,
    foreign: Foreign,
) -> anyhow::Result<Vec<Applied>> {
    for object in rendered.objects().filter(|object| object["kind"] == "Namespace") {
        check_namespace(client, environment, object, foreign).await?;
    }
    // Files of one business hold to their order; businesses do not wait for each other.
    let mut businesses: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for object in rendered.objects() {
        let business = object["metadata"]["labels"][labels::BUSINESS].as_str().unwrap_or_default();
        businesses.entry(business.to_owned()).or_default().push(object.clone());
    }
    let results: Vec<anyhow::Result<Vec<Applied>>> = stream::iter(businesses.into_values())
        .map(|objects| apply_business(client, environment, objects))
        .buffered(8)
        .collect()
        .await;
    let mut applied = Vec::new();
    for result in results {
        applied.extend(result?);
    }
    Ok(applied)
}

async fn apply_business(client: &Client, environment: &str, mut objects: Vec<Value>) -> anyhow::Result<Vec<Applied>> {
    let sets = applyset::assign(&mut objects.iter_mut().collect::<Vec<_>>());
    let (namespaces, members): (Vec<&Value>, Vec<&Value>) =
        objects.iter().partition(|object| object["kind"] == "Namespace");
    let mut applied = Vec::new();
    for namespace in namespaces {
        applied.push(apply_one(client, namespace).await?);
    }
    let mut open = Vec::new();
    for set in &sets {
        open.push((set, applyset::open(client, environment, set).await?));
    }
    for object in members {
        applied.push(apply_one(client, object).await?);
    }
    for (set, kinds) in open {
        applied.extend(applyset::close(client, environment, set, &kinds).await?);
    }
    Ok(applied)
}

/// Waits until the Deployment `name` runs what was applied last.
///
/// # Errors
/// When it cannot run (image, crash with its last log lines, refused pods), or does not within `limit`; says why.
pub async fn wait(client: &Client, namespace: &str, name: &str, limit: Duration) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let by_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let by_label = watcher::Config::default().labels(&format!("{}={name}", labels::APP));
    let deployment_events =
        watcher(deployments, by_name).default_backoff().map_ok(|event| Seen::Deployment(Box::new(event)));
    let pod_events = watcher(pods.clone(), by_label).default_backoff().map_ok(|event| Seen::Pod(Box::new(event)));
    let mut events = stream::select(deployment_events.boxed(), pod_events.boxed());

    let mut world = World::default();
    let mut last = "nothing was seen of it yet".to_owned();
    let deadline = Instant::now() + limit;
    loop {
        let event = match tokio::time::timeout_at(deadline, events.next()).await {
            Ok(Some(Ok(event))) => event,
            // The watch comes back by itself.
            Ok(Some(Err(error))) => {
                last = format!("the watch broke off: {error}");
                continue;
            }
            Ok(None) => bail!("the watch of the Deployment {namespace}/{name} ended"),
            Err(_) => bail!("the Deployment {namespace}/{name} is not ready after {} s: {last}", limit.as_secs()),
        };
        world.see(event);
        let Some(deployment) = &world.deployment else { continue };
        match verdict(deployment, world.pods.values()) {
            Verdict::Ready => return Ok(()),
            Verdict::Waiting(why) => last = why,
            Verdict::Failed { reason, crashed } => {
                let log = match crashed {
                    Some((pod, container)) => last_lines(&pods, &pod, &container).await,
                    None => String::new(),
                };
                bail!("the Deployment {namespace}/{name} does not run: {reason}{log}");
            }
        }
    }
}

enum Seen {
    Deployment(Box<watcher::Event<Deployment>>),
    Pod(Box<watcher::Event<Pod>>),
}

#[derive(Default)]
struct World {
    deployment: Option<Deployment>,
    pods: BTreeMap<String, Pod>,
}

impl World {
    fn see(&mut self, event: Seen) {
        use watcher::Event;
        let key = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
        match event {
            Seen::Deployment(event) => match *event {
                Event::Apply(deployment) | Event::InitApply(deployment) => self.deployment = Some(deployment),
                Event::Delete(_) => self.deployment = None,
                Event::Init | Event::InitDone => {}
            },
            Seen::Pod(event) => match *event {
                Event::Apply(pod) | Event::InitApply(pod) => {
                    self.pods.insert(key(&pod), pod);
                }
                Event::Delete(pod) => {
                    self.pods.remove(&key(&pod));
                }
                Event::Init => self.pods.clear(),
                Event::InitDone => {}
            },
        }
    }
}

async fn last_lines(pods: &Api<Pod>, pod: &str, container: &str) -> String {
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
            return format!("\nits last log lines are:\n{}", log.trim_end());
        }
    }
    String::new()
}

async fn check_namespace(client: &Client, environment: &str, object: &Value, foreign: Foreign) -> anyhow::Result<()> {
    let api = api(client, object)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let live = tokio::time::timeout(CALL_LIMIT, api.get_opt(name)).await.context("ask the cluster")?;
    let Some(live) = live.with_context(|| format!("read the namespace {name}"))? else { return Ok(()) };
    let found = live.metadata.labels.unwrap_or_default();
    let label = |key: &str| found.get(key).map(String::as_str);
    if label(labels::MANAGED_BY) != Some(labels::MANAGED_BY_DESKGRID) && foreign == Foreign::Refuse {
        bail!(
            "the namespace {name} is not ours (it has no label {}={}); `cargo xtask deploy --adopt` takes it over, or give the business another `namespace` in the environment file",
            labels::MANAGED_BY,
            labels::MANAGED_BY_DESKGRID
        );
    }
    match label(ENVIRONMENT) {
        Some(other) if other != environment => {
            bail!("the namespace {name} belongs to the environment {other}; give the business another `namespace`")
        }
        _ => Ok(()),
    }
}

async fn apply_one(client: &Client, object: &Value) -> anyhow::Result<Applied> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let context = || format!("apply the {kind} {name}");
    let api = api(client, object)?;
    let call = async {
        let before = api.get_opt(&name).await?.and_then(|live| live.metadata.resource_version);
        let parameters = PatchParams::apply(FIELD_MANAGER).force().validation_strict();
        let after = api.patch(&name, &parameters, &Patch::Apply(object)).await?.metadata.resource_version;
        Ok::<_, kube::Error>(match before {
            None => Change::Created,
            before if before == after => Change::Unchanged,
            _ => Change::Changed,
        })
    };
    let change = tokio::time::timeout(CALL_LIMIT, call).await.with_context(context)?.with_context(context)?;
    let namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
    Ok(Applied { kind, namespace, name, change })
}

fn api(client: &Client, object: &Value) -> anyhow::Result<Api<DynamicObject>> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    if version.is_empty() || text("kind").is_empty() {
        bail!("an object has no apiVersion or kind");
    }
    // Every kind of ours has the regular plural, so no discovery is needed.
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

#[cfg(test)]
mod tests;

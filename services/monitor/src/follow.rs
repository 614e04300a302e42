//! Keeps the state of a business up to date: watches in the cluster, and listings of the bucket.
//!
//! The cluster reports changes. The bucket does not: it is listed, more often while somebody uses the monitor and while
//! that is quick, and an outcome is read by its name as soon as the cluster shows that it was written.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cloud::controls;
use contract::{config::Business, labels, quantity};
use futures::{StreamExt as _, TryStreamExt as _};
use inspect::cluster::{self, PodView};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Pod as KubernetesPod, ResourceQuota},
};
use kube::{
    Api,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use sessions::jobs;
use tokio::time::{sleep, timeout};

use crate::{
    raw::{Held, Pod, Quota},
    state::{Followed, State},
};

/// The API server, in errors.
pub(crate) const CLUSTER: &str = "Kubernetes";
/// Cloud Storage, in errors.
pub(crate) const BUCKET: &str = "Cloud Storage";
/// Pub/Sub, in errors.
pub(crate) const PUBSUB: &str = "Pub/Sub";

/// Shortest time between two listings while somebody uses the monitor.
const LIST_SOON: Duration = Duration::from_secs(2);
/// Longest time between two listings.
const LIST_LATE: Duration = Duration::from_secs(30);
/// A listing takes at most one part in this many of the time.
const LIST_SHARE: u32 = 15;
/// Outcomes that are read by name; if there are more, the bucket is listed.
const LOOKUPS: usize = 64;
/// Between two reads of resources that are not watched.
const SLOW: Duration = Duration::from_secs(10);
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

mod nodes;
mod pubsub;

pub(crate) use nodes::follow_nodes;

/// Follows one business for ever.
pub(crate) async fn follow(state: Arc<State>, of: Arc<Followed>) {
    tokio::join!(watch_jobs(&state, &of), watch_pods(&state, &of), list(&state, &of), poll(&state, &of));
}

fn selector(business: &Business) -> String {
    format!("{}={}", labels::BUSINESS, business.name)
}

async fn watch_jobs(state: &State, of: &Followed) {
    let business = &of.business;
    let api: Api<Job> = Api::namespaced(state.kube.clone(), &business.namespace);
    // The engines of a pool have no work of their own.
    let selector = format!("{},{}={},!{}", selector(business), labels::APP, labels::APP_ENGINE, labels::POOL);
    let config = watcher::Config::default().labels(&selector).page_size(500);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let (name, bucket) = (business.name.as_str(), business.bucket.as_str());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => of.change(state, |raw| {
                raw.listing = Some(Vec::new());
                false
            }),
            Ok(watcher::Event::InitApply(job)) => {
                let held = held(&job);
                let id = job.metadata.name.unwrap_or_default();
                of.change(state, |raw| {
                    raw.listing.get_or_insert_default().push(id.clone());
                    raw.shown(name, bucket, &id, held)
                });
            }
            Ok(watcher::Event::InitDone) => {
                of.change(state, |raw| {
                    let shown: std::collections::HashSet<String> =
                        raw.listing.take().unwrap_or_default().into_iter().collect();
                    let gone: Vec<String> = raw.jobs.keys().filter(|id| !shown.contains(*id)).cloned().collect();
                    for id in gone {
                        raw.gone(name, bucket, &id);
                    }
                    raw.recovered(CLUSTER);
                    true
                });
                of.watching.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            Ok(watcher::Event::Apply(job)) => {
                let held = held(&job);
                let id = job.metadata.name.unwrap_or_default();
                of.change(state, |raw| raw.shown(name, bucket, &id, held));
            }
            Ok(watcher::Event::Delete(job)) => {
                of.change(state, |raw| raw.gone(name, bucket, &job.metadata.name.unwrap_or_default()));
            }
            Err(error) => of.report(state, CLUSTER, &anyhow::Error::from(error).context("watch the Jobs")),
        }
    }
}

/// The part of a Kubernetes Job that the monitor needs.
fn held(job: &Job) -> Held {
    let is_held = job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == labels::FINALIZER);
    Held { active: cluster::active(job), is_held }
}

async fn watch_pods(state: &State, of: &Followed) {
    let api: Api<KubernetesPod> = Api::namespaced(state.kube.clone(), &of.business.namespace);
    let config = watcher::Config::default().labels(&selector(&of.business)).page_size(500);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut shown = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => shown.clear(),
            Ok(watcher::Event::InitApply(pod)) => shown.push(pod_of(&pod)),
            Ok(watcher::Event::InitDone) => {
                let pods = shown.drain(..).map(|pod| (pod.view.name.clone(), pod)).collect();
                of.change(state, |raw| {
                    raw.pods = pods;
                    true
                });
            }
            Ok(watcher::Event::Apply(pod)) => {
                let pod = pod_of(&pod);
                of.change(state, |raw| raw.pods.insert(pod.view.name.clone(), pod.clone()) != Some(pod));
            }
            Ok(watcher::Event::Delete(pod)) => {
                of.change(state, |raw| raw.pods.remove(&pod.metadata.name.unwrap_or_default()).is_some());
            }
            Err(error) => of.report(state, CLUSTER, &anyhow::Error::from(error).context("watch the Pods")),
        }
    }
}

fn pod_of(pod: &KubernetesPod) -> Pod {
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let requests: Vec<_> = containers.filter_map(|container| container.resources.as_ref()?.requests.as_ref()).collect();
    let sum = |resource: &str, parse: fn(&str) -> Option<u64>| -> u64 {
        requests.iter().filter_map(|amounts| parse(&amounts.get(resource)?.0)).sum()
    };
    Pod {
        view: PodView::from(pod),
        app: label(labels::APP),
        cpu_millis: sum("cpu", quantity::millis),
        memory_bytes: sum("memory", quantity::bytes),
    }
}

/// Lists the bucket, and reads single outcomes in between.
async fn list(state: &State, of: &Followed) {
    let mut elapsed = Duration::ZERO;
    let mut is_due = true;
    loop {
        if is_due {
            let since = Instant::now();
            match list_once(state, of).await {
                Ok(()) => elapsed = since.elapsed(),
                Err(error) => of.report(state, BUCKET, &error),
            }
            of.raw().listed = Some(Instant::now());
        }
        let soonest = if state.is_watched() { LIST_SOON } else { LIST_LATE };
        let pause = (elapsed * LIST_SHARE).clamp(soonest, LIST_LATE);
        is_due = true;
        tokio::select! {
            () = sleep(pause) => {}
            () = of.list_now.notified() => {}
            () = of.settled.notified() => is_due = !read_settled(state, of).await,
        }
    }
}

async fn list_once(state: &State, of: &Followed) -> anyhow::Result<()> {
    let business = &of.business;
    of.raw().settled.clear();
    let (objects, controls) =
        tokio::try_join!(jobs::list(&state.store, business, None), controls::all(&state.store, business),)?;
    of.change(state, |raw| {
        let is_news = raw.recovered(BUCKET)
            || raw.listed.is_none()
            || controls != raw.controls
            || !is_same(&raw.objects.inputs, &objects.inputs)
            || !is_same(&raw.objects.outcomes, &objects.outcomes);
        (raw.objects, raw.controls) = (objects, controls);
        is_news
    });
    Ok(())
}

fn is_same(some: &[cloud::storage::Object], others: &[cloud::storage::Object]) -> bool {
    some.len() == others.len()
        && some
            .iter()
            .zip(others)
            .all(|(a, b)| a.generation == b.generation && a.name == b.name && a.metadata == b.metadata)
}

/// Reads the outcomes that the cluster shows as written; `false` when a listing is cheaper.
async fn read_settled(state: &State, of: &Followed) -> bool {
    let settled = std::mem::take(&mut of.raw().settled);
    if settled.len() > LOOKUPS {
        return false;
    }
    let reads = settled.into_iter().map(|(outcome, input)| async move {
        let found = state.store.describe(&of.business.bucket, &outcome, None).await?;
        anyhow::Ok(found.map(|found| (found, input)))
    });
    match futures::stream::iter(reads).buffer_unordered(16).try_collect::<Vec<_>>().await {
        Ok(found) => {
            of.change(state, |raw| {
                let is_news = !found.is_empty();
                for (outcome, input) in found.into_iter().flatten() {
                    raw.add_outcome(outcome, input.as_deref());
                }
                is_news
            });
            true
        }
        Err(error) => {
            of.report(state, BUCKET, &error);
            true
        }
    }
}

/// Reads the resources that are not watched: orchestrators, quotas, the settings of Pub/Sub.
async fn poll(state: &State, of: &Followed) {
    loop {
        let namespace = &of.business.namespace;
        match timeout(PATIENCE, orchestrator(state, of)).await.context("no answer in time").and_then(|answer| answer) {
            Ok(view) => of.change(state, |raw| {
                let is_news = raw.orchestrator.as_ref() != Some(&view);
                raw.orchestrator = Some(view);
                raw.recovered(CLUSTER) || is_news
            }),
            // Without the right to read Deployments, the state of the orchestrator is unknown.
            Err(error) if is_denied(&error) => {}
            Err(error) => of.report(state, CLUSTER, &error.context("read the orchestrator")),
        }
        // Without the right to read quotas, none are shown.
        let quotas: Api<ResourceQuota> = Api::namespaced(state.kube.clone(), namespace);
        if let Ok(Ok(list)) = timeout(PATIENCE, quotas.list(&ListParams::default())).await {
            let (full, quotas) = (cluster::full_quotas(&list.items), quotas_of(&list.items));
            of.change(state, |raw| {
                let is_news = raw.quotas != quotas;
                (raw.full_quotas, raw.quotas) = (full, quotas);
                is_news
            });
        }
        // Without the right to read reports of the pool, none are shown.
        if let Ok(Ok(reports)) = timeout(PATIENCE, cluster::pool_reports(&state.kube, &of.business)).await {
            of.change(state, |raw| {
                let is_news = raw.pool != reports;
                raw.pool = reports;
                is_news
            });
        }
        let items = pubsub::items(state, &of.business).await;
        let all_failed = !items.is_empty() && items.iter().all(|item| !item.error.is_empty());
        match items.first().filter(|_| all_failed) {
            Some(item) => of.report(state, PUBSUB, &anyhow::anyhow!("{}", item.error)),
            None => of.change(state, |raw| raw.recovered(PUBSUB)),
        }
        of.change(state, |raw| {
            let is_news = raw.pubsub != items;
            raw.pubsub = items;
            is_news
        });
        sleep(SLOW).await;
    }
}

fn is_denied(error: &anyhow::Error) -> bool {
    let status = error.chain().find_map(|error| match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    });
    status == Some(403)
}

async fn orchestrator(state: &State, of: &Followed) -> anyhow::Result<cluster::OrchestratorView> {
    let namespace = &of.business.namespace;
    let deployments: Vec<Deployment> = cluster::orchestrators(&state.kube, namespace).await?;
    let pods = cluster::orchestrator_pods(&state.kube, namespace).await?;
    Ok(cluster::orchestrator(&deployments, &pods))
}

fn quotas_of(quotas: &[ResourceQuota]) -> Vec<Quota> {
    let mut lines = Vec::new();
    for quota in quotas {
        let Some(status) = &quota.status else { continue };
        for (resource, hard) in status.hard.iter().flatten() {
            let used = status.used.as_ref().and_then(|used| used.get(resource));
            lines.push(Quota {
                name: quota.metadata.name.clone().unwrap_or_default(),
                resource: resource.clone(),
                used: used.map_or_else(|| "0".to_owned(), |used| used.0.clone()),
                hard: hard.0.clone(),
            });
        }
    }
    lines
}

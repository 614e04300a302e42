//! Reads the Jobs, Pods, events, logs and orchestrators of a business from the cluster.

use std::time::Duration;

use anyhow::Context as _;
use contract::{
    config::Business,
    labels, names,
    pool_report::{self, Report},
};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Event, Namespace, Pod, ResourceQuota},
};
use kube::{Api, Client, api::ListParams};
use sessions::jobs::Active;

mod logs;
mod view;

pub use logs::{Position, log, log_stream, previous_log, whole_log};
pub use view::{EventView, OrchestratorView, PodView, active, full_quotas, is_finished, orchestrator};

/// Time limit of a request to the cluster.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Objects in a page of a listing.
const PAGE: u32 = 500;
/// Label that the Job controller puts on a Job's Pods.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";
/// Value of [`labels::APP`] on orchestrators.
const APP_ORCHESTRATOR: &str = "orchestrator";

/// The Kubernetes Jobs of a business that compute messages, of one session when it is given. The engines of a pool are
/// none of them: they hold no work of their own.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn jobs(client: &Client, namespace: &str, business: &str, session: Option<&str>) -> anyhow::Result<Vec<Job>> {
    let (app, engine, pool) = (labels::APP, labels::APP_ENGINE, labels::POOL);
    let mut selector = format!("{app}={engine},{}={business},!{pool}", labels::BUSINESS);
    if let Some(session) = session {
        selector.push_str(&format!(",{}={}", labels::SESSION, names::label_value(session)));
    }
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    let mut parameters = ListParams::default().labels(&selector).limit(PAGE);
    let mut jobs = Vec::new();
    loop {
        let page = answer(api.list(&parameters)).await?;
        jobs.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(jobs),
        }
    }
}

/// The running Jobs of a business; each range of a pack is one of them.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn active_jobs(client: &Client, business: &Business, session: Option<&str>) -> anyhow::Result<Vec<Active>> {
    let jobs = jobs(client, &business.namespace, &business.name, session).await?;
    Ok(jobs.iter().filter_map(active).collect())
}

/// The Pods of a Kubernetes Job.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn pods_of_job(client: &Client, namespace: &str, job: &str) -> anyhow::Result<Vec<Pod>> {
    pods(client, namespace, &format!("{JOB_NAME}={job}")).await
}

/// The Pods of a business's engines, optionally of one session and one Job.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn engine_pods(
    client: &Client,
    namespace: &str,
    business: &str,
    session: Option<&str>,
    job: Option<&str>,
) -> anyhow::Result<Vec<Pod>> {
    let mut selector = format!("{}={},{}={business}", labels::APP, labels::APP_ENGINE, labels::BUSINESS);
    for (label, value) in [(labels::SESSION, session), (labels::JOB, job)] {
        if let Some(value) = value {
            selector.push_str(&format!(",{label}={}", names::label_value(value)));
        }
    }
    pods(client, namespace, &selector).await
}

/// The Pods of the engines in a business's pool that are in a phase.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn engines(client: &Client, namespace: &str, business: &str, phase: &str) -> anyhow::Result<Vec<Pod>> {
    let mut engines = pods(client, namespace, &format!("{}={business},{}", labels::BUSINESS, labels::POOL)).await?;
    engines.retain(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase));
    Ok(engines)
}

/// What the orchestrators of a business said of its pool in the last minutes; nothing when it has no pool.
///
/// # Errors
/// When the cluster cannot be reached, or denies access to it.
pub async fn pool_reports(client: &Client, business: &Business) -> anyhow::Result<Vec<Report>> {
    if business.pool.is_none() {
        return Ok(Vec::new());
    }
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &business.namespace);
    let found = answer(api.get_opt(pool_report::CONFIG_MAP)).await?;
    let texts = found.and_then(|found| found.data).unwrap_or_default();
    // A newer orchestrator may report in another form.
    let reports = texts.values().filter_map(|text| serde_json::from_str::<Report>(text).ok());
    Ok(reports.filter(|report| Timestamp::now().duration_since(report.at) <= pool_report::OLD_AFTER).collect())
}

/// The Pods of a business's orchestrator.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn orchestrator_pods(client: &Client, namespace: &str) -> anyhow::Result<Vec<Pod>> {
    pods(client, namespace, &format!("{}={APP_ORCHESTRATOR}", labels::APP)).await
}

/// The state of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    /// It does not exist.
    Missing,
    /// It exists.
    Active,
    /// It is being deleted, which waits for the finalizers in it.
    Terminating,
}

/// The state of a namespace; one that the caller may not read counts as active.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn namespace_state(client: &Client, name: &str) -> anyhow::Result<NamespaceState> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = match tokio::time::timeout(REQUEST_TIMEOUT, api.get_opt(name)).await.context("no answer in time")? {
        Err(kube::Error::Api(status)) if status.is_forbidden() => return Ok(NamespaceState::Active),
        found => found?,
    };
    Ok(match found.map(|namespace| namespace.metadata.deletion_timestamp) {
        None => NamespaceState::Missing,
        Some(None) => NamespaceState::Active,
        Some(Some(_)) => NamespaceState::Terminating,
    })
}

/// The Deployments of a business's orchestrator; normally one.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn orchestrators(client: &Client, namespace: &str) -> anyhow::Result<Vec<Deployment>> {
    let selector = format!("{}={APP_ORCHESTRATOR}", labels::APP);
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    Ok(answer(api.list(&ListParams::default().labels(&selector))).await?.items)
}

/// The events of an object, oldest first.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn events(client: &Client, namespace: &str, name: &str) -> anyhow::Result<Vec<EventView>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let of = ListParams::default().fields(&format!("involvedObject.name={name}"));
    let list = answer(api.list(&of)).await?;
    let mut events: Vec<EventView> = list.items.into_iter().map(EventView::from).collect();
    events.sort_by_key(|event| event.time);
    Ok(events)
}

/// The quotas of a namespace that are used up, a sentence each.
///
/// # Errors
/// When the cluster cannot be reached, or denies access to quotas.
pub async fn quotas(client: &Client, namespace: &str) -> anyhow::Result<Vec<String>> {
    let api: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
    Ok(full_quotas(&answer(api.list(&ListParams::default())).await?.items))
}

async fn pods(client: &Client, namespace: &str, selector: &str) -> anyhow::Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut pods = answer(api.list(&ListParams::default().labels(selector))).await?.items;
    view::sort(&mut pods);
    Ok(pods)
}

/// Whether the main container of a Pod has ended for good, or the Pod is gone.
///
/// # Errors
/// When the cluster cannot be reached.
pub async fn is_over(client: &Client, namespace: &str, pod: &Pod) -> anyhow::Result<bool> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let now = answer(api.get_opt(pod.metadata.name.as_deref().unwrap_or_default())).await?;
    let Some(now) = now.filter(|now| now.metadata.uid == pod.metadata.uid) else { return Ok(true) };
    let phase = now.status.as_ref().and_then(|status| status.phase.as_deref());
    Ok(matches!(phase, Some("Succeeded" | "Failed")))
}

/// The answer to a request, within the time limit.
async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, request).await;
    Ok(answer.with_context(|| format!("the cluster did not answer within {} s", REQUEST_TIMEOUT.as_secs()))??)
}

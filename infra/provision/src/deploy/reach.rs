//! Ways to single objects: where each kind is reached, and how its API server is asked.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::Value;
use tokio::time::Instant;

/// Field manager of our writes to the cluster.
pub const FIELD_MANAGER: &str = "deskgrid";
/// Kubernetes calls that take longer are given up.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Longest wait for a webhook that does not answer. Those of a fresh cluster, such as the one for PodMonitoring, answer
/// once their own pods run (prometheus-engine #782).
const WEBHOOK_LIMIT: Duration = Duration::from_secs(300);
/// Pauses between two attempts of a write.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(5)];

/// What an object is called by people: `Deployment bu1/orchestrator`.
pub(crate) fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// Where an object is reached.
///
/// # Errors
/// When it has no type.
pub(super) fn api(client: &Client, object: &Value) -> anyhow::Result<Api<DynamicObject>> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    if text("apiVersion").is_empty() || text("kind").is_empty() {
        bail!("an object has no apiVersion or kind");
    }
    Ok(api_of(client, text("apiVersion"), text("kind"), object["metadata"]["namespace"].as_str()))
}

/// Where the objects of a kind are reached. Every kind of ours has the regular plural, so no discovery is needed.
pub(super) fn api_of(client: &Client, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// The object as it is; nothing when it does not exist.
///
/// # Errors
/// When the API server does not answer or refuses.
pub(crate) async fn read(client: &Client, object: &Value) -> anyhow::Result<Option<Value>> {
    let context = || format!("read the {}", title(object));
    let api = api(client, object)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let live = with_timeout(api.get_opt(name)).await.with_context(context)?;
    live.map(serde_json::to_value).transpose().with_context(context)
}

/// Applies an object; only tries it out with `dry_run`. `force` takes over fields that others own.
///
/// # Errors
/// As [`kube::Error`]; the API server's refusal is kept, so that it can be explained.
pub(crate) async fn apply(client: &Client, object: &Value, force: bool, dry_run: bool) -> anyhow::Result<Value> {
    let api = api(client, object)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let parameters = PatchParams { force, dry_run, ..PatchParams::apply(FIELD_MANAGER) }.validation_strict();
    let patch = Patch::Apply(object);
    let after = write(|| api.patch(name, &parameters, &patch)).await?;
    Ok(serde_json::to_value(after)?)
}

/// A call of the API server that is not waited for without end.
pub(crate) async fn with_timeout<T>(call: impl Future<Output = Result<T, kube::Error>>) -> anyhow::Result<T> {
    Ok(tokio::time::timeout(CALL_LIMIT, call).await.context("wait for the cluster's answer")??)
}

/// A write, sent again while a webhook does not answer or the API server does not know yet what the object refers to.
/// Both refuse before anything is written.
pub(crate) async fn write<T, C>(call: impl Fn() -> C) -> anyhow::Result<T>
where
    C: Future<Output = Result<T, kube::Error>>,
{
    let deadline = Instant::now() + WEBHOOK_LIMIT;
    let [mut pause, longest] = PAUSES;
    loop {
        let done = with_timeout(call()).await;
        let Some(status) = done.as_ref().err().and_then(refusal) else { return done };
        if !super::refusal::may_pass(&status.message) || Instant::now() >= deadline {
            return done;
        }
        tracing::info!("{}; trying again", status.message);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// The API server's refusal behind an error, if it is one.
pub(super) fn refusal(error: &anyhow::Error) -> Option<&kube::core::Status> {
    error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(kube::Error::Api(status)) => Some(&**status),
        _ => None,
    })
}

/// Whether an error is the answer that something does not exist.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    refusal(error).is_some_and(|status| status.code == 404)
}

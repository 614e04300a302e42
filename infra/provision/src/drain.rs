//! Drains a business: intake stops, Jobs settle, and the namespace with the orchestrator is deleted last.

use std::time::Duration;

use anyhow::{Context as _, bail};
use contract::{labels, names};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    deploy::{self, CONFIG_HASH, FIELD_MANAGER, ORCHESTRATOR},
    unsettled::{Unsettled, of_engines, unsettled},
};

/// The ConfigMap of every business.
const CONFIG_MAP: &str = "deskgrid-config";
const POLL_EVERY: Duration = Duration::from_millis(100);

/// Has the orchestrator of a business replaced by one that takes no message and only settles; `false` when there is
/// none. A deploy turns intake on again.
///
/// # Errors
/// When the cluster refuses, or that orchestrator does not run within `limit`.
pub async fn stop_intake(client: &Client, namespace: &str, business: &str, limit: Duration) -> anyhow::Result<bool> {
    let context = || format!("stop the intake of {business}");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    if deployments.get_opt(ORCHESTRATOR).await.with_context(context)?.is_none() {
        return Ok(false);
    }
    let Some(map) = maps.get_opt(CONFIG_MAP).await.with_context(context)? else {
        bail!("the namespace {namespace} has an orchestrator but no {CONFIG_MAP}; deploy again");
    };
    let text = map.data.unwrap_or_default().remove("config.json").unwrap_or_default();
    let mut config: Value = serde_json::from_str(&text).with_context(context)?;
    config["businesses"][business]["intake"] = json!(false);
    let text = serde_json::to_string_pretty(&config).with_context(context)?;
    // As the manager of what deploy applies, so that the next deploy finds its own fields changed.
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = json!({"data": {"config.json": text}});
    maps.patch(CONFIG_MAP, &parameters, &Patch::Merge(patch)).await.with_context(context)?;
    let annotations = json!({CONFIG_HASH: names::hash(&[&text], 16)});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    deployments.patch(ORCHESTRATOR, &parameters, &Patch::Merge(patch)).await.with_context(context)?;
    deploy::wait(client, namespace, ORCHESTRATOR, limit).await.with_context(context)?;
    Ok(true)
}

/// Deletes every Job of a business; the orchestrator settles them as cancelled.
///
/// # Errors
/// When the cluster refuses.
pub async fn cancel(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let deleted = jobs.delete_collection(&DeleteParams::background(), &of_engines()).await;
    deleted.map(|_| ()).with_context(|| format!("delete the Jobs in {namespace}"))
}

/// Waits until every Job has its outcome. There must be an orchestrator.
///
/// # Errors
/// When the cluster does not answer, or Jobs are still unsettled after `limit`.
pub async fn settle(client: &Client, namespace: &str, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let left = unsettled(client, namespace).await?;
        if left.total() == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let Unsettled { active, ended } = left;
            bail!(
                "after {} s {active} Jobs in {namespace} still run and {ended} wait for their outcome",
                limit.as_secs()
            );
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Deletes a namespace with everything in it and waits until it is gone; `false` when there is none.
///
/// # Errors
/// When it is not ours, Jobs in it still wait for their outcome, the cluster refuses, or it is still there after
/// `limit`.
pub async fn delete_namespace(client: &Client, namespace: &str, limit: Duration) -> anyhow::Result<bool> {
    let context = || format!("delete the namespace {namespace}");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let Some(live) = namespaces.get_opt(namespace).await.with_context(context)? else { return Ok(false) };
    if live.metadata.labels.as_ref().and_then(|all| all.get(labels::MANAGED_BY)).map(String::as_str)
        != Some(labels::MANAGED_BY_DESKGRID)
    {
        bail!("the namespace {namespace} is not ours; it stays, with everything in it");
    }
    let left = unsettled(client, namespace).await?;
    if left.total() > 0 {
        let next = match live.metadata.deletion_timestamp {
            None => "deploy again",
            Some(_) => "it is being deleted already; `cargo xtask clean --all` releases them",
        };
        bail!("{} Jobs in {namespace} wait for their outcome and no orchestrator settles them; {next}", left.total());
    }
    namespaces.delete(namespace, &DeleteParams::background()).await.with_context(context)?;
    let deadline = Instant::now() + limit;
    while namespaces.get_opt(namespace).await.with_context(context)?.is_some() {
        if Instant::now() > deadline {
            bail!(
                "the namespace {namespace} is still there after {} s; `kubectl describe namespace {namespace}` says why",
                limit.as_secs()
            );
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
    Ok(true)
}

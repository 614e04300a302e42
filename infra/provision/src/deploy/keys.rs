//! Keys of a deploy with `auth = "key"`: created before the workloads that mount them, deleted after removed ones.

use std::{collections::BTreeSet, time::Duration};

use kube::Client;

use super::event::{Event, Progress};
use crate::{
    Cloud,
    environment::Environment,
    keys::{self, KeyUser},
    manifests::Rendered,
};

/// Writes a key into the Secret of every deployed workload without one.
///
/// # Errors
/// When IAM or the cluster refuses.
pub(super) async fn provide(
    environment: &Environment,
    cloud: &Cloud,
    client: &Client,
    desired: &Rendered,
    progress: &Progress,
) -> anyhow::Result<()> {
    for mut user in KeyUser::all(environment) {
        let deployed = deployments(desired, &user.namespace);
        if deployed.is_empty() {
            continue;
        }
        user.workloads.retain(|workload| workload.deployment.is_none_or(|name| deployed.contains(name)));
        for account in keys::ensure(environment, &user, cloud, client).await? {
            progress(Event::Key { account });
        }
    }
    Ok(())
}

/// Deletes the keys of web apps that are not deployed any more.
///
/// # Errors
/// When IAM or the cluster refuses, or their pods still run after `limit`.
pub(super) async fn withdraw(
    environment: &Environment,
    cloud: &Cloud,
    client: &Client,
    desired: &Rendered,
    limit: Duration,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut user = KeyUser::web(environment);
    let deployed = deployments(desired, &user.namespace);
    user.workloads.retain(|workload| workload.deployment.is_some_and(|name| !deployed.contains(name)));
    for account in keys::withdraw(environment, &user, cloud, client, limit).await? {
        progress(Event::KeyGone { account });
    }
    Ok(())
}

/// Names of the Deployments among the objects of a namespace.
fn deployments<'a>(rendered: &'a Rendered, namespace: &str) -> BTreeSet<&'a str> {
    let found = rendered
        .objects()
        .filter(|object| object["kind"] == "Deployment" && object["metadata"]["namespace"] == namespace);
    found.filter_map(|object| object["metadata"]["name"].as_str()).collect()
}

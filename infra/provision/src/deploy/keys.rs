//! Keys of a deploy with `auth = "key"`: created before the workloads that mount them, deleted after removed ones.

use std::{collections::BTreeSet, time::Duration};

use kube::Client;
use serde_json::json;

use super::{
    Applied, Change, ChangeView, certificates,
    event::{Event, Progress},
    reach,
};
use crate::{
    Cloud,
    environment::Environment,
    keys::{self, KeyChange, KeyUser},
    manifests::Rendered,
};

/// What a deploy does with keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The deployed workloads of each user, with what is done for each of them.
    provided: Vec<(KeyUser, Vec<KeyChange>)>,
    /// Web apps that are not deployed any more and have keys.
    withdrawn: Vec<KeyUser>,
}

impl Keys {
    /// Every Secret that is written, with what is done about its key.
    pub(super) fn changes(&self) -> Vec<ChangeView> {
        let mut changes = Vec::new();
        for (user, planned) in &self.provided {
            changes.extend(planned.iter().filter(|key| !key.is_empty()).map(|key| view(user, key)));
        }
        for user in &self.withdrawn {
            changes.extend(user.workloads.iter().map(|workload| {
                let lines = format!("-the keys of {}", workload.email);
                ChangeView::secret(&user.namespace, &keys::secret_name(workload), Change::Pruned, lines)
            }));
        }
        changes
    }
}

/// The Secret that a change of a key writes, with what is done about the key.
fn view(user: &KeyUser, key: &KeyChange) -> ChangeView {
    let account = &key.account;
    let mut lines = Vec::new();
    if key.renew {
        lines.push(format!("+a new key of {account}"));
    }
    lines.extend(key.delete.iter().map(|id| format!("-the old key {id} of {account}")));
    if key.note {
        lines.push(format!("+a corrected record of the keys of {account}"));
    }
    let change = if key.exists { Change::Changed } else { Change::Created };
    ChangeView::secret(&user.namespace, &key.secret, change, lines.join("\n"))
}

/// What a rotation of the keys of a user, and of the certificate of its pool, changes in the cluster: Secrets, and what
/// is started anew. Writes nothing.
///
/// # Errors
/// When IAM or the cluster refuses.
pub async fn rotation(environment: &Environment, user: &KeyUser, cloud: &Cloud) -> anyhow::Result<Vec<ChangeView>> {
    let client = cloud.cluster()?;
    let mut changes = match user.business.as_deref().and_then(|name| environment.business(name)) {
        Some(business) => certificates::rotation(business, client).await?,
        None => Vec::new(),
    };
    for (workload, key) in keys::plan_rotation(environment, user, cloud, client).await? {
        changes.push(view(user, &key));
        let Some(name) = workload.deployment else { continue };
        let metadata = json!({"namespace": user.namespace, "name": name});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata});
        if reach::read(client, &deployment).await?.is_some() {
            let (kind, namespace) = ("Deployment".to_owned(), Some(user.namespace.clone()));
            let applied = Applied { kind, namespace, name: name.to_owned(), change: Change::Changed };
            if changes.iter().all(|change| change.applied != applied) {
                changes.push(applied.into());
            }
        }
    }
    Ok(changes)
}

/// Finds out which deployed workload needs a key, and with `withdraws` which web app has one although it is not
/// deployed. Writes nothing.
///
/// # Errors
/// When IAM or the cluster refuses.
pub(super) async fn plan(
    environment: &Environment,
    cloud: &Cloud,
    client: &Client,
    desired: &Rendered,
    withdraws: bool,
) -> anyhow::Result<Keys> {
    let mut all = Keys::default();
    for mut user in KeyUser::all(environment) {
        let deployed = deployments(desired, &user.namespace);
        if deployed.is_empty() {
            continue;
        }
        user.workloads.retain(|workload| workload.deployment.is_none_or(|name| deployed.contains(name)));
        let changes = keys::plan(environment, &user, cloud, client).await?;
        all.provided.push((user, changes));
    }
    if withdraws {
        let mut user = KeyUser::web(environment);
        let deployed = deployments(desired, &user.namespace);
        user.workloads.retain(|workload| workload.deployment.is_some_and(|name| !deployed.contains(name)));
        all.withdrawn.push(keys::held(&user, client).await?);
    }
    Ok(all)
}

/// Writes a key into the Secret of every deployed workload without one.
///
/// # Errors
/// When IAM or the cluster refuses.
pub(super) async fn provide(
    environment: &Environment,
    cloud: &Cloud,
    client: &Client,
    planned: &Keys,
    progress: &Progress,
) -> anyhow::Result<()> {
    for (user, changes) in &planned.provided {
        for account in keys::carry_out(environment, user, cloud, client, changes).await? {
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
    planned: &Keys,
    limit: Duration,
    progress: &Progress,
) -> anyhow::Result<()> {
    for user in &planned.withdrawn {
        keys::withdraw(environment, user, cloud, client, limit).await?;
        for workload in &user.workloads {
            progress(Event::KeyGone { account: workload.email.clone() });
        }
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

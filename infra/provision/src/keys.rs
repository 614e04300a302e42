//! Keys of service accounts, for `auth = "key"`: each goes straight from IAM into a Kubernetes Secret and nowhere else.
//!
//! The Secret also records which keys are ours: those of people on the same account are never touched. It is written
//! down that a key is about to be made, so that nothing is left of a run that was killed before it was in the Secret.
//! The same record is an object in the bucket, for a teardown after the cluster and its Secrets are gone.
//! An old key is deleted only when no pod can have it any more.

use std::time::Duration;

use anyhow::Context as _;
use contract::labels;
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    certificates::pool,
    cloud::Cloud,
    deploy::{
        reach::{self, FIELD_MANAGER},
        wait::wait,
    },
    environment::Environment,
    failure::Failure,
};

mod iam;
mod ledger;
mod secret;
mod user;

pub(crate) use iam::METHODS;
use iam::{Account, Key, Made};
use ledger::Ledger;
pub(crate) use secret::account_of;
use secret::{Content, KeySecret, PendingKey, Record};
pub use user::{KeyUser, Workload};

/// Annotation of the pods of a Deployment: the key that they begin with.
const KEY_ID: &str = "deskgrid.dev/key-id";
const POLL_EVERY: Duration = Duration::from_millis(200);

/// What took the place of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Rotated {
    /// The key of a service account.
    Key {
        /// Email of the account.
        account: String,
        /// Id of the new key.
        key: String,
        /// Ids of the keys that are deleted now.
        deleted: Vec<String>,
    },
    /// The certificate of a pool.
    Certificate {
        /// The name that it is for.
        certificate: String,
        /// Its serial number.
        serial: u64,
    },
}

/// What a deploy does with the keys of one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// Email of the account.
    pub account: String,
    /// Name of the Secret.
    pub secret: String,
    /// The Secret is there.
    pub exists: bool,
    /// A new key is made.
    pub renew: bool,
    /// Ids of the old keys that are deleted.
    pub delete: Vec<String>,
    /// The record of our keys is corrected.
    pub note: bool,
    /// Ids of all other keys that were there.
    keep: Vec<String>,
}

impl KeyChange {
    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        !self.renew && !self.note && self.delete.is_empty()
    }
}

/// Finds out which workloads get a key and which old keys nothing uses. Writes nothing.
///
/// # Errors
/// When IAM or the cluster refuses.
pub async fn plan(
    environment: &Environment,
    user: &KeyUser,
    cloud: &Cloud,
    client: &Client,
) -> anyhow::Result<Vec<KeyChange>> {
    let mut changes = Vec::new();
    for one in workload_keys(environment, user, cloud, client) {
        let (content, known) = (one.secret.read().await?, one.account.list().await?);
        let pods = running(client, user, one.workload).await?;
        let change = decide(&content, &known, &pods);
        changes.push(KeyChange { account: one.account.email.to_owned(), secret: secret_name(one.workload), ..change });
    }
    Ok(changes)
}

/// What to do, with this in the Secret, these keys in IAM, and these pods.
fn decide(content: &Content, known: &[Key], pods: &[Pod]) -> KeyChange {
    let renew = !known.iter().any(|key| content.held.as_ref() == Some(&key.id));
    let may_have_old = |pod: &Pod| renew || content.record.is_before(made(pod));
    let (kept, old): (Vec<String>, Vec<String>) =
        content.record.ours_of(known).into_iter().partition(|id| content.held.as_ref() == Some(id));
    let is_used = pods.iter().any(may_have_old);
    let record = Record { ours: kept, making: None, since: content.record.since };
    let delete = if is_used { Vec::new() } else { old };
    KeyChange {
        exists: content.exists,
        renew,
        note: !renew && !is_used && record != content.record,
        keep: known.iter().map(|key| key.id.clone()).filter(|id| !delete.contains(id)).collect(),
        delete,
        ..KeyChange::default()
    }
}

fn made(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// Carries out what [`plan`] found for the same user. Returns the accounts with a new key.
///
/// # Errors
/// When IAM or the cluster refuses.
pub async fn carry_out(
    environment: &Environment,
    user: &KeyUser,
    cloud: &Cloud,
    client: &Client,
    changes: &[KeyChange],
) -> anyhow::Result<Vec<String>> {
    let mut renewed = Vec::new();
    for (one, change) in workload_keys(environment, user, cloud, client).zip(changes) {
        if change.is_empty() {
            continue;
        }
        if change.renew {
            one.renew().await?;
            renewed.push(change.account.clone());
        }
        // A pod may have begun since.
        let record = one.secret.read().await?.record;
        let pods = running(client, user, one.workload).await?;
        if !pods.iter().any(|pod| record.is_before(made(pod))) {
            one.clean(&change.keep).await?;
        }
    }
    Ok(renewed)
}

/// What [`rotate`] does for each workload that has a key. Writes nothing.
///
/// # Errors
/// When IAM or the cluster refuses.
pub(crate) async fn plan_rotation(
    environment: &Environment,
    user: &KeyUser,
    cloud: &Cloud,
    client: &Client,
) -> anyhow::Result<Vec<(Workload, KeyChange)>> {
    let mut changes = Vec::new();
    for one in workload_keys(environment, user, cloud, client) {
        let content = one.secret.read().await?;
        if content.exists {
            let delete = content.record.ours_of(&one.account.list().await?);
            let (account, secret) = (one.account.email.to_owned(), secret_name(one.workload));
            let change = KeyChange { account, secret, exists: true, renew: true, delete, ..KeyChange::default() };
            changes.push((one.workload.clone(), change));
        }
    }
    Ok(changes)
}

/// Gives every workload that has a key a new one: the Secrets first, then the Deployments begin anew, then what still
/// runs with an old key ends by itself, and then the old keys are deleted. A pool gets a new certificate too, with which
/// its orchestrator replaces the engines: they would never end by themselves.
///
/// # Errors
/// When IAM or the cluster refuses, a rollout fails within `rollout`, or a pod of before still runs after `limit`; the
/// old keys are valid then.
pub async fn rotate(
    environment: &Environment,
    user: &KeyUser,
    cloud: &Cloud,
    (rollout, limit): (Duration, Duration),
    report: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Vec<Rotated>> {
    let client = cloud.cluster()?;
    let mut work = Vec::new();
    for one in workload_keys(environment, user, cloud, client) {
        let account = one.account.email.to_owned();
        if !one.secret.read().await?.exists {
            report(&format!("{account} has no key; a deploy hands out those that are needed"));
            continue;
        }
        let key = one.renew().await?;
        report(&format!("a new key of {account} is in its Secret"));
        work.push((one, key));
    }
    // What is there now may have read the Secret before.
    let mut old = Vec::new();
    for (one, _) in &work {
        old.extend(running(client, user, one.workload).await?.into_iter().filter_map(|pod| pod.metadata.uid));
    }
    for (one, key) in &work {
        if let Some(deployment) = one.workload.deployment {
            restart(client, user, deployment, key, rollout, report).await?;
        }
    }
    let mut all = Vec::new();
    if let Some(business) = user.business.as_deref().and_then(|name| environment.business(name))
        && let Some((certificate, serial)) = pool::rotate(client, business, rollout).await?
    {
        report(&format!("the orchestrator of {} works with a new certificate of {certificate}", user.name));
        all.push(Rotated::Certificate { certificate, serial });
    }
    wait_for_pods(client, user, &old, limit, report).await?;
    for (one, key) in work {
        let (account, deleted) = (one.account.email.to_owned(), one.clean(&[]).await?);
        report(&format!("{} old keys of {account} are deleted", deleted.len()));
        all.push(Rotated::Key { account, key, deleted });
    }
    Ok(all)
}

/// Has a Deployment, if it is there, start its pods with a new key, and waits until they work.
async fn restart(
    client: &Client,
    user: &KeyUser,
    name: &str,
    key: &str,
    limit: Duration,
    report: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &user.namespace);
    let context = || format!("begin the {name} of {} anew", user.name);
    if deployments.get_opt(name).await.with_context(context)?.is_none() {
        return Ok(());
    }
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"spec": {"template": {"metadata": {"annotations": {KEY_ID: key}}}}}));
    reach::write(|| deployments.patch(name, &parameters, &patch)).await.with_context(context)?;
    wait(client, &user.namespace, name, limit).await.with_context(context)?;
    report(&format!("the {name} of {} works with its new key", user.name));
    Ok(())
}

/// Deletes our keys of these workloads: those that their Secrets know of, or without a cluster those that the bucket
/// does.
///
/// # Errors
/// When IAM, the bucket or the cluster refuses.
pub async fn revoke(environment: &Environment, user: &KeyUser, cloud: &Cloud, has_cluster: bool) -> anyhow::Result<()> {
    for workload in &user.workloads {
        let email = &workload.email;
        let account = Account { client: &cloud.google, project: &environment.project, email };
        let ledger = Ledger { client: &cloud.google, bucket: &environment.bucket, email };
        let mut record = Record::default();
        if has_cluster {
            record = secret(user, workload, cloud.cluster()?).read().await?.record;
        }
        if record == Record::default() {
            record = ledger.read().await?;
        }
        for id in record.ours_of(&account.list().await?) {
            account.delete(&id).await?;
        }
        ledger.delete().await.with_context(|| format!("forget the keys of {email}"))?;
    }
    Ok(())
}

/// The workloads of this user that have a Secret with a key.
///
/// # Errors
/// When the cluster refuses.
pub async fn held(user: &KeyUser, client: &Client) -> anyhow::Result<KeyUser> {
    let mut held = KeyUser { workloads: Vec::new(), ..user.clone() };
    for workload in &user.workloads {
        if secret(user, workload, client).read().await?.exists {
            held.workloads.push(workload.clone());
        }
    }
    Ok(held)
}

/// Deletes the keys of workloads that are not deployed any more, once their pods have ended: in IAM, then the Secrets.
///
/// # Errors
/// When IAM or the cluster refuses, or a pod still runs after `limit`.
pub async fn withdraw(
    environment: &Environment,
    user: &KeyUser,
    cloud: &Cloud,
    client: &Client,
    limit: Duration,
) -> anyhow::Result<()> {
    for workload in &user.workloads {
        let only = KeyUser { workloads: vec![workload.clone()], ..user.clone() };
        let pods = running(client, user, workload).await?.into_iter().filter_map(|pod| pod.metadata.uid);
        wait_for_pods(client, &only, &pods.collect::<Vec<_>>(), limit, &|_| {}).await?;
        revoke(environment, &only, cloud, true).await?;
        secret(user, workload, client).delete().await?;
    }
    Ok(())
}

/// One workload with its account, its Secret, and what outlives that.
struct WorkloadKey<'a> {
    workload: &'a Workload,
    account: Account<'a>,
    secret: KeySecret<'a>,
    ledger: Ledger<'a>,
}

fn workload_keys<'a>(
    environment: &'a Environment,
    user: &'a KeyUser,
    cloud: &'a Cloud,
    client: &Client,
) -> impl Iterator<Item = WorkloadKey<'a>> {
    let client = client.clone();
    user.workloads.iter().map(move |workload| WorkloadKey {
        workload,
        account: Account { client: &cloud.google, project: &environment.project, email: &workload.email },
        secret: secret(user, workload, &client),
        ledger: Ledger { client: &cloud.google, bucket: &environment.bucket, email: &workload.email },
    })
}

/// Name of the Secret of a workload.
pub fn secret_name(workload: &Workload) -> String {
    secret::name(workload.account)
}

fn secret<'a>(user: &'a KeyUser, workload: &'a Workload, client: &Client) -> KeySecret<'a> {
    KeySecret {
        secrets: Api::namespaced(client.clone(), &user.namespace),
        app: workload.app,
        account: workload.account,
        business: user.business.as_deref(),
        namespace: &user.namespace,
        email: &workload.email,
    }
}

impl WorkloadKey<'_> {
    /// Creates a key and writes it to the Secret; returns its id. Older keys stay.
    async fn renew(&self) -> anyhow::Result<String> {
        let content = self.secret.read().await?;
        let known = self.account.list().await?;
        let ours = content.record.ours_of(&known);
        let before = known.into_iter().map(|key| key.id).collect();
        let making = Some(PendingKey { before, at: Timestamp::now() });
        let mut record = Record { ours, making, since: content.record.since };
        self.secret.note(&content, &record).await?;
        self.ledger.write(&record).await?;
        let Made { id, data, may_have_more } = self.account.create().await?;
        if may_have_more {
            record.ours = record.ours_of(&self.account.list().await?);
        }
        if !record.ours.contains(&id) {
            record.ours.push(id.clone());
        }
        record.making = None;
        record.since = Some(Timestamp::now());
        self.secret.write(&record, data).await?;
        self.ledger.write(&record).await?;
        Ok(id)
    }

    /// Deletes our keys but these and the one in the Secret, and returns their ids.
    async fn clean(&self, keep: &[String]) -> anyhow::Result<Vec<String>> {
        let content = self.secret.read().await?;
        let ours = content.record.ours_of(&self.account.list().await?);
        let (kept, old): (Vec<String>, Vec<String>) =
            ours.into_iter().partition(|id| content.held.as_ref() == Some(id) || keep.contains(id));
        for id in &old {
            self.account.delete(id).await?;
        }
        let record = Record { ours: kept, making: None, since: content.record.since };
        if record != content.record {
            self.secret.note(&content, &record).await?;
            self.ledger.write(&record).await?;
        }
        Ok(old)
    }
}

/// Pods of a workload that have not ended.
async fn running(client: &Client, user: &KeyUser, workload: &Workload) -> anyhow::Result<Vec<Pod>> {
    let (namespace, app) = (&user.namespace, workload.app);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = ListParams::default().labels(&format!("{}={app}", labels::APP));
    let list = pods.list(&selector).await.with_context(|| format!("list the pods of {app} in {namespace}"))?;
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    Ok(list.items.into_iter().filter(|pod| !ended(pod)).collect())
}

/// Waits until these pods have ended.
async fn wait_for_pods(
    client: &Client,
    user: &KeyUser,
    old: &[String],
    limit: Duration,
    report: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let mut reported = 0;
    loop {
        let mut left = 0;
        for workload in &user.workloads {
            let pods = running(client, user, workload).await?;
            left += pods.iter().filter(|pod| pod.metadata.uid.as_ref().is_some_and(|uid| old.contains(uid))).count();
        }
        if left == 0 {
            return Ok(());
        }
        if left != reported {
            report(&format!("waiting for {left} pods of {} that began with the old key", user.name));
            reported = left;
        }
        if Instant::now() > deadline {
            return Err(Failure {
                code: "keys-in-use",
                what: "the old keys are still in use, and were not deleted".to_owned(),
                on: user.name.clone(),
                why: format!("{left} pods that began with them still run after {} s", limit.as_secs()),
                next: "run it again when they have ended, or wait longer with --wait SECONDS".to_owned(),
            }
            .into());
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

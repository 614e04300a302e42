//! Keys of service accounts, for `auth = "key"`: each goes straight from IAM into a Kubernetes Secret and nowhere else.
//!
//! The Secret also records which keys are ours: those of people on the same account are never touched. It is written
//! down that a key is about to be made, so that nothing is left of a run that was killed before it was in the Secret.
//! The same record is an object in the bucket, for a teardown after the cluster and its Secrets are gone.
//! An old key is deleted only when no pod can have it any more.

use std::time::Duration;

use anyhow::Context as _;
use common::labels;
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
    cloud::Cloud,
    deploy::{self, FIELD_MANAGER, ORCHESTRATOR},
    environment::{Business, Environment},
    trouble::Trouble,
};

mod iam;
mod ledger;
mod secret;

use iam::{Account, Made};
use ledger::Ledger;
use secret::{Making, Place, Record};

/// Annotation of the orchestrator's pods: the key that they begin with.
const KEY_ID: &str = "deskgrid.dev/key-id";
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A key that took the place of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// Email of the account.
    pub account: String,
    /// Id of the new key.
    pub key: String,
    /// Ids of the keys that are deleted now.
    pub deleted: Vec<String>,
}

/// Sees to it that every workload of a business has a key, and that old ones go once nothing has them. Gives the
/// accounts with a new key.
///
/// # Errors
/// When IAM or the cluster refuses.
pub async fn ensure(
    environment: &Environment,
    business: &Business,
    cloud: &Cloud,
    client: &Client,
) -> anyhow::Result<Vec<String>> {
    let mut made = Vec::new();
    for one in each(environment, business, cloud, client) {
        let content = one.place.read().await?;
        let known = one.account.list().await?;
        match content.held.filter(|id| known.iter().any(|key| key.id == *id)) {
            Some(_) => {}
            None => {
                one.renew().await?;
                made.push(one.account.email.to_owned());
            }
        }
        let record = one.place.read().await?.record;
        let pods = running(client, one.place.namespace, one.place.workload).await?;
        let may_have_old = |pod: &Pod| record.is_before(pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        if !pods.iter().any(may_have_old) {
            one.clean().await?;
        }
    }
    Ok(made)
}

/// Gives every workload of a business a new key: the Secret first, then the orchestrator begins anew, then what still
/// runs with the old key ends by itself, and then the old key is deleted.
///
/// # Errors
/// When IAM or the cluster refuses, the rollout fails within `rollout`, or an engine still runs after `limit`; the old
/// keys are valid then.
pub async fn rotate(
    environment: &Environment,
    business: &Business,
    cloud: &Cloud,
    (rollout, limit): (Duration, Duration),
    tell: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<Vec<Rotated>> {
    let client = cloud.cluster()?;
    let namespace = &business.namespace;
    let mut rotated = Vec::new();
    for one in each(environment, business, cloud, client) {
        let key = one.renew().await?;
        tell(&format!("a new key of {} is in its Secret", one.account.email));
        rotated.push(Rotated { account: one.account.email.to_owned(), key, deleted: vec![] });
    }
    // What is there now may have read the Secret before.
    let mut old = Vec::new();
    for (workload, _) in workloads(business) {
        old.extend(running(client, namespace, workload).await?.into_iter().filter_map(|pod| pod.metadata.uid));
    }
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let context = || format!("begin the orchestrator of {} anew", business.name);
    if deployments.get_opt(ORCHESTRATOR).await.with_context(context)?.is_some() {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let annotations = json!({KEY_ID: rotated.first().map(|one| one.key.clone())});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        deployments.patch(ORCHESTRATOR, &parameters, &Patch::Merge(patch)).await.with_context(context)?;
        deploy::wait(client, namespace, ORCHESTRATOR, rollout).await.with_context(context)?;
        tell(&format!("the orchestrator of {} works with its new key", business.name));
    }
    gone(client, business, &old, limit, tell).await?;
    for (one, rotated) in each(environment, business, cloud, client).zip(&mut rotated) {
        rotated.deleted = one.clean().await?;
        tell(&format!("{} old keys of {} are deleted", rotated.deleted.len(), rotated.account));
    }
    Ok(rotated)
}

/// Deletes our keys of a business's workloads: those that its Secrets know of, or without a cluster those that the
/// bucket does.
///
/// # Errors
/// When IAM, the bucket or the cluster refuses.
pub async fn revoke(
    environment: &Environment,
    business: &Business,
    cloud: &Cloud,
    has_cluster: bool,
) -> anyhow::Result<()> {
    for (workload, email) in workloads(business) {
        let account = Account { client: &cloud.google, project: &environment.project, email };
        let ledger = Ledger { client: &cloud.google, bucket: &environment.bucket, email };
        let mut record = Record::default();
        if has_cluster {
            record = place(business, workload, email, cloud.cluster()?).read().await?.record;
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

/// One workload with its account, its Secret, and what outlives that.
struct One<'a> {
    account: Account<'a>,
    place: Place<'a>,
    ledger: Ledger<'a>,
}

fn each<'a>(
    environment: &'a Environment,
    business: &'a Business,
    cloud: &'a Cloud,
    client: &Client,
) -> impl Iterator<Item = One<'a>> {
    let client = client.clone();
    workloads(business).into_iter().map(move |(workload, email)| One {
        account: Account { client: &cloud.google, project: &environment.project, email },
        place: place(business, workload, email, &client),
        ledger: Ledger { client: &cloud.google, bucket: &environment.bucket, email },
    })
}

fn place<'a>(business: &'a Business, workload: &'static str, email: &'a str, client: &Client) -> Place<'a> {
    Place {
        secrets: Api::namespaced(client.clone(), &business.namespace),
        workload,
        business: &business.name,
        namespace: &business.namespace,
        email,
    }
}

impl One<'_> {
    /// Makes a key and puts it into the Secret; gives its id. Older keys stay.
    async fn renew(&self) -> anyhow::Result<String> {
        let content = self.place.read().await?;
        let known = self.account.list().await?;
        let ours = content.record.ours_of(&known);
        let before = known.into_iter().map(|key| key.id).collect();
        let making = Some(Making { before, at: Timestamp::now() });
        let mut record = Record { ours, making, since: content.record.since };
        self.place.note(&content, &record).await?;
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
        self.place.write(&record, data).await?;
        self.ledger.write(&record).await?;
        Ok(id)
    }

    /// Deletes our keys but the one in the Secret, and tells which.
    async fn clean(&self) -> anyhow::Result<Vec<String>> {
        let content = self.place.read().await?;
        let ours = content.record.ours_of(&self.account.list().await?);
        let (kept, old): (Vec<String>, Vec<String>) =
            ours.into_iter().partition(|id| content.held.as_ref() == Some(id));
        for id in &old {
            self.account.delete(id).await?;
        }
        let record = Record { ours: kept, making: None, since: content.record.since };
        if record != content.record {
            self.place.note(&content, &record).await?;
            self.ledger.write(&record).await?;
        }
        Ok(old)
    }
}

fn workloads(business: &Business) -> [(&'static str, &str); 2] {
    [("orchestrator", &business.accounts.orchestrator), ("engine", &business.accounts.engine)]
}

/// Pods of a workload that have not ended.
async fn running(client: &Client, namespace: &str, workload: &str) -> anyhow::Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = ListParams::default().labels(&format!("{}={workload}", labels::APP));
    let list = pods.list(&selector).await.with_context(|| format!("list the pods of {workload} in {namespace}"))?;
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    Ok(list.items.into_iter().filter(|pod| !ended(pod)).collect())
}

/// Waits until these pods have ended.
async fn gone(
    client: &Client,
    business: &Business,
    old: &[String],
    limit: Duration,
    tell: &(dyn Fn(&str) + Sync),
) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let mut told = 0;
    loop {
        let mut left = 0;
        for (workload, _) in workloads(business) {
            let pods = running(client, &business.namespace, workload).await?;
            left += pods.iter().filter(|pod| pod.metadata.uid.as_ref().is_some_and(|uid| old.contains(uid))).count();
        }
        if left == 0 {
            return Ok(());
        }
        if left != told {
            tell(&format!("waiting for {left} pods of {} that began with the old key", business.name));
            told = left;
        }
        if Instant::now() > deadline {
            return Err(Trouble {
                code: "keys-in-use",
                what: "the old keys are still in use, and were not deleted".to_owned(),
                on: business.name.clone(),
                why: format!("{left} pods that began with them still run after {} s", limit.as_secs()),
                next: "run it again when they have ended, or wait longer with --wait SECONDS".to_owned(),
            }
            .into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

//! Removes a business, or a whole environment, without losing work: intake stops, Jobs settle or are cancelled, then
//! the orchestrator is deleted, then the resources of the cloud. A run that was interrupted can be repeated.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use cloud::storage::Store;
use contract::labels;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::ListParams};

use crate::{
    apply::Progress,
    cloud::Cloud,
    data,
    deploy::{ENVIRONMENT, applyset},
    drain,
    environment::{Auth, Business, Environment},
    keys::{self, KeyUser},
    kinds::bucket,
    lock, locked,
    manifests::WEB_NAMESPACE,
    plan::{Action, Change, Plan},
    presence, removal,
    run::{carry_out, leftovers, plan_removal},
    saved,
    unsettled::unsettled,
};

/// How long the deletion of a namespace may take.
const NAMESPACE: Duration = Duration::from_secs(300);

/// Options of a removal.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which resources of the cloud are deleted.
    pub removal: removal::Options,
    /// Cancel Jobs, and ignore waiting work.
    pub cancel: bool,
    /// Longest time for running Jobs.
    pub settle: Duration,
    /// Longest time for the orchestrator that only settles.
    pub rollout: Duration,
}

/// The removal of what only `before` has.
#[derive(Clone, Copy)]
pub struct Teardown<'a> {
    /// The environment as it is.
    pub before: &'a Environment,
    /// The environment as it shall be; nothing of it without one.
    pub after: Option<&'a Environment>,
    /// Where it is.
    pub cloud: &'a Cloud,
    /// The objects of its businesses.
    pub store: &'a Store,
    /// Whether there is a cluster with something in it.
    pub has_cluster: bool,
    /// How.
    pub options: Options,
    /// Receives a message for each step; must not block.
    pub report: &'a (dyn Fn(&str) + Sync),
}

/// What was done.
#[derive(Debug)]
pub struct Gone {
    /// The changes that were made.
    pub plan: Plan,
    /// Objects that were deleted.
    pub objects: usize,
    /// Our resources that should be deleted and are not.
    pub left: Vec<String>,
}

impl Teardown<'_> {
    /// The businesses that are removed.
    pub fn businesses(&self) -> Vec<&Business> {
        let stays = |name: &str| self.after.is_some_and(|after| after.business(name).is_some());
        self.before.businesses.iter().filter(|business| !stays(&business.name)).collect()
    }

    /// The plan of the removal. Writes nothing.
    ///
    /// # Errors
    /// When the cloud does not answer.
    pub async fn plan(&self, progress: &Progress) -> anyhow::Result<Plan> {
        plan_removal(self.before, self.after, self.cloud, self.options.removal, progress).await
    }

    /// Carries the removal out under the lock of the environment; deletes nothing that is not in the agreed plan.
    ///
    /// # Errors
    /// When work is pending, the lock cannot be had, or a step failed.
    pub async fn carry_out(&self, agreed: &Plan, lock: &lock::Settings, progress: &Progress) -> anyhow::Result<Gone> {
        let silent: Progress = Arc::new(|_| {});
        let work = locked::with_lock(self.before, self.cloud, lock, None, async |step| {
            if !self.has_cluster {
                (self.report)("there is no cluster; what was in it is gone with it");
            }
            if !self.options.cancel {
                // Nobody drains what the environment file does not name.
                let unnamed = agreed.changes.iter().filter(|change| change.resource.is_none()).cloned().collect();
                let unnamed = Plan { changes: unnamed, ..agreed.clone() };
                data::check_messages(self.cloud, &unnamed, self.has_cluster).await?;
            }
            step("waits for running Jobs");
            let retiring = self.businesses().into_iter().map(|business| self.drain(business));
            futures::future::try_join_all(retiring).await?;
            // Load balancers go with the objects that asked for them, and would outlive the cluster.
            if self.after.is_none() {
                self.remove_web_apps().await?;
            }
            step("deletes");
            let objects = if self.options.removal.data { self.delete_data().await? } else { 0 };
            // Made again, since settling takes time.
            let now = self.plan(&silent).await?;
            saved::beyond(agreed, &now)?;
            let (first, last) = self.bucket_last(now);
            Ok((objects, carry_out(first, self.cloud, progress).await?.plan, last))
        });
        let (objects, mut plan, last) = work.await?;
        // The lock went a moment ago, and its bucket goes after it. Cloud Storage deletes only what is empty: not a
        // bucket in which somebody else has the lock by now.
        plan.changes.extend(carry_out(last, self.cloud, progress).await?.plan.changes);
        let left = if self.after.is_none() { self.left().await? } else { Vec::new() };
        Ok(Gone { plan, objects, left })
    }

    /// A plan without, and only with, the deletion of the bucket that holds the lock.
    fn bucket_last(&self, plan: Plan) -> (Plan, Plan) {
        let bucket = bucket::id(&self.before.bucket);
        let is_last = |change: &Change| change.id == bucket && change.action == Action::Delete;
        let (last, first) = plan.changes.iter().cloned().partition(is_last);
        (Plan { changes: first, ..plan.clone() }, Plan { changes: last, ..plan })
    }

    /// Removes a business from the cluster, its orchestrator last.
    async fn drain(&self, business: &Business) -> anyhow::Result<()> {
        if self.has_cluster {
            self.stop(business).await?;
        }
        let held = match self.options.cancel {
            true => 0,
            false => data::held_messages(self.cloud, &self.before.project, business).await?,
        };
        if held > 0 {
            let messages = if held == 1 { "1 message".to_owned() } else { format!("{held} messages") };
            return Err(data::pending(
                &business.name,
                format!("{messages} with the input in themselves were not taken; its intake is stopped now"),
            )
            .into());
        }
        if self.before.auth == Auth::Key {
            // No work is in progress, and without the cluster nothing can hold a key.
            keys::revoke(self.before, &KeyUser::business(business), self.cloud, self.has_cluster).await?;
        }
        if self.has_cluster && drain::delete_namespace(self.cloud.cluster()?, &business.namespace, NAMESPACE).await? {
            (self.report)(&format!("the namespace {} is gone", business.namespace));
        }
        Ok(())
    }

    /// Removes the web apps from the cluster.
    async fn remove_web_apps(&self) -> anyhow::Result<()> {
        if self.before.auth == Auth::Key {
            keys::revoke(self.before, &KeyUser::web(self.before), self.cloud, self.has_cluster).await?;
        }
        if self.has_cluster && self.namespaces().await?.iter().any(|name| name == WEB_NAMESPACE) {
            let client = self.cloud.cluster()?;
            for wait_for_pods in applyset::remove_outside(client, WEB_NAMESPACE).await? {
                (self.report)(&format!("the {} {} is gone", wait_for_pods.kind, wait_for_pods.name));
            }
            drain::delete_namespace(client, WEB_NAMESPACE, NAMESPACE).await?;
            (self.report)(&format!("the namespace {WEB_NAMESPACE} is gone"));
        }
        Ok(())
    }

    /// Stops the intake of a business and waits until its Jobs are settled.
    async fn stop(&self, business: &Business) -> anyhow::Result<()> {
        let Business { name, namespace, .. } = business;
        let client = self.cloud.cluster()?;
        let stopped = match drain::stop_intake(client, namespace, name, self.options.rollout).await {
            // An orchestrator that cannot run has no work in progress, and without Jobs there is nothing to settle.
            Err(error) if unsettled(client, namespace).await?.total() == 0 => {
                (self.report)(&format!("{error:#}; it is removed as it is, since no Job waits for it"));
                false
            }
            stopped => stopped?,
        };
        if stopped {
            (self.report)(&format!("{name} takes no more messages"));
        }
        if self.options.cancel {
            drain::cancel(client, namespace).await?;
        }
        if stopped {
            drain::settle(client, namespace, self.options.settle).await?;
            (self.report)(&format!("every Job of {name} is settled"));
        }
        Ok(())
    }

    async fn delete_data(&self) -> anyhow::Result<usize> {
        let mut deleted = 0;
        for business in self.businesses() {
            deleted += data::delete(self.store, &business.bucket, &format!("{}/", business.name)).await?;
        }
        if self.after.is_none() {
            for (bucket, _) in self.before.buckets() {
                deleted += data::delete(self.store, bucket, "").await?;
            }
        }
        Ok(deleted)
    }

    /// What is still there of the environment.
    async fn left(&self) -> anyhow::Result<Vec<String>> {
        let left = leftovers(self.before, self.cloud, self.options.removal).await?;
        let mut left: Vec<String> = left.iter().map(ToString::to_string).collect();
        if !self.has_cluster || !presence::has_cluster(self.before, self.cloud).await? {
            return Ok(left);
        }
        left.extend(self.namespaces().await?.into_iter().map(|name| format!("namespace {name}")));
        Ok(left)
    }

    /// The namespaces of the environment that are in the cluster.
    async fn namespaces(&self) -> anyhow::Result<Vec<String>> {
        let (managed, name) = (labels::MANAGED_BY, &self.before.name);
        let ours = format!("{managed}={},{ENVIRONMENT}={name}", labels::MANAGED_BY_DESKGRID);
        let namespaces: Api<Namespace> = Api::all(self.cloud.cluster()?.clone());
        let list = namespaces.list(&ListParams::default().labels(&ours)).await.context("list the namespaces")?;
        Ok(list.items.into_iter().filter_map(|found| found.metadata.name).collect())
    }
}

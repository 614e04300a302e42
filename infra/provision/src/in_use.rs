//! Which Google accounts the workloads of the cluster act as.

use std::collections::BTreeSet;

use anyhow::Context as _;
use contract::labels;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, ResourceExt as _, api::ListParams};

use crate::{
    cloud::Cloud,
    failure::Failure,
    keys,
    plan::{Action, Plan},
    resource::Kind,
};

/// Annotation that names the Google account of a Kubernetes one (Workload Identity Federation for GKE).
const GOOGLE_ACCOUNT: &str = "iam.gke.io/gcp-service-account";

/// Checks that no workload acts as an account that a plan deletes. A deploy of the environment file as it is now gives
/// the workloads their new accounts, or removes them.
///
/// # Errors
/// When one does, or the cluster does not answer.
pub async fn check_accounts(cloud: &Cloud, plan: &Plan, has_cluster: bool) -> anyhow::Result<()> {
    let is_deleted = |change: &&crate::plan::Change| {
        change.id.kind == Kind::ServiceAccount && matches!(change.action, Action::Delete | Action::Replace)
    };
    let deleted: BTreeSet<&str> = plan.changes.iter().filter(is_deleted).map(|change| change.id.short()).collect();
    if deleted.is_empty() || !has_cluster {
        return Ok(());
    }
    let used = used(cloud.cluster()?).await.context("find the accounts that workloads of the cluster act as")?;
    let used: Vec<&str> = deleted.into_iter().filter(|email| used.contains(*email)).collect();
    if used.is_empty() {
        return Ok(());
    }
    Err(Failure {
        code: "pending",
        what: "accounts that would be deleted are in use".to_owned(),
        on: format!("environment {}", plan.environment),
        why: format!("workloads in the cluster act as {}, and would fail at once", used.join(", ")),
        next: "run `cargo xtask provision` without --prune and `cargo xtask deploy`, and then --prune; or accept it \
               with --cancel"
            .to_owned(),
    }
    .into())
}

/// The accounts that workloads of ours act as, by annotation or by key.
async fn used(client: &kube::Client) -> kube::Result<BTreeSet<String>> {
    let ours = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_DESKGRID));
    let (accounts, secrets) = (Api::<ServiceAccount>::all(client.clone()), Api::<Secret>::all(client.clone()));
    let (accounts, secrets) = tokio::try_join!(accounts.list(&ours), secrets.list(&ours))?;
    let annotated = accounts.into_iter().filter_map(|account| account.annotations().get(GOOGLE_ACCOUNT).cloned());
    Ok(annotated.chain(secrets.iter().filter_map(keys::account_of)).collect())
}

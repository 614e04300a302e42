//! What the project itself must allow: that it can be billed, and that it has room for what is to be made.

use serde_json::Value;

use super::{Finding, Pending};
use crate::{
    environment::{CloudKind, ClusterMode, Environment, Managed},
    google::{Api, Client, Request, escape},
    plan::{Action, Plan},
    resource::Kind,
};

/// Service accounts of a project unless it asked for more: cloud.google.com/iam/quotas.
const ACCOUNTS: usize = 100;
/// Custom roles of a project, which cannot be raised: cloud.google.com/iam/quotas.
const ROLES: usize = 300;
/// Zones that a regional cluster has nodes in.
const ZONES: u32 = 3;

/// Whether somebody pays for the project.
pub(super) async fn billing(environment: &Environment, client: &Client) -> Finding {
    let project = &environment.project;
    let request = Request::get(Api::CloudBilling, format!("v1/projects/{}/billingInfo", escape(project)));
    let link = format!("gcloud billing projects link {project} --billing-account ACCOUNT");
    match client.send(&request).await {
        Ok(info) if info["billingEnabled"] == true => {
            Finding::good("billing", info["billingAccountName"].as_str().unwrap_or("enabled"))
        }
        Ok(info) => {
            let account = info["billingAccountName"].as_str().filter(|name| !name.is_empty());
            let seen = match account {
                Some(account) => format!("{account} is closed, so nothing that costs can be made"),
                None => "no billing account pays for the project, so nothing that costs can be made".to_owned(),
            };
            // A laptop costs nothing.
            Finding { needed: environment.cloud == CloudKind::Google, ..Finding::bad("billing", seen, link) }
        }
        Err(error) if error.is_service_disabled() => {
            let fix = format!("gcloud services enable --project {project} cloudbilling.googleapis.com");
            Finding::bad("billing", "cannot be checked: cloudbilling.googleapis.com is not enabled", fix).optional()
        }
        Err(error) => Finding::bad("billing", format!("cannot be checked: {error}"), "").optional(),
    }
}

/// Quotas that can be read, beside what is to be made.
pub(super) async fn quotas(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let (accounts, roles, cpus) = futures::join!(
        accounts(environment, client, pending),
        roles(environment, client, pending),
        cpus(environment, client, pending),
    );
    [accounts, roles].into_iter().flatten().chain(cpus).collect()
}

fn made(plan: Option<&Plan>, kind: Kind) -> usize {
    let changes = plan.map(|plan| plan.changes.as_slice()).unwrap_or_default();
    changes.iter().filter(|change| change.id.kind == kind && change.action == Action::Create).count()
}

/// The number of service accounts; a quota that may have been raised, so it stops nothing.
async fn accounts(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Option<Finding> {
    let coming = made(pending.0, Kind::ServiceAccount);
    if pending.0.is_some() && coming == 0 {
        return None;
    }
    let project = &environment.project;
    let list =
        Request::get(Api::Iam, format!("v1/projects/{}/serviceAccounts", escape(project))).query("pageSize", "100");
    let there = match client.list(&list, "accounts").await {
        Ok(accounts) => accounts.len(),
        // Before the service is enabled there are none.
        Err(error) if error.is_service_disabled() => 0,
        Err(_) => return None,
    };
    let all = there + coming;
    let seen = format!("{there} are there and {coming} come, of {ACCOUNTS} that a project has at first");
    Some(match all <= ACCOUNTS {
        true => Finding::good("quota: service accounts", seen),
        false => Finding::bad(
            "quota: service accounts",
            seen,
            format!(
                "ask for more (\"Service Account Count\"): \
                 https://console.cloud.google.com/iam-admin/quotas?service=iam.googleapis.com&project={project}"
            ),
        )
        .optional(),
    })
}

/// The number of custom roles; deleted ones count too.
async fn roles(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Option<Finding> {
    if environment.manage.iam != Managed::Create || made(pending.0, Kind::Role) == 0 {
        return None;
    }
    let list = Request::get(Api::Iam, format!("v1/projects/{}/roles", escape(&environment.project)))
        .query("pageSize", "1000")
        .query("showDeleted", "true");
    let there = client.list(&list, "roles").await.ok()?.len();
    let seen = format!("{there} of {ROLES} are there");
    Some(match there < ROLES {
        true => Finding::good("limit: custom roles", seen),
        false => Finding::bad(
            "limit: custom roles",
            seen,
            "delete one that nothing uses: gcloud iam roles list --project PROJECT"
                .replace("PROJECT", &environment.project),
        ),
    })
}

/// Processors of the region, for the nodes that are always there (those stop a plan) and for as many engines as the
/// pool may have.
async fn cpus(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let cluster = &environment.cluster;
    let standard = cluster.mode == ClusterMode::Standard && environment.manage.cluster == Managed::Create;
    if !standard || !pending.creates(Kind::Cluster) {
        return Vec::new();
    }
    let path =
        format!("compute/v1/projects/{}/regions/{}", escape(&environment.project), escape(&environment.location));
    let region = match client.send(&Request::get(Api::Compute, path)).await {
        Ok(region) => region,
        // Before the service is enabled nothing of it can be read.
        Err(error) => {
            let seen = if error.is_service_disabled() {
                "cannot be checked: compute.googleapis.com is not enabled".to_owned()
            } else {
                format!("cannot be checked: {error}")
            };
            return vec![Finding::bad("quota: processors", seen, "").optional()];
        }
    };
    let zones = if environment.zone.is_some() { 1 } else { ZONES };
    let pool = &cluster.engine_pool;
    let metric = if pool.spot { "PREEMPTIBLE_CPUS" } else { "CPUS" };
    let system = processors(&cluster.machine_type).map(|each| each * cluster.nodes * zones);
    let engines = processors(&pool.machine_type).map(|each| each * pool.max);
    let fix = format!(
        "ask for more, or choose smaller machines under [cluster] in the environment file: \
         https://console.cloud.google.com/iam-admin/quotas?service=compute.googleapis.com&project={}",
        environment.project
    );
    let check_quota = |what: &str, metric: &str, desired: Option<u32>| {
        let desired = desired?;
        let free = free(&region, metric)?;
        let seen = format!("{desired} {metric} in {}, of which {free} are free", environment.location);
        Some(match f64::from(desired) <= free {
            true => Finding::good(what, seen),
            false => Finding::bad(what, seen, fix.clone()),
        })
    };
    let engines = check_quota("quota: engines at most", metric, engines).or_else(|| {
        // Where spot machines have no quota of their own, they count as others.
        check_quota("quota: engines at most", "CPUS", engines)
    });
    check_quota("quota: system nodes", "CPUS", system).into_iter().chain(engines.map(Finding::optional)).collect()
}

/// What is left of a quota; nothing when the region has none of this name, or none for it alone.
fn free(region: &Value, metric: &str) -> Option<f64> {
    let quota = region["quotas"].as_array()?.iter().find(|quota| quota["metric"] == metric)?;
    let limit = quota["limit"].as_f64().filter(|limit| *limit > 0.0 || metric == "CPUS")?;
    Some(limit - quota["usage"].as_f64().unwrap_or_default())
}

/// Processors of a machine type, by its name; nothing for types that do not say.
fn processors(machine_type: &str) -> Option<u32> {
    let mut parts = machine_type.split('-');
    match (parts.next()?, parts.next()?, parts.next()) {
        ("e2", "micro" | "small" | "medium", None) => Some(2),
        (_, "custom", Some(number)) | (_, _, Some(number)) => number.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn processors_are_in_the_name() {
        assert_eq!(processors("e2-standard-2"), Some(2));
        assert_eq!(processors("c3-standard-88"), Some(88));
        assert_eq!(processors("n2-custom-6-3072"), Some(6));
        assert_eq!(processors("e2-medium"), Some(2));
        assert_eq!(processors("f1-micro"), None);
    }

    #[test]
    fn what_is_free_is_what_is_not_used() {
        let region = json!({"quotas": [
            {"metric": "CPUS", "limit": 24.0, "usage": 8.0}, {"metric": "PREEMPTIBLE_CPUS", "limit": 0.0, "usage": 0.0},
        ]});
        assert_eq!(free(&region, "CPUS"), Some(16.0));
        assert_eq!(free(&region, "PREEMPTIBLE_CPUS"), None, "spot machines count as others then");
    }
}

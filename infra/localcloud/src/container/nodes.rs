//! What the nodes of a cluster need: an account that exists, a network, and room for processors, disks and addresses.

use serde_json::Value;

use super::{Container, State, shape};
use crate::{
    google::error::{Error, Result},
    identity::{Target, principal::Principal},
};

/// Zones in which a regional cluster has nodes.
const ZONES: i64 = 3;

impl Container {
    /// Refuses nodes that run as an account which the caller may not use.
    pub(super) fn need_act_as(&self, caller: &Principal, email: &str) -> Result<()> {
        let name = format!("projects/{}/serviceAccounts/{email}", self.identity.project());
        let account = Target::resource(name, "iam.googleapis.com/ServiceAccount", "iam.googleapis.com");
        if self.identity.allowed(caller, "iam.serviceAccounts.actAs", &account) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "The user does not have access to service account \"{email}\". Ask a project owner to grant you the \
             iam.serviceAccountUser role on the service account."
        )))
    }

    /// Refuses node pools whose nodes cannot be created, in Kubernetes Engine's words.
    ///
    /// # Errors
    /// 400 for an account or a network that is not known (yet), 403 for a quota that they exceed.
    pub(super) fn check_nodes(
        &self,
        caller: &Principal,
        state: &State,
        cluster: &Value,
        pools: &[Value],
    ) -> Result<()> {
        let project = self.identity.project();
        self.check_network(cluster)?;
        let region = shape::region_of(cluster["location"].as_str().unwrap_or_default());
        self.identity.need_key_of("container-engine-robot", &cluster["databaseEncryption"]["keyName"], &region)?;
        let defaults = &cluster["autoscaling"]["autoprovisioningNodePoolDefaults"];
        for disks in pools.iter().map(|pool| &pool["config"]).chain([defaults]) {
            self.identity.need_key_of("compute-system", &disks["bootDiskKmsKey"], &region)?;
        }
        let accounts = pools.iter().map(|pool| &pool["config"]["serviceAccount"]).chain([&defaults["serviceAccount"]]);
        let own = format!("@{project}.iam.gserviceaccount.com");
        for email in accounts.filter_map(Value::as_str).filter(|email| email.ends_with(&own)) {
            if !self.identity.knows_account(email) {
                // terraform-google-kubernetes-engine #2002.
                return Err(Error::invalid(format!(
                    "failed to check status for {email}; Verify if principal exists and is valid"
                )));
            }
            self.need_act_as(caller, email)?;
        }
        for (metric, limit) in self.identity.quotas() {
            let used: i64 = state.clusters.values().map(|other| needed(other, &pools_of(other), metric)).sum();
            let (needed, free) = (needed(cluster, pools, metric), i64::from(limit) - used);
            if needed > free {
                return Err(Error::forbidden(format!(
                    "Insufficient regional quota to satisfy request: resource \"{metric}\": request requires \
                     '{needed}.0' and is short '{}.0'. project has a quota of '{limit}.0' with '{free}.0' available. View \
                     and manage quotas at https://console.cloud.google.com/iam-admin/quotas?usage=USED&project={project}.",
                    needed - free
                )));
            }
        }
        Ok(())
    }
}

pub(super) fn pools_of(cluster: &Value) -> Vec<Value> {
    cluster["nodePools"].as_array().cloned().unwrap_or_default()
}

/// How much of a quota for disks and addresses the first nodes of these pools use; those for processors are only shown.
fn needed(cluster: &Value, pools: &[Value], metric: &str) -> i64 {
    let is_region = cluster["location"].as_str().is_some_and(|location| shape::is_region(location).unwrap_or(false));
    let zones = if is_region { ZONES } else { 1 };
    let is_private = cluster["networkConfig"]["defaultEnablePrivateNodes"] == true;
    // Google creates the nodes of an Autopilot cluster with its Pods.
    if cluster["autopilot"]["enabled"] == true {
        return 0;
    }
    let of_pool = |pool: &Value| {
        let nodes = pool["initialNodeCount"].as_i64().unwrap_or(0) * zones;
        match metric {
            "SSD_TOTAL_GB" if pool["config"]["diskType"] != "pd-standard" => {
                nodes * pool["config"]["diskSizeGb"].as_i64().unwrap_or(0)
            }
            "IN_USE_ADDRESSES" if !is_private => nodes,
            _ => 0,
        }
    };
    pools.iter().map(of_pool).sum()
}

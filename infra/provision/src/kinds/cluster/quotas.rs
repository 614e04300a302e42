//! Room for the nodes of a new cluster in the quotas of the project.

use serde_json::Value;

use crate::{
    environment::{ClusterMode, Environment, Managed},
    finding::{Finding, Pending},
    google::{Api, Client, Request, escape},
    resource::Kind,
};

/// Zones that a regional cluster has nodes in.
const ZONES: u32 = 3;

/// What a quota is needed for: the nodes that are always there, which stop a plan, or as many engines as the pool may
/// have.
struct Need {
    what: &'static str,
    metrics: Vec<String>,
    amount: u32,
    is_optional: bool,
}

/// Room for the nodes: processors, disks and addresses.
pub(super) async fn quotas(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let cluster = &environment.cluster;
    let standard = cluster.mode == ClusterMode::Standard && environment.manage.cluster == Managed::Create;
    if !standard || !pending.creates(Kind::Cluster) {
        return Vec::new();
    }
    let project = format!("compute/v1/projects/{}", escape(&environment.project));
    let region = format!("{project}/regions/{}", escape(&environment.location));
    let read = |path: String| async move { client.send(&Request::get(Api::Compute, path)).await };
    let (mut quotas, all) = match futures::join!(read(region), read(project)) {
        (Ok(region), Ok(project)) => (region["quotas"].clone(), project["quotas"].clone()),
        // Before the service is enabled nothing of it can be read.
        (Err(error), _) | (_, Err(error)) => {
            return vec![match error.is_service_disabled() {
                true => Finding::unchecked("quota: processors", "compute.googleapis.com is not enabled"),
                false => Finding::unchecked("quota: processors", error),
            }];
        }
    };
    if let (Some(quotas), Some(all)) = (quotas.as_array_mut(), all.as_array()) {
        quotas.extend(all.iter().cloned());
    }
    let fix = format!(
        "request more quota, or choose smaller machines, fewer nodes or smaller disks under [cluster] in the environment file: \
         https://console.cloud.google.com/iam-admin/quotas?service=compute.googleapis.com&project={}",
        environment.project
    );
    let check = |need: Need| {
        let Need { what, metrics, amount, is_optional } = need;
        // The first that the region has a quota of.
        let (metric, free) = metrics.iter().find_map(|metric| Some((metric, free(&quotas, metric)?)))?;
        let seen = format!("needs {amount} {metric} in {}; {free} are free", environment.location);
        let finding = match f64::from(amount) <= free {
            true => Finding::good(what, seen),
            false => Finding::bad("quota", what, seen, fix.clone()),
        };
        Some(if is_optional { finding.optional() } else { finding })
    };
    needs(environment).into_iter().filter_map(check).collect()
}

/// What the nodes of an environment need.
fn needs(environment: &Environment) -> Vec<Need> {
    let cluster = &environment.cluster;
    let (pool, zones) = (&cluster.engine_pool, if environment.zone.is_some() { 1 } else { ZONES });
    let nodes = cluster.nodes * zones;
    let mut needs = Vec::new();
    let mut add = |what, metrics: Vec<String>, amount, is_optional| {
        needs.push(Need { what, metrics, amount, is_optional });
    };
    let one = |metric: &str| vec![metric.to_owned()];
    if let Some(each) = processors(&cluster.machine_type) {
        add("quota: system nodes", metrics(&cluster.machine_type, false), each * nodes, false);
        add("quota: system nodes in all regions", one("CPUS_ALL_REGIONS"), each * nodes, false);
    }
    if let Some(each) = processors(&pool.machine_type) {
        add("quota: engines at most", metrics(&pool.machine_type, pool.spot), each * pool.max, true);
    }
    add("quota: disks of system nodes", one("SSD_TOTAL_GB"), cluster.disk_size_gb * nodes, false);
    let all = nodes + pool.max;
    add("quota: disks with all engines", one("SSD_TOTAL_GB"), cluster.disk_size_gb * all, true);
    if !environment.network.private_nodes {
        add("quota: addresses of system nodes", one("IN_USE_ADDRESSES"), nodes, false);
        add("quota: addresses with all engines", one("IN_USE_ADDRESSES"), all, true);
    }
    needs
}

/// The metrics that the processors of a machine type count against, of which the first with a quota does. Spot machines
/// have one of their own, without which they count as others; most families have one, and E2, N1 and the shared-core
/// machines count as `CPUS` (cloud.google.com/compute/resource-usage).
fn metrics(machine_type: &str, is_spot: bool) -> Vec<String> {
    let family = machine_type.split('-').next().unwrap_or_default();
    let own = match family {
        "e2" | "n1" | "f1" | "g1" | "custom" => "CPUS".to_owned(),
        family => format!("{}_CPUS", family.to_uppercase()),
    };
    is_spot.then(|| "PREEMPTIBLE_CPUS".to_owned()).into_iter().chain([own]).collect()
}

/// The free part of a quota; `None` when the region has no quota of this name, or no separate one for Spot machines.
fn free(quotas: &Value, metric: &str) -> Option<f64> {
    let quota = quotas.as_array()?.iter().find(|quota| quota["metric"] == metric)?;
    let limit = quota["limit"].as_f64().filter(|limit| *limit > 0.0 || metric != "PREEMPTIBLE_CPUS")?;
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
        let quotas = json!([
            {"metric": "CPUS", "limit": 24.0, "usage": 8.0}, {"metric": "PREEMPTIBLE_CPUS", "limit": 0.0, "usage": 0.0},
        ]);
        assert_eq!(free(&quotas, "CPUS"), Some(16.0));
        assert_eq!(free(&quotas, "PREEMPTIBLE_CPUS"), None, "spot machines count as others then");
    }

    #[test]
    fn processors_count_against_the_metric_of_their_family() {
        assert_eq!(metrics("e2-standard-2", false), ["CPUS"]);
        assert_eq!(metrics("n2-standard-2", false), ["N2_CPUS"]);
        assert_eq!(metrics("c3-standard-8", true), ["PREEMPTIBLE_CPUS", "C3_CPUS"]);
    }
}

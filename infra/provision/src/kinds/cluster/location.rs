//! Whether the region and the zone of a new cluster exist: Compute Engine lists the zones of each region. Kubernetes
//! Engine would refuse the cluster after everything else was created.

use serde_json::Value;

use super::network::{makes_cluster, unchecked};
use crate::{
    environment::Environment,
    finding::{Finding, Pending},
    google::{Api, Client, Request, escape},
};

const WHAT: &str = "location";

/// Checks both.
pub(super) async fn check(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    if !makes_cluster(environment, pending) {
        return Vec::new();
    }
    let (project, region) = (&environment.project, &environment.location);
    let path = format!("compute/v1/projects/{}/regions/{}", escape(project), escape(region));
    vec![match client.send(&Request::get(Api::Compute, path)).await {
        Ok(live) => zone(environment, &live),
        Err(error) if error.is_not_found() => {
            let fix = format!(
                "set `location` in the environment file to one of: gcloud compute regions list --project {project}"
            );
            Finding::bad("no-region", WHAT, format!("Compute Engine has no region {region}"), fix)
        }
        Err(error) => unchecked(WHAT, &error),
    }]
}

/// Whether the zone is one of its region, which was read.
fn zone(environment: &Environment, region: &Value) -> Finding {
    let listed = region["zones"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let zones: Vec<&str> = listed.filter_map(|url| url.rsplit('/').next()).collect();
    match environment.zone.as_deref().filter(|zone| !zones.contains(zone)) {
        None => Finding::good(WHAT, format!("{} exists", environment.cluster_location())),
        Some(zone) => Finding::bad(
            "no-zone",
            WHAT,
            format!("{} has no zone {zone}", environment.location),
            format!("set `zone` in the environment file to one of: {}", zones.join(", ")),
        ),
    }
}

//! The shape of clusters and node pools: what Google fills in, what it refuses, what an update changes.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Access;
use crate::{
    google::{
        call::time_text,
        error::{Error, Result},
    },
    kubernetes::discovery::VERSION,
};

/// Longest name of a cluster or node pool.
const NAME_MAX: usize = 40;

/// Version of Kubernetes in Google's form.
pub(super) fn version() -> String {
    format!("{}-gke.1000000", VERSION.trim_start_matches('v'))
}

/// Refuses a name that is not one.
///
/// # Errors
/// 400.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    let shape = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    if shape && begins && !name.ends_with('-') && name.len() <= NAME_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid value for field \"{what}.name\": \"{name}\". Must be a match of regex \
         '(?:[a-z](?:[-a-z0-9]{{0,38}}[a-z0-9])?)' (only alphanumerics and '-', at most {NAME_MAX} characters)."
    )))
}

/// True for the name of a region or a zone; and whether it is a region.
pub(super) fn is_region(location: &str) -> Result<bool> {
    let parts: Vec<&str> = location.split('-').collect();
    match parts.as_slice() {
        [_, area] if area.ends_with(|last: char| last.is_ascii_digit()) => Ok(true),
        [_, area, zone]
            if area.ends_with(|last: char| last.is_ascii_digit()) && zones(&region_of(location)).contains(zone) =>
        {
            Ok(false)
        }
        _ => Err(Error::invalid(format!("Location \"{location}\" does not exist."))),
    }
}

/// Letters of the zones of a region (cloud.google.com/compute/docs/regions-zones). Every region exists here.
pub(crate) fn zones(region: &str) -> &'static [&'static str] {
    match region {
        "europe-west1" | "us-east1" => &["b", "c", "d"],
        "us-central1" => &["a", "b", "c", "f"],
        _ => &["a", "b", "c"],
    }
}

/// The region of a region or zone.
pub(super) fn region_of(location: &str) -> String {
    location.split('-').take(2).collect::<Vec<_>>().join("-")
}

/// A cluster that somebody asked for, with all that Google fills in, while it is being made.
///
/// # Errors
/// 400 for what cannot be.
pub(super) fn cluster(desired: &Value, project: &str, location: &str, now: Timestamp) -> Result<Value> {
    let name = desired["name"].as_str().unwrap_or_default();
    check_name("cluster", name)?;
    let region = is_region(location)?;
    let autopilot = desired["autopilot"]["enabled"] == true;
    if autopilot && !region {
        return Err(Error::invalid("Autopilot clusters must be regional clusters."));
    }
    let given = desired["nodePools"].as_array().cloned().unwrap_or_default();
    let alone = desired.get("initialNodeCount").is_some_and(|count| *count != 0) || desired.get("nodeConfig").is_some();
    if !given.is_empty() && alone {
        return Err(Error::invalid(
            "Cluster.initial_node_count and Cluster.node_config must be empty when Cluster.node_pools is set.",
        ));
    }
    if given.is_empty() && !autopilot && desired["initialNodeCount"].as_i64().unwrap_or(0) < 1 {
        return Err(Error::invalid("Cluster.initial_node_count must be greater than zero."));
    }
    let pools = if given.is_empty() {
        vec![json!({
            "name": "default-pool",
            "initialNodeCount": desired["initialNodeCount"].as_i64().unwrap_or(1),
            "config": desired.get("nodeConfig").cloned().unwrap_or_else(|| json!({})),
        })]
    } else {
        given
    };
    let pools: Vec<Value> = pools.iter().map(|pool| self::pool(pool, location)).collect::<Result<_>>()?;
    let nodes: i64 = pools.iter().filter_map(|pool| pool["initialNodeCount"].as_i64()).sum();
    let zones = if region { vec![format!("{location}-b")] } else { vec![location.to_owned()] };
    let mut cluster = json!({
        "addonsConfig": { "gcePersistentDiskCsiDriverConfig": { "enabled": true } },
        "autopilot": {},
        "controlPlaneEndpointsConfig": {
            "dnsEndpointConfig": { "allowExternalTraffic": false },
            "ipEndpointsConfig": { "enabled": true, "enablePublicEndpoint": true },
        },
        "createTime": time_text(now),
        "currentMasterVersion": version(),
        "currentNodeVersion": version(),
        "databaseEncryption": { "currentState": "CURRENT_STATE_DECRYPTED", "state": "DECRYPTED" },
        "id": format!("{:032x}", rand::random::<u128>()),
        "initialClusterVersion": version(),
        "ipAllocationPolicy": { "stackType": "IPV4", "useIpAliases": true },
        "location": location,
        "locations": zones,
        "loggingService": "logging.googleapis.com/kubernetes",
        "monitoringService": "monitoring.googleapis.com/kubernetes",
        "network": "default",
        "releaseChannel": { "channel": "REGULAR" },
        "shieldedNodes": { "enabled": true },
        "subnetwork": "default",
        "zone": location,
    });
    merge(&mut cluster, desired);
    for (field, kind) in
        [("network", "global/networks"), ("subnetwork", &format!("regions/{}/subnetworks", region_of(location)))]
    {
        let given = cluster[field].as_str().unwrap_or("default").to_owned();
        let last = given.rsplit('/').next().unwrap_or_default();
        let full = if given.contains('/') { given.clone() } else { format!("projects/{project}/{kind}/{last}") };
        cluster["networkConfig"][field] = json!(full);
        cluster[field] = json!(last);
    }
    if autopilot {
        merge(&mut cluster, &json!({ "workloadIdentityConfig": { "workloadPool": format!("{project}.svc.id.goog") } }));
    }
    cluster["currentNodeCount"] = json!(nodes);
    cluster["nodePools"] = json!(pools);
    cluster["status"] = json!("PROVISIONING");
    changed(&mut cluster);
    Ok(cluster)
}

/// A node pool with what Google fills in.
///
/// # Errors
/// 400 for a bad name.
pub(super) fn pool(desired: &Value, location: &str) -> Result<Value> {
    check_name("node_pool", desired["name"].as_str().unwrap_or_default())?;
    let mut pool = json!({
        "config": {
            "diskSizeGb": 100,
            "diskType": "pd-balanced",
            "imageType": "COS_CONTAINERD",
            "machineType": "e2-medium",
            "metadata": { "disable-legacy-endpoints": "true" },
            "serviceAccount": "default",
            "shieldedInstanceConfig": { "enableIntegrityMonitoring": true },
        },
        "initialNodeCount": 0,
        "locations": [location],
        "management": { "autoRepair": true, "autoUpgrade": true },
        "maxPodsConstraint": { "maxPodsPerNode": "110" },
        "status": "RUNNING",
        "upgradeSettings": { "maxSurge": 1, "strategy": "SURGE" },
        "version": version(),
    });
    merge(&mut pool, desired);
    Ok(pool)
}

/// A cluster with its address, as the API shows it.
pub(super) fn show(cluster: &Value, base: &str, number: u64, access: Option<&Access>) -> Value {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let mut shown = cluster.clone();
    let here = format!(
        "{base}/v1/projects/{number}/locations/{}/clusters/{}",
        cluster["location"].as_str().unwrap_or_default(),
        cluster["name"].as_str().unwrap_or_default()
    );
    for pool in shown["nodePools"].as_array_mut().into_iter().flatten() {
        pool["selfLink"] = json!(format!("{here}/nodePools/{}", pool["name"].as_str().unwrap_or_default()));
    }
    shown["selfLink"] = json!(here);
    if let Some(access) = access.filter(|_| cluster["status"] != "PROVISIONING") {
        let id = cluster["id"].as_str().and_then(|id| id.get(..20)).unwrap_or_default();
        let location = cluster["location"].as_str().unwrap_or_default();
        let address = json!({
            "endpoint": access.endpoint,
            "masterAuth": { "clusterCaCertificate": BASE64_STANDARD.encode(&access.ca_pem) },
            "controlPlaneEndpointsConfig": {
                "dnsEndpointConfig": { "endpoint": format!("gke-{id}-{number}.{location}.gke.goog") },
                "ipEndpointsConfig": { "publicEndpoint": access.endpoint, "privateEndpoint": access.endpoint },
            },
        });
        merge(&mut shown, &address);
    }
    shown
}

/// What `update.desired…` makes of a cluster.
pub(super) fn update(cluster: &mut Value, update: &Map<String, Value>) {
    for (key, desired) in update {
        let Some(field) = key.strip_prefix("desired") else { continue };
        match field {
            "DatapathProvider" => merge(cluster, &json!({ "networkConfig": { "datapathProvider": desired } })),
            "DefaultEnablePrivateNodes" => {
                merge(cluster, &json!({ "networkConfig": { "defaultEnablePrivateNodes": desired } }));
            }
            "ClusterAutoscaling" => merge(cluster, &json!({ "autoscaling": desired })),
            "MasterVersion" | "NodeVersion" | "NodePoolId" | "ImageType" => {}
            _ => {
                let mut letters = field.chars();
                let first = letters.next().map(|first| first.to_ascii_lowercase());
                let field: String = first.into_iter().chain(letters).collect();
                let mut part = Map::new();
                part.insert(field, desired.clone());
                merge(cluster, &Value::Object(part));
            }
        }
    }
    changed(cluster);
}

/// Gives a cluster that changed its new etag and label fingerprint.
pub(super) fn changed(cluster: &mut Value) {
    cluster["etag"] = json!(fingerprint(&json!(rand::random::<u64>())));
    cluster["labelFingerprint"] = json!(fingerprint(&cluster["resourceLabels"]));
}

/// Short text that differs when the value does.
fn fingerprint(value: &Value) -> String {
    // FNV-1a.
    let hash = value
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{:08x}", hash >> 32)
}

/// What a change of a node pool makes of it: its own fields by their names, those of its nodes flat beside them.
pub(super) fn update_pool(pool: &mut Value, desired: &Map<String, Value>) {
    for (key, desired) in desired {
        match key.as_str() {
            "name" | "nodeVersion" | "etag" => {}
            "autoscaling" => pool[key] = desired.clone(),
            "management" | "locations" | "upgradeSettings" => merge(pool, &json!({ key: desired })),
            // These come in a message of their own.
            "taints" | "labels" | "tags" => pool["config"][key] = desired[key].clone(),
            "resourceLabels" => pool["config"][key] = desired["labels"].clone(),
            _ => merge(pool, &json!({ "config": { key: desired } })),
        }
    }
}

/// Puts what `desired` has into `value`; objects within each other, all else as a whole.
pub(super) fn merge(value: &mut Value, desired: &Value) {
    match (value, desired) {
        (Value::Object(fields), Value::Object(desired)) => {
            for (key, desired) in desired {
                merge(fields.entry(key.clone()).or_insert(Value::Null), desired);
            }
        }
        (value, desired) => value.clone_from(desired),
    }
}

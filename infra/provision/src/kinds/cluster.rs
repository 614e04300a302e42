//! The cluster.

use serde_json::{Value, json};

use super::*;
use crate::{
    environment::{Auth, ClusterMode, Endpoint, Managed},
    finding::{Finding, Pending},
    google::{Client, Method},
};

pub(crate) const RULES: Rules = Rules {
    noun: "cluster",
    title: named,
    api: Api::Container,
    target: None,
    parent: no_parent,
    managed: |manage| manage.cluster,
    desired,
    is_first: false,
    mark: Mark::Labels("/resourceLabels"),
    immutable: &["name", "network", "subnetwork", "ipAllocationPolicy", "networkConfig.datapathProvider", "autopilot"],
    list: Some(List {
        request: |environment| {
            let project = escape(&environment.project);
            Request::get(Api::Container, format!("v1/projects/{project}/locations/-/clusters"))
        },
        key: "clusters",
        name: |item, project| {
            let text = |key: &str| item[key].as_str().unwrap_or_default();
            format!("projects/{project}/locations/{}/clusters/{}", text("location"), text("name"))
        },
    }),
    read: get,
    view: |desired, live| Some(view(desired, live)),
    limit: None,
    differences: by_field,
    phase,
    denied: not_readable,
    absent_may_be_denied: false,
    create: Some(|new| {
        let mut cluster = new.fields.clone();
        if !new.parts.is_empty() {
            cluster["nodePools"] =
                new.parts.iter().map(|(id, fields)| super::node_pool::with_name(id, fields)).collect();
        }
        Request::new(Api::Container, Method::Post, collection(&path(new.id))).body(json!({"cluster": cluster}))
    }),
    is_created: None,
    update,
    is_eventual: false,
    delete,
    undelete: None,
    started_operation: operation,
    exclusive_operations: Some(OPERATIONS),
    is_too_early: |error| error.is_unknown_principal() || error.is_network_missing(),
    is_passing: no_error,
    explain,
    removal: Removal::Deleted,
    permissions: PERMISSIONS,
    role: "roles/container.admin",
    quotas: Some(|environment, client, pending| Box::pin(quotas(environment, client, pending))),
};

/// Permissions for clusters and their node pools.
pub(super) const PERMISSIONS: &[&str] =
    &["container.clusters.create", "container.clusters.delete", "container.clusters.update"];

/// Operations on a cluster or its node pools, of which it takes one at a time.
pub(super) const OPERATIONS: Operations = Operations {
    path: |id| {
        let parts: Vec<&str> = id.name.split('/').take(4).collect();
        format!("v1/{}/operations", parts.join("/"))
    },
    is_about: |id, operation| {
        let target = operation["targetLink"].as_str().unwrap_or_default();
        let cluster = id.whole();
        target.rsplit_once("/clusters/").is_some_and(|(_, rest)| rest.split('/').next() == Some(cluster.short()))
    },
};

/// What nodes may request tokens for; what they may do with those is up to IAM.
pub(super) const SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/cloud-platform"];
/// Zones that a regional cluster has nodes in.
const ZONES: u32 = 3;

/// The id of an environment's cluster.
pub(crate) fn id(environment: &Environment) -> Id {
    let Environment { project, cluster, .. } = environment;
    let location = environment.cluster_location();
    Id::new(Kind::Cluster, format!("projects/{project}/locations/{location}/clusters/{}", cluster.name))
}

fn desired(environment: &Environment) -> Vec<Resource> {
    let id = id(environment);
    let workload_identity = json!({"workloadPool": environment.workload_pool()});
    if environment.manage.cluster != Managed::Create {
        // Of somebody else's cluster only what we cannot do without.
        let fields = match environment.auth {
            Auth::WorkloadIdentity => json!({"workloadIdentityConfig": workload_identity}),
            Auth::Key => json!({}),
        };
        return vec![resource(environment, id, None, fields, vec![])];
    }
    let network = &environment.network;
    let mut fields = json!({
        "name": environment.cluster.name,
        "resourceLabels": labels(environment, None),
        "releaseChannel": {"channel": "REGULAR"},
        "network": network.network,
        "ipAllocationPolicy": {"useIpAliases": true},
        // Dataplane V2.
        "networkConfig": {
            "datapathProvider": "ADVANCED_DATAPATH",
            "defaultEnablePrivateNodes": network.private_nodes,
        },
        "workloadIdentityConfig": workload_identity,
        "controlPlaneEndpointsConfig": endpoints(network.endpoint),
    });
    if let Some(subnetwork) = &network.subnetwork {
        fields["subnetwork"] = json!(subnetwork);
    }
    if let Some(key) = environment.security.kms_keys.get("cluster") {
        fields["databaseEncryption"] = json!({"state": "ENCRYPTED", "keyName": key});
    }
    let nodes = &environment.accounts.nodes;
    match environment.cluster.mode {
        ClusterMode::Autopilot => {
            fields["autopilot"] = json!({"enabled": true});
            let mut defaults = json!({"serviceAccount": nodes, "oauthScopes": SCOPES});
            if let Some(key) = environment.security.kms_keys.get("disks") {
                defaults["bootDiskKmsKey"] = json!(key);
            }
            fields["autoscaling"] = json!({"autoprovisioningNodePoolDefaults": defaults});
        }
        ClusterMode::Standard => {}
    }
    vec![resource(environment, id, None, fields, vec![service_account::id(nodes)])]
}

/// How the control plane is reached: by its DNS name, where IAM decides who comes through, or by an address.
fn endpoints(endpoint: Endpoint) -> Value {
    let (external, addresses) = match endpoint {
        Endpoint::Dns => (true, json!({"enabled": false})),
        Endpoint::Public => (false, json!({"enabled": true, "enablePublicEndpoint": true})),
        Endpoint::Private => (false, json!({"enabled": true, "enablePublicEndpoint": false})),
    };
    json!({"dnsEndpointConfig": {"allowExternalTraffic": external}, "ipEndpointsConfig": addresses})
}

/// A cluster as it was read, where a network that was given by its full name is shown by its last part only.
fn view(desired: &Value, mut live: Value) -> Value {
    for field in ["network", "subnetwork"] {
        let full = &live["networkConfig"][field];
        let is_same = desired[field].as_str().is_some_and(|desired| {
            let last = |name: &str| name.rsplit('/').next().map(str::to_owned);
            match (desired.contains('/'), full.as_str()) {
                (true, Some(full)) => full == desired,
                _ => live[field].as_str().and_then(last) == last(desired),
            }
        });
        if is_same {
            live[field] = desired[field].clone();
        }
    }
    live
}

fn phase(id: &Id, live: &Value) -> Phase {
    match live["status"].as_str() {
        Some("PROVISIONING") => Phase::Creating,
        Some("STOPPING") => Phase::Deleting,
        Some("ERROR") => Phase::Broken(broken(id, live)),
        _ => Phase::Ready,
    }
}

/// Why a cluster could not be created, in Google's words.
fn broken(id: &Id, live: &Value) -> String {
    let conditions = live["conditions"].as_array().into_iter().flatten();
    let mut reasons: Vec<&str> = conditions.filter_map(|condition| condition["message"].as_str()).collect();
    reasons.extend(live["statusMessage"].as_str().filter(|_| reasons.is_empty()));
    format!(
        "Google could not create it: {}; correct that, delete it with `gcloud container clusters delete {} --location {}`, \
         and provision again",
        if reasons.is_empty() { "Google does not say why".to_owned() } else { reasons.join("; ") },
        id.short(),
        id.name.split('/').nth(3).unwrap_or_default(),
    )
}

/// Google takes one field a request, and each is an operation of its own.
fn update(id: &Id, desired: &Value, live: &Value, changed: &[String]) -> Vec<Request> {
    let path = path(id);
    let update = |field: &str, value: Value| {
        let body = json!({"name": id.name, "update": {field: value}});
        Request::new(Api::Container, Method::Put, &path).body(body)
    };
    let requests = top_level_fields(changed).into_iter().map(|field| {
        let value = desired[field].clone();
        match field {
            "resourceLabels" => {
                let body = json!({
                    "resourceLabels": merged(&live[field], &value),
                    "labelFingerprint": live["labelFingerprint"],
                });
                Request::new(Api::Container, Method::Post, format!("{path}:setResourceLabels")).body(body)
            }
            // The one part of it that can be changed.
            "networkConfig" => update("desiredDefaultEnablePrivateNodes", value["defaultEnablePrivateNodes"].clone()),
            "autoscaling" => update("desiredClusterAutoscaling", combined(&live[field], &value)),
            _ => {
                let mut letters = field.chars();
                let first = letters.next().map(|letter| letter.to_ascii_uppercase());
                let name: String = "desired".chars().chain(first).chain(letters).collect();
                update(&name, value)
            }
        }
    });
    requests.collect()
}

/// `live` with what `desired` says, objects within each other.
fn combined(live: &Value, desired: &Value) -> Value {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            let mut all = live.clone();
            for (key, value) in desired {
                let value = combined(live.get(key).unwrap_or(&Value::Null), value);
                all.insert(key.clone(), value);
            }
            Value::Object(all)
        }
        _ => desired.clone(),
    }
}

/// Path of the operation in an answer.
pub(super) fn operation(id: &Id, answer: &Value) -> Option<String> {
    let name = answer["name"].as_str().filter(|_| answer["operationType"].is_string())?;
    Some(format!("{}/{name}", (OPERATIONS.path)(id)))
}

fn explain(error: Error) -> Error {
    if !error.is_network_missing() {
        return error;
    }
    let message = format!(
        "{}; name an existing one as `network` under [network] in the environment file, or create it: gcloud compute \
         networks create default --subnet-mode auto",
        error.message.trim_end_matches('.')
    );
    Error { message, ..error }
}

/// What a quota is needed for: the nodes that are always there, which stop a plan, or as many engines as the pool may
/// have.
struct Need {
    what: &'static str,
    metrics: Vec<String>,
    amount: u32,
    is_optional: bool,
}

/// Room for the nodes: processors, disks and addresses.
async fn quotas(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
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
            let seen = if error.is_service_disabled() {
                "cannot be checked: compute.googleapis.com is not enabled".to_owned()
            } else {
                format!("cannot be checked: {error}")
            };
            return vec![Finding::bad("quota: processors", seen, "").optional()];
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
            false => Finding::bad(what, seen, fix.clone()),
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
    use super::*;

    #[test]
    fn a_network_given_by_its_full_name_is_the_one_that_is_shown_by_its_last_part() {
        let live = json!({"network": "n", "networkConfig": {"network": "projects/host/global/networks/n"}});
        let seen = |network: &str| view(&json!({"network": network}), live.clone())["network"].clone();
        assert_eq!(seen("n"), "n");
        assert_eq!(seen("projects/host/global/networks/n"), "projects/host/global/networks/n");
        assert_eq!(seen("projects/other/global/networks/n"), "n");
    }

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

//! The cluster.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::{
    environment::{Auth, ClusterMode, Endpoint, Managed, Network},
    google::Method,
};

mod location;
mod network;
mod node_account;
mod quotas;
mod shared_network;

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
    methods: Methods {
        read: &["container.projects.locations.clusters.get", "container.projects.locations.clusters.list"],
        create: &["container.projects.locations.clusters.create", GET_OPERATION, LIST_OPERATIONS],
        update: &[
            "container.projects.locations.clusters.update",
            "container.projects.locations.clusters.setResourceLabels",
            GET_OPERATION,
            LIST_OPERATIONS,
        ],
        delete: &["container.projects.locations.clusters.delete", GET_OPERATION, LIST_OPERATIONS],
    },
    explain,
    removal: Removal::Deleted,
    role: "roles/container.admin",
    lengths: Some(lengths),
    on_itself: None,
    checks: &[
        |environment, client, pending| Box::pin(node_account::act_as(environment, client, pending)),
        |environment, client, pending| Box::pin(location::check(environment, client, pending)),
        |environment, client, pending| Box::pin(quotas::quotas(environment, client, pending)),
        |environment, client, pending| Box::pin(network::exists(environment, client, pending)),
        |environment, client, pending| Box::pin(shared_network::check(environment, client, pending)),
        |environment, client, pending| Box::pin(network::check(environment, client, pending)),
    ],
};

/// The methods of checks before a cluster is created.
pub(crate) const CHECK_METHODS: &[&str] = &[
    "compute.projects.get",
    "compute.projects.getXpnHost",
    "compute.regions.get",
    "compute.networks.get",
    "compute.subnetworks.get",
    "compute.subnetworks.getIamPolicy",
];

/// Reads an operation.
pub(super) const GET_OPERATION: &str = "container.projects.locations.operations.get";
/// Lists operations.
pub(super) const LIST_OPERATIONS: &str = "container.projects.locations.operations.list";

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

/// At most 40 characters, and fewer of Autopilot.
fn lengths(environment: &Environment) -> RangeInclusive<usize> {
    match environment.cluster.mode {
        ClusterMode::Autopilot => 1..=39,
        ClusterMode::Standard => 1..=40,
    }
}

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
        "ipAllocationPolicy": ranges(network),
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
    // The node pools are created with it.
    let mut after = crypto_key::permissions(environment, &["cluster", "disks"]);
    after.push(service_account::id(nodes));
    vec![resource(environment, id, None, fields, after)]
}

/// Addresses of pods and services: from secondary ranges that somebody made, as a Shared VPC needs
/// (cloud.google.com/kubernetes-engine/docs/how-to/cluster-shared-vpc), or from ranges that Google makes.
fn ranges(network: &Network) -> Value {
    let mut policy = json!({"useIpAliases": true});
    if let Some(ranges) = &network.ranges {
        policy["clusterSecondaryRangeName"] = json!(ranges.pods);
        policy["servicesSecondaryRangeName"] = json!(ranges.services);
    }
    policy
}

/// The accounts that the nodes of a live cluster run as, as members of policies: those of its pools, and of pools that
/// Google adds. `default` is the project's Compute Engine account
/// (cloud.google.com/compute/docs/access/service-accounts#default_service_account).
pub(crate) fn node_members(live: &Value, number: &str) -> BTreeSet<String> {
    let pools = live["nodePools"].as_array().into_iter().flatten();
    let added = &live["autoscaling"]["autoprovisioningNodePoolDefaults"]["serviceAccount"];
    let accounts = pools.map(|pool| &pool["config"]["serviceAccount"]).chain((!added.is_null()).then_some(added));
    let member = |account: &Value| match account.as_str() {
        None | Some("" | "default") => format!("serviceAccount:{number}-compute@developer.gserviceaccount.com"),
        Some(email) => format!("serviceAccount:{email}"),
    };
    accounts.map(member).collect()
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
    let cause = error.message.trim_end_matches('.');
    if error.is_shared_network_refused() {
        let message =
            format!("{cause}; `cargo xtask doctor` shows what the network lacks and the commands that add it");
        return Error { message, ..error };
    }
    if !error.is_network_missing() {
        return crypto_key::explain(error);
    }
    let message = format!(
        "{cause}; name an existing one as `network` under [network] in the environment file, or create it: gcloud compute \
         networks create default --subnet-mode auto"
    );
    Error { message, ..error }
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
}

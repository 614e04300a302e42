//! Node pools of a standard cluster: one for orchestrators and web apps, one for engines.

use serde_json::{Value, json};

use super::*;
use crate::{
    environment::{ClusterMode, Managed},
    google::Method,
};

pub(crate) const RULES: Rules = Rules {
    noun: "node pool",
    title: named,
    api: Api::Container,
    target: None,
    parent: |id| id.name.split_once("/nodePools/").map(|(cluster, _)| Id::new(Kind::Cluster, cluster)),
    managed: |manage| manage.cluster,
    desired,
    is_first: false,
    mark: Mark::Labels("/config/resourceLabels"),
    immutable: &[
        "config.spot",
        "config.serviceAccount",
        "config.oauthScopes",
        "config.shieldedInstanceConfig",
        "config.bootDiskKmsKey",
    ],
    list: None,
    read: get,
    view: as_read,
    limit: None,
    differences,
    phase: |_, live| match live["status"].as_str() {
        Some("PROVISIONING") => Phase::Creating,
        Some("STOPPING") => Phase::Deleting,
        _ => Phase::Ready,
    },
    denied: not_readable,
    absent_may_be_denied: false,
    create: Some(|new| {
        Request::new(Api::Container, Method::Post, collection(&path(new.id)))
            .body(json!({"nodePool": with_name(new.id, new.fields)}))
    }),
    is_created: None,
    update,
    is_eventual: false,
    delete,
    undelete: None,
    started_operation: cluster::operation,
    exclusive_operations: Some(cluster::OPERATIONS),
    methods: Methods {
        read: &["container.projects.locations.clusters.nodePools.get"],
        create: &[
            "container.projects.locations.clusters.nodePools.create",
            cluster::GET_OPERATION,
            cluster::LIST_OPERATIONS,
        ],
        update: &[
            "container.projects.locations.clusters.nodePools.update",
            "container.projects.locations.clusters.nodePools.setAutoscaling",
            cluster::GET_OPERATION,
            cluster::LIST_OPERATIONS,
        ],
        delete: &[
            "container.projects.locations.clusters.nodePools.delete",
            cluster::GET_OPERATION,
            cluster::LIST_OPERATIONS,
        ],
    },
    explain: crypto_key::explain,
    removal: Removal::Deleted,
    role: "roles/container.admin",
    lengths: None,
    on_itself: None,
    checks: &[],
};

/// The pool that orchestrators and web apps run on.
const SYSTEM: &str = "system";
/// The pool that engines run on.
const ENGINES: &str = "engines";

fn desired(environment: &Environment) -> Vec<Resource> {
    if environment.manage.cluster != Managed::Create || environment.cluster.mode != ClusterMode::Standard {
        return Vec::new();
    }
    let count = environment.cluster.nodes;
    // Sized by its limits, since only those can be read back.
    let system = json!({
        "initialNodeCount": count,
        "autoscaling": {"enabled": true, "minNodeCount": count, "maxNodeCount": count},
        "config": node(environment, &environment.cluster.machine_type, false),
    });
    let pool = &environment.cluster.engine_pool;
    let engines = json!({
        "initialNodeCount": 0,
        "autoscaling": {
            "enabled": true,
            "totalMinNodeCount": pool.min,
            "totalMaxNodeCount": pool.max,
            "locationPolicy": "ANY",
        },
        "config": node(environment, &pool.machine_type, pool.spot),
    });
    let cluster = cluster::id(environment);
    let pools = [(SYSTEM, system), (ENGINES, engines)].map(|(name, fields)| {
        let id = Id::new(Kind::NodePool, format!("{}/nodePools/{name}", cluster.name));
        let mut after = crypto_key::permissions(environment, &["disks"]);
        after.push(cluster.clone());
        resource(environment, id, None, fields, after)
    });
    pools.into()
}

/// The initial number of nodes only says how to create the pool, and cannot be read back.
fn differences(desired: &Value, live: &Value) -> Vec<Difference> {
    let differences = field_differences(desired, live);
    differences.into_iter().filter(|difference| difference.field != "initialNodeCount").collect()
}

/// The configuration of a pool's nodes.
fn node(environment: &Environment, machine_type: &str, spot: bool) -> Value {
    let mut config = json!({
        "machineType": machine_type,
        "diskSizeGb": environment.cluster.disk_size_gb,
        "serviceAccount": environment.accounts.nodes,
        "oauthScopes": cluster::SCOPES,
        "resourceLabels": labels(environment, None),
        "workloadMetadataConfig": {"mode": "GKE_METADATA"},
        "shieldedInstanceConfig": {"enableSecureBoot": true, "enableIntegrityMonitoring": true},
        "spot": spot,
    });
    if let Some(key) = environment.security.kms_keys.get("disks") {
        config["bootDiskKmsKey"] = json!(key);
    }
    if spot {
        // Only Pods that tolerate an interruption run there.
        config["taints"] = json!([{"key": "cloud.google.com/gke-spot", "value": "true", "effect": "NO_SCHEDULE"}]);
    }
    config
}

/// A node pool with its name.
pub(super) fn with_name(id: &Id, fields: &Value) -> Value {
    let mut pool = fields.clone();
    pool["name"] = json!(id.short());
    pool
}

/// Changes the limits in one request, and `config` field by field.
fn update(id: &Id, desired: &Value, live: &Value, changed: &[String]) -> Vec<Request> {
    let path = path(id);
    let mut requests = Vec::new();
    if changed.iter().any(|field| field.starts_with("autoscaling")) {
        let body = json!({"autoscaling": desired["autoscaling"]});
        requests.push(Request::new(Api::Container, Method::Post, format!("{path}:setAutoscaling")).body(body));
    }
    let inside: Vec<String> =
        changed.iter().filter_map(|field| field.strip_prefix("config.")).map(str::to_owned).collect();
    for field in top_level_fields(&inside) {
        let value = desired["config"][field].clone();
        let value = match field {
            "resourceLabels" => json!({"labels": merged(&live["config"][field], &value)}),
            "taints" => json!({"taints": value}),
            _ => value,
        };
        requests.push(Request::new(Api::Container, Method::Put, &path).body(json!({field: value})));
    }
    requests
}

//! The cluster and its node pools.

use super::{Auth, ClusterMode, Endpoint, Environment, Id, Kind, Managed, Resources, Value, json};

/// The pool that orchestrators and web apps run on.
const SYSTEM_POOL: &str = "system";
/// The pool that engines run on.
const ENGINE_POOL: &str = "engines";
/// What nodes may ask tokens for; what they may do with those is up to IAM.
const SCOPES: [&str; 1] = ["https://www.googleapis.com/auth/cloud-platform"];

impl Resources<'_> {
    pub(super) fn cluster(&mut self) {
        let environment = self.environment;
        let managed = environment.manage.cluster;
        let id = cluster_id(environment);
        let workload_identity = json!({"workloadPool": environment.workload_pool()});
        if managed != Managed::Create {
            // Of somebody else's cluster only what we cannot do without.
            let fields = match environment.auth {
                Auth::WorkloadIdentity => json!({"workloadIdentityConfig": workload_identity}),
                Auth::Key => json!({}),
            };
            return self.add(id, None, managed, fields, vec![]);
        }
        let network = &environment.network;
        let mut fields = json!({
            "name": environment.cluster.name,
            "resourceLabels": self.labels(None),
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
        let after = vec![Self::account_id(nodes)];
        if environment.cluster.mode == ClusterMode::Autopilot {
            fields["autopilot"] = json!({"enabled": true});
            let mut defaults = json!({"serviceAccount": nodes, "oauthScopes": SCOPES});
            if let Some(key) = environment.security.kms_keys.get("disks") {
                defaults["bootDiskKmsKey"] = json!(key);
            }
            fields["autoscaling"] = json!({"autoprovisioningNodePoolDefaults": defaults});
            return self.add(id, None, managed, fields, after);
        }
        self.add(id.clone(), None, managed, fields, after);
        let count = environment.cluster.nodes;
        // Sized by its limits, since only those can be read back.
        let system = json!({
            "initialNodeCount": count,
            "autoscaling": {"enabled": true, "minNodeCount": count, "maxNodeCount": count},
            "config": self.node(&environment.cluster.machine_type, false),
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
            "config": self.node(&pool.machine_type, pool.spot),
        });
        for (name, fields) in [(SYSTEM_POOL, system), (ENGINE_POOL, engines)] {
            let pool = Id::new(Kind::NodePool, format!("{}/nodePools/{name}", id.name));
            self.add(pool, None, managed, fields, vec![id.clone()]);
        }
    }

    /// How the nodes of a pool are.
    fn node(&self, machine_type: &str, spot: bool) -> Value {
        let mut config = json!({
            "machineType": machine_type,
            "serviceAccount": self.environment.accounts.nodes,
            "oauthScopes": SCOPES,
            "resourceLabels": self.labels(None),
            "workloadMetadataConfig": {"mode": "GKE_METADATA"},
            "shieldedInstanceConfig": {"enableSecureBoot": true, "enableIntegrityMonitoring": true},
            "spot": spot,
        });
        if let Some(key) = self.environment.security.kms_keys.get("disks") {
            config["bootDiskKmsKey"] = json!(key);
        }
        if spot {
            // Only what says that it can be interrupted runs there.
            config["taints"] = json!([{"key": "cloud.google.com/gke-spot", "value": "true", "effect": "NO_SCHEDULE"}]);
        }
        config
    }
}

/// The id of an environment's cluster.
pub(crate) fn cluster_id(environment: &Environment) -> Id {
    let Environment { project, cluster, .. } = environment;
    let location = environment.cluster_location();
    Id::new(Kind::Cluster, format!("projects/{project}/locations/{location}/clusters/{}", cluster.name))
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

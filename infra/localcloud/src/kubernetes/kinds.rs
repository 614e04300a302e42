//! The kinds of object the API server knows, with what discovery says about them.

use k8s_openapi::api::{apps, batch, core, networking, policy, rbac, scheduling};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// One kind of object.
#[derive(Debug)]
pub struct Kind {
    /// Place in [`KINDS`].
    pub index: usize,
    /// API group, "" for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// `kind` of an object.
    pub kind: &'static str,
    /// Name in paths.
    pub plural: &'static str,
    /// Name of one.
    pub singular: &'static str,
    /// Short names that kubectl takes.
    pub short: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Subresources, without `log`-like ones that are no objects of this kind.
    pub subresources: &'static [&'static str],
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Reads an object as its typed form and writes it again: wrong types are errors, unknown fields vanish.
    pub round_trip: fn(&Value) -> Result<Value, serde_json::Error>,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}

impl Eq for Kind {}

impl Kind {
    /// `group/version`, or `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `plural.group`, as messages name a resource; `plural` in the core group.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `Kind.group`, as messages about invalid objects name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// Whether the kind has this subresource.
    pub fn has(&self, subresource: &str) -> bool {
        self.subresources.contains(&subresource)
    }
}

fn round_trip<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(T::deserialize(value)?)
}

const fn kind<T: DeserializeOwned + Serialize>(
    index: usize,
    group: &'static str,
    names: [&'static str; 3],
    short: &'static [&'static str],
    namespaced: bool,
) -> Kind {
    Kind {
        index,
        group,
        version: "v1",
        kind: names[0],
        plural: names[1],
        singular: names[2],
        short,
        categories: &[],
        namespaced,
        subresources: &[],
        generation: false,
        round_trip: round_trip::<T>,
    }
}

const STATUS: &[&str] = &["status"];
const ALL: &[&str] = &["all"];
const RBAC: &str = "rbac.authorization.k8s.io";

/// Namespaces.
pub static NAMESPACE: Kind = Kind {
    subresources: STATUS,
    ..kind::<core::v1::Namespace>(0, "", ["Namespace", "namespaces", "namespace"], &["ns"], false)
};
/// Pods.
pub static POD: Kind = Kind {
    subresources: STATUS,
    categories: ALL,
    generation: true,
    ..kind::<core::v1::Pod>(1, "", ["Pod", "pods", "pod"], &["po"], true)
};
/// Services.
pub static SERVICE: Kind = Kind {
    subresources: STATUS,
    categories: ALL,
    ..kind::<core::v1::Service>(2, "", ["Service", "services", "service"], &["svc"], true)
};
/// ConfigMaps.
pub static CONFIG_MAP: Kind =
    kind::<core::v1::ConfigMap>(3, "", ["ConfigMap", "configmaps", "configmap"], &["cm"], true);
/// Secrets.
pub static SECRET: Kind = kind::<core::v1::Secret>(4, "", ["Secret", "secrets", "secret"], &[], true);
/// Service accounts.
pub static SERVICE_ACCOUNT: Kind =
    kind::<core::v1::ServiceAccount>(5, "", ["ServiceAccount", "serviceaccounts", "serviceaccount"], &["sa"], true);
/// Events of the core group; `events.k8s.io` shows the same objects.
pub static EVENT: Kind = kind::<core::v1::Event>(6, "", ["Event", "events", "event"], &["ev"], true);
/// Nodes.
pub static NODE: Kind =
    Kind { subresources: STATUS, ..kind::<core::v1::Node>(7, "", ["Node", "nodes", "node"], &["no"], false) };
/// Resource quotas.
pub static RESOURCE_QUOTA: Kind = Kind {
    subresources: STATUS,
    ..kind::<core::v1::ResourceQuota>(8, "", ["ResourceQuota", "resourcequotas", "resourcequota"], &["quota"], true)
};
/// Jobs.
pub static JOB: Kind = Kind {
    subresources: STATUS,
    categories: ALL,
    generation: true,
    ..kind::<batch::v1::Job>(9, "batch", ["Job", "jobs", "job"], &[], true)
};
/// Deployments.
pub static DEPLOYMENT: Kind = Kind {
    subresources: &["scale", "status"],
    categories: ALL,
    generation: true,
    ..kind::<apps::v1::Deployment>(10, "apps", ["Deployment", "deployments", "deployment"], &["deploy"], true)
};
/// Replica sets.
pub static REPLICA_SET: Kind = Kind {
    subresources: &["scale", "status"],
    categories: ALL,
    generation: true,
    ..kind::<apps::v1::ReplicaSet>(11, "apps", ["ReplicaSet", "replicasets", "replicaset"], &["rs"], true)
};
/// Roles.
pub static ROLE: Kind = kind::<rbac::v1::Role>(12, RBAC, ["Role", "roles", "role"], &[], true);
/// Role bindings.
pub static ROLE_BINDING: Kind =
    kind::<rbac::v1::RoleBinding>(13, RBAC, ["RoleBinding", "rolebindings", "rolebinding"], &[], true);
/// Cluster roles.
pub static CLUSTER_ROLE: Kind =
    kind::<rbac::v1::ClusterRole>(14, RBAC, ["ClusterRole", "clusterroles", "clusterrole"], &[], false);
/// Cluster role bindings.
pub static CLUSTER_ROLE_BINDING: Kind = kind::<rbac::v1::ClusterRoleBinding>(
    15,
    RBAC,
    ["ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding"],
    &[],
    false,
);
/// Network policies; kept, not enforced.
pub static NETWORK_POLICY: Kind = Kind {
    generation: true,
    ..kind::<networking::v1::NetworkPolicy>(
        16,
        "networking.k8s.io",
        ["NetworkPolicy", "networkpolicies", "networkpolicy"],
        &["netpol"],
        true,
    )
};
/// Pod disruption budgets; kept, not enforced.
pub static DISRUPTION_BUDGET: Kind = Kind {
    subresources: STATUS,
    generation: true,
    ..kind::<policy::v1::PodDisruptionBudget>(
        17,
        "policy",
        ["PodDisruptionBudget", "poddisruptionbudgets", "poddisruptionbudget"],
        &["pdb"],
        true,
    )
};
/// Priority classes.
pub static PRIORITY_CLASS: Kind = kind::<scheduling::v1::PriorityClass>(
    18,
    "scheduling.k8s.io",
    ["PriorityClass", "priorityclasses", "priorityclass"],
    &["pc"],
    false,
);
/// Every kind, each at its own index.
pub static KINDS: [&Kind; 19] = [
    &NAMESPACE,
    &POD,
    &SERVICE,
    &CONFIG_MAP,
    &SECRET,
    &SERVICE_ACCOUNT,
    &EVENT,
    &NODE,
    &RESOURCE_QUOTA,
    &JOB,
    &DEPLOYMENT,
    &REPLICA_SET,
    &ROLE,
    &ROLE_BINDING,
    &CLUSTER_ROLE,
    &CLUSTER_ROLE_BINDING,
    &NETWORK_POLICY,
    &DISRUPTION_BUDGET,
    &PRIORITY_CLASS,
];

/// The kind behind a path.
pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.plural == plural && kind.group == group && kind.version == version)
}

/// The kind that an object or an owner reference names.
pub fn by_kind(api_version: &str, name: &str) -> Option<&'static Kind> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    KINDS.iter().copied().find(|kind| kind.kind == name && kind.group == group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_at_its_index() {
        for (index, kind) in KINDS.iter().enumerate() {
            assert_eq!(kind.index, index, "{}", kind.kind);
        }
    }
}

//! What `provision` does, as permissions, and the roles that have them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    environment::{Environment, Manage, Managed},
    resource::Kind,
};

/// Permissions on the project, by who makes the class of resource and by the kinds that they are for.
type Needed = (fn(&Manage) -> Managed, &'static [Kind], &'static [&'static str]);

const PERMISSIONS: [Needed; 12] = [
    (|manage| manage.apis, &[Kind::Services], &["serviceusage.services.enable"]),
    (
        |manage| manage.cluster,
        &[Kind::Cluster, Kind::NodePool],
        &["container.clusters.create", "container.clusters.delete", "container.clusters.update"],
    ),
    (|manage| manage.bucket, &[Kind::Bucket], &["storage.buckets.create"]),
    (|manage| manage.pubsub, &[Kind::Topic], &["pubsub.topics.create"]),
    (|manage| manage.pubsub, &[Kind::Subscription], &["pubsub.subscriptions.create"]),
    (|manage| manage.iam, &[Kind::Role], &["iam.roles.create"]),
    (|manage| manage.iam, &[Kind::ServiceAccount], &["iam.serviceAccounts.create"]),
    (|manage| manage.iam, &[Kind::ServiceAccountPolicy], &["iam.serviceAccounts.setIamPolicy"]),
    (|manage| manage.iam, &[Kind::TopicPolicy, Kind::SubscriptionPolicy], &["pubsub.topics.setIamPolicy"]),
    (|manage| manage.iam, &[Kind::ProjectPolicy], &["resourcemanager.projects.setIamPolicy"]),
    (|manage| manage.iam, &[Kind::BucketPolicy], &["storage.buckets.setIamPolicy"]),
    (|manage| manage.registry, &[Kind::Registry], &["artifactregistry.repositories.create"]),
];

/// The role that has a permission, by how the permission begins; the first that fits.
const ROLES: [(&str, &str); 9] = [
    ("serviceusage.", "roles/serviceusage.serviceUsageAdmin"),
    ("container.", "roles/container.admin"),
    ("storage.", "roles/storage.admin"),
    ("pubsub.", "roles/pubsub.admin"),
    ("iam.roles.", "roles/iam.roleAdmin"),
    ("iam.serviceAccounts.", "roles/iam.serviceAccountAdmin"),
    ("resourcemanager.", "roles/resourcemanager.projectIamAdmin"),
    ("artifactregistry.", "roles/artifactregistry.admin"),
    ("", "roles/owner"),
];

/// Permissions on the project that changes of the kinds that are touched need.
pub(super) fn needed(environment: &Environment, touches: impl Fn(Kind) -> bool) -> Vec<&'static str> {
    PERMISSIONS
        .iter()
        .filter(|(managed, kinds, _)| {
            managed(&environment.manage) == Managed::Create && kinds.iter().any(|kind| touches(*kind))
        })
        .flat_map(|(_, _, permissions)| permissions.iter().copied())
        .collect()
}

/// Permissions on the bucket: for the lock, and for what is ours to set.
pub(super) fn on_bucket(environment: &Environment) -> Vec<&'static str> {
    let mut permissions = vec!["storage.objects.create", "storage.objects.delete", "storage.objects.get"];
    if environment.manage.bucket == Managed::Create {
        permissions.push("storage.buckets.update");
    }
    if environment.manage.iam == Managed::Create {
        permissions.push("storage.buckets.setIamPolicy");
    }
    permissions
}

/// Those of `permissions` that an answer to `testIamPermissions` does not have.
pub(super) fn missing<'a>(permissions: &[&'a str], answer: &Value) -> Vec<&'a str> {
    let held: BTreeSet<&str> =
        answer["permissions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    permissions.iter().copied().filter(|wanted| !held.contains(wanted)).collect()
}

/// The roles that have these permissions, each once.
pub(super) fn roles(permissions: &[&str]) -> BTreeSet<&'static str> {
    let role = |permission: &str| ROLES.iter().find(|(start, _)| permission.starts_with(start)).map(|(_, role)| *role);
    permissions.iter().filter_map(|permission| role(permission)).collect()
}

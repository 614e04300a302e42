//! What `provision` does, as permissions, and the roles that have them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Finding, Pending};
use crate::{
    environment::{Environment, Manage, Managed},
    google::{Api, Client, Method, Request, escape},
    resource::Kind,
};

/// What needs on their account; the role that makes accounts does not have it.
const ACT_AS: &str = "iam.serviceAccounts.actAs";

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
    permissions.iter().copied().filter(|desired| !held.contains(desired)).collect()
}

/// The roles that have these permissions, each once.
pub(super) fn roles(permissions: &[&str]) -> BTreeSet<&'static str> {
    let role = |permission: &str| ROLES.iter().find(|(start, _)| permission.starts_with(start)).map(|(_, role)| *role);
    permissions.iter().filter_map(|permission| role(permission)).collect()
}

/// Whether nodes may be made that run as their account. Where the account is not there yet, what counts is the project.
pub(super) async fn act_as_nodes(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Option<Finding> {
    let makes = environment.manage.cluster == Managed::Create;
    if !makes || !(pending.creates(Kind::Cluster) || pending.creates(Kind::NodePool)) {
        return None;
    }
    let what = "permissions: nodes";
    let email = environment.security.node_account.as_ref().unwrap_or(&environment.accounts.nodes);
    let home = email.split_once('@').and_then(|(_, domain)| domain.strip_suffix(".iam.gserviceaccount.com"));
    let account =
        format!("v1/projects/{}/serviceAccounts/{}", escape(home.unwrap_or(&environment.project)), escape(email));
    let test = |api, path: String| {
        let request = Request::new(api, Method::Post, format!("{path}:testIamPermissions"));
        request.body(json!({"permissions": [ACT_AS]}))
    };
    let answer = match client.send(&test(Api::Iam, account)).await {
        Err(error) if error.is_not_found() || error.may_not_exist() || error.is_service_disabled() => {
            let project = format!("v1/projects/{}", escape(&environment.project));
            client.send(&test(Api::CloudResourceManager, project)).await
        }
        answer => answer,
    };
    Some(match answer {
        Ok(answer) if missing(&[ACT_AS], &answer).is_empty() => Finding::good(what, format!("may run as {email}")),
        Ok(_) => Finding::bad(
            what,
            format!("missing {ACT_AS}, without which no cluster is made whose nodes run as {email}"),
            format!(
                "gcloud iam service-accounts add-iam-policy-binding {email} --member YOU --role \
                 roles/iam.serviceAccountUser; where it does not exist yet: gcloud projects add-iam-policy-binding {} \
                 --member YOU --role roles/iam.serviceAccountUser",
                environment.project
            ),
        ),
        Err(error) => Finding::bad(what, format!("cannot be checked: {error}"), "").optional(),
    })
}

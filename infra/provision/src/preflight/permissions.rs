//! What `provision` does, as permissions, and the roles that have them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    environment::{Environment, Managed},
    finding::{Finding, Pending},
    google::{Api, Client, Method, Request, escape},
    resource::Kind,
};

/// What needs on their account; the role that makes accounts does not have it.
const ACT_AS: &str = "iam.serviceAccounts.actAs";

/// Permissions on the project that the changes need.
pub(super) fn needed(environment: &Environment, pending: &Pending<'_>) -> Vec<&'static str> {
    let is_ours = |kind: &&Kind| (kind.rules().managed)(&environment.manage) == Managed::Create;
    let kinds = Kind::ALL.iter().filter(is_ours).filter(|kind| pending.touches(**kind));
    let permissions: BTreeSet<&str> = kinds.flat_map(|kind| kind.rules().permissions).copied().collect();
    permissions.into_iter().collect()
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
    let role = |permission: &&str| {
        let mut rules = Kind::ALL.iter().map(|kind| kind.rules());
        rules.find(|rules| rules.permissions.contains(permission)).map_or("roles/owner", |rules| rules.role)
    };
    permissions.iter().map(role).collect()
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

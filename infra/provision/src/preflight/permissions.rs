//! What `provision` does, as permissions, and the roles that have them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    calls,
    desired::desired,
    environment::{Environment, Managed},
    finding::{Finding, Pending},
    google::{Api, Client, Method, Request, escape},
    lock,
    resource::Kind,
};

/// What needs on their account; the role that makes accounts does not have it.
const ACT_AS: &str = "iam.serviceAccounts.actAs";

/// Permissions on the project that the changes need.
pub(super) fn needed(environment: &Environment, pending: &Pending<'_>) -> Vec<&'static str> {
    let mut permissions = needed_by(methods(environment, pending));
    if !pending.creates(Kind::Bucket) {
        // They may be granted on the bucket alone.
        let on_bucket = on_bucket(environment);
        permissions.retain(|permission| !on_bucket.contains(permission));
    }
    permissions.into_iter().collect()
}

/// The methods of the changes.
pub(super) fn methods(environment: &Environment, pending: &Pending<'_>) -> BTreeSet<&'static str> {
    // Without a plan, what the environment does not have is not created.
    let desired: BTreeSet<Kind> = desired(environment).iter().map(|resource| resource.id.kind).collect();
    let is_ours = |kind: &&Kind| {
        (kind.rules().managed)(&environment.manage) == Managed::Create && (pending.is_plan() || desired.contains(kind))
    };
    let methods = Kind::ALL.iter().filter(is_ours).flat_map(|kind| {
        let methods = &kind.rules().methods;
        let parts = [
            (pending.creates(*kind), methods.create),
            (pending.changes(*kind), methods.update),
            (pending.deletes(*kind), methods.delete),
        ];
        parts.into_iter().filter(|(is_pending, _)| *is_pending).flat_map(|(_, methods)| methods)
    });
    methods.copied().collect()
}

/// What these methods need on the project, where a refusal stops the plan.
fn needed_by(methods: impl IntoIterator<Item = &'static str>) -> BTreeSet<&'static str> {
    let needed = calls::of(methods).filter(|call| !call.optional);
    needed.flat_map(|call| &call.permissions).map(String::as_str).collect()
}

/// Permissions on the bucket: for the lock, and for what is ours to set.
pub(super) fn on_bucket(environment: &Environment) -> Vec<&'static str> {
    let kinds = [Kind::Bucket, Kind::BucketPolicy].map(Kind::rules);
    let ours = kinds.iter().filter(|rules| (rules.managed)(&environment.manage) == Managed::Create);
    needed_by(lock::METHODS.iter().chain(ours.flat_map(|rules| rules.methods.update)).copied()).into_iter().collect()
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
        rules
            .find(|rules| needed_by(rules.methods.all()).contains(permission))
            .map_or("roles/owner", |rules| rules.role)
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
            "act-as-denied",
            what,
            format!("missing {ACT_AS}, without which no cluster is made whose nodes run as {email}"),
            format!(
                "gcloud iam service-accounts add-iam-policy-binding {email} --member YOU --role \
                 roles/iam.serviceAccountUser; where it does not exist yet: gcloud projects add-iam-policy-binding {} \
                 --member YOU --role roles/iam.serviceAccountUser",
                environment.project
            ),
        ),
        Err(error) => Finding::unchecked(what, error),
    })
}

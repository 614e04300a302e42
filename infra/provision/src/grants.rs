//! Whether somebody has the roles or permissions that are needed on a resource: a role may be granted on it or on anything
//! that it is in.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    finding::Finding,
    google::{Api, Client, Error, Method, Request, escape},
    policy::{self, VERSION},
    resource::Grant,
};

/// The methods that find out which roles others have on something.
pub(crate) const METHODS: &[&str] = &[
    "cloudresourcemanager.projects.getAncestry",
    "cloudresourcemanager.projects.getIamPolicy",
    "cloudresourcemanager.folders.getIamPolicy",
    "cloudresourcemanager.organizations.getIamPolicy",
];

/// The grants of `needed` that no policy has: `own` are the reads of the policies of the resource and of what it is in
/// below its project. Also why that is uncertain, when one of the policies cannot be read.
pub(crate) async fn missing<'a>(
    client: &Client,
    own: Vec<Request>,
    project: &str,
    needed: &'a [Grant],
) -> (Vec<&'a Grant>, Option<String>) {
    let (above, unseen) = match above(client, project).await {
        Ok(above) => (above, None),
        Err(error) => (vec![project_policy(project)], Some(error.to_string())),
    };
    let reads: Vec<Request> = own.into_iter().chain(above).collect();
    let answers = join_all(reads.iter().map(|read| client.send(read))).await;
    let held: BTreeSet<Grant> = answers.iter().flatten().flat_map(policy::grants).collect();
    let refused = answers.iter().find_map(|answer| answer.as_ref().err()).map(Error::to_string);
    (needed.iter().filter(|grant| !held.contains(grant)).collect(), unseen.or(refused))
}

/// The finding for what is missing on a resource, with the commands that grant it. It stops a plan only when it is
/// certain.
pub(crate) fn finding(
    code: &'static str,
    what: &str,
    on: &str,
    missing: &[&Grant],
    unseen: Option<&str>,
    fix: &str,
) -> Finding {
    if missing.is_empty() {
        return Finding::good(what, format!("every role on {on} is granted"));
    }
    let roles: Vec<String> = missing.iter().map(|grant| grant.to_string()).collect();
    let roles = roles.join(", ");
    match unseen {
        None => Finding::bad(code, what, format!("these roles on {on} are missing: {roles}"), fix),
        Some(why) => {
            let seen = format!("whether these roles on {on} are granted cannot be seen: {roles} ({why})");
            Finding::warning(what, seen, format!("ask whoever looks after {on} for what is missing of this:\n  {fix}"))
        }
    }
}

/// Those of `permissions` that an answer to `testIamPermissions` does not have.
pub(crate) fn lacking<'a>(permissions: &[&'a str], answer: &Value) -> Vec<&'a str> {
    let held: BTreeSet<&str> =
        answer["permissions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    permissions.iter().copied().filter(|desired| !held.contains(desired)).collect()
}

/// Reads of the policies of a project, its folders and its organisation.
async fn above(client: &Client, project: &str) -> Result<Vec<Request>, Error> {
    let path = format!("v1/projects/{}:getAncestry", escape(project));
    let ancestry = client.send(&Request::new(Api::CloudResourceManager, Method::Post, path).body(json!({}))).await?;
    let read = |ancestor: &Value| {
        let id = &ancestor["resourceId"];
        let (kind, id) = (id["type"].as_str().unwrap_or_default(), id["id"].as_str().unwrap_or_default());
        match kind {
            "project" => project_policy(id),
            _ => policy_at(format!("v3/{kind}s/{}:getIamPolicy", escape(id))),
        }
    };
    Ok(ancestry["ancestor"].as_array().into_iter().flatten().map(read).collect())
}

fn project_policy(project: &str) -> Request {
    policy_at(format!("v1/projects/{}:getIamPolicy", escape(project)))
}

fn policy_at(path: String) -> Request {
    let body = json!({"options": {"requestedPolicyVersion": VERSION}});
    Request::new(Api::CloudResourceManager, Method::Post, path).body(body)
}

//! The REST services around identity, all on one port: their paths do not clash.

use std::sync::Arc;

use axum::{Router, body::Body, response::Response};
use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Identity, Target, policy::Policy, principal::Principal};
use crate::google::{
    call::Call,
    error::{Error, Result},
};

mod accounts;
mod credentials;
mod keys;
mod oauth;
mod projects;
mod roles;
mod services;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Server {
    /// Identities.
    pub identity: Arc<Identity>,
    /// Address of this very server, `http://…`, for the `token_uri` of keys.
    pub base: String,
    /// Refuse calls of APIs that are not enabled.
    pub enforce_apis: bool,
}

/// Routes of all of them. `base` is settled when the port is known, hence the cell.
pub fn router(server: Arc<std::sync::OnceLock<Server>>) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        let server = server.clone();
        async move {
            let Some(server) = server.get() else { return Error::internal("not started yet").to_rest() };
            let path = request.uri().path();
            let is_iam = path.contains("/serviceAccounts") || path.contains("/roles");
            let answer = server.answer(request).await;
            answer.unwrap_or_else(|error| if is_iam { error.to_iam() } else { error.to_rest() })
        }
    })
}

impl Server {
    async fn answer(&self, request: Request<Body>) -> Result<Response> {
        let call = Call::read(request).await?.with_verb();
        let path: Vec<String> = call.segments.clone();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if path == ["token"] {
            return Ok(self.trade(&call));
        }
        if path == ["v1", "token"] {
            return Ok(self.exchange(&call));
        }
        let caller = self.identity.caller(&call.headers)?;
        if caller == Principal::Anonymous {
            return Err(Error::unauthenticated());
        }
        let counted_in = call.headers.get("x-goog-user-project").and_then(|project| project.to_str().ok());
        if let Some(other) = counted_in.filter(|project| !self.identity.is_project(project)) {
            return Err(denied_quota_project(other));
        }
        // cloud.google.com/apis/docs/system-parameters: who names a project to count in may use services there.
        if counted_in.is_some() && !self.identity.allowed(&caller, "serviceusage.services.use", &self.project_target())
        {
            return Err(denied_quota_project(self.identity.project()));
        }
        match path.as_slice() {
            ["v1", "projects", _, "serviceAccounts", ..] if is_credentials(&call) => {
                self.need_api("iamcredentials.googleapis.com")?;
                self.credentials(&call, &caller, &path)
            }
            ["v1", "projects", _, "serviceAccounts", ..] => {
                self.need_api("iam.googleapis.com")?;
                self.accounts(&call, &caller, &path[2..]).await
            }
            ["v1", "projects", _, "roles", ..] | ["v1", "permissions"] => {
                self.need_api("iam.googleapis.com")?;
                self.roles(&call, &caller, &path)
            }
            ["v1" | "v1beta1", "projects", _, "services", ..] | ["v1", "operations", ..] => {
                self.services(&call, &caller, &path)
            }
            ["v2", "projects", project, "policies", constraint] if self.identity.is_project(project) => {
                need_quota_project("orgpolicy.googleapis.com", &caller, counted_in)?;
                self.need_api("orgpolicy.googleapis.com")?;
                self.constraint(&call, &caller, constraint)
            }
            ["v1", "projects", project, "billingInfo"] if self.identity.is_project(project) => {
                need_quota_project("cloudbilling.googleapis.com", &caller, counted_in)?;
                self.need_api("cloudbilling.googleapis.com")?;
                self.billing(&call, &caller)
            }
            ["compute", "v1", "projects", project, rest @ ..] => {
                self.need_api("compute.googleapis.com")?;
                self.compute(&call, &caller, project, rest)
            }
            ["v1", "projects", _, "locations", _, "keyRings", ..] => {
                self.need_api("cloudkms.googleapis.com")?;
                self.kms(&call, &caller, &path)
            }
            ["v1", "projects", ..] => {
                self.need_api("cloudresourcemanager.googleapis.com")?;
                self.projects(&call, &caller, &path)
            }
            _ => Err(no_route(&call)),
        }
    }

    fn need_api(&self, name: &str) -> Result<()> {
        if self.enforce_apis { self.identity.need_service(name) } else { Ok(()) }
    }

    /// Refuses a caller without the permission, in IAM's words.
    fn need(&self, caller: &Principal, permission: &str, target: &Target, resource: &str) -> Result<()> {
        if self.identity.allowed(caller, permission, target) {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "Permission '{permission}' denied on resource '//iam.googleapis.com/{resource}' (or it may not exist)."
        ))
        .without_permission("iam.googleapis.com", permission, resource))
    }

    fn project_target(&self) -> Target {
        Target::project(self.identity.project())
    }
}

/// Body of `setIamPolicy`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetPolicy {
    /// The policy.
    pub policy: Policy,
}

/// Body of `testIamPermissions`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct TestPermissions {
    /// Permissions asked for.
    pub permissions: Vec<String>,
}

/// Version asked for by `getIamPolicy`, in the query or in the body.
///
/// # Errors
/// 400 when it is not a number.
pub fn requested_version(call: &Call) -> Result<i32> {
    let in_query = call.number("options.requestedPolicyVersion")?;
    let in_body = || {
        let body: Value = serde_json::from_slice(&call.body).ok()?;
        body.pointer("/options/requestedPolicyVersion")?.as_i64()
    };
    Ok(in_query.or_else(in_body).and_then(|version| i32::try_from(version).ok()).unwrap_or(1))
}

/// A policy as JSON.
///
/// # Errors
/// Never in practice.
pub fn policy_json(policy: &Policy) -> Result<Value> {
    serde_json::to_value(policy).map_err(|error| Error::internal(error.to_string()))
}

/// Answer of `testIamPermissions`.
pub fn permissions_json(permissions: &[String]) -> Value {
    if permissions.is_empty() { json!({}) } else { json!({ "permissions": permissions }) }
}

/// 404 for a path nobody serves.
pub fn no_route(call: &Call) -> Error {
    Error::not_found(format!(
        "The laptop cloud does not serve {} /{}{}.",
        call.method,
        call.segments.join("/"),
        call.verb.as_ref().map(|verb| format!(":{verb}")).unwrap_or_default()
    ))
}

fn denied_quota_project(project: &str) -> Error {
    let consumer = vec![("consumer".to_owned(), format!("projects/{project}"))];
    Error::forbidden(format!(
        "Caller does not have required permission to use project {project}. Grant the caller the \
         roles/serviceusage.serviceUsageConsumer role, or a custom role with the serviceusage.services.use permission."
    ))
    .with_info("USER_PROJECT_DENIED", "googleapis.com", consumer)
}

/// Refuses a user's call without a quota project: these APIs do not count a call in the project that it is about
/// (golang/oauth2 #702).
fn need_quota_project(api: &str, caller: &Principal, counted_in: Option<&str>) -> Result<()> {
    if counted_in.is_some() || !matches!(caller, Principal::User { .. }) {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "Your application is authenticating by using local Application Default Credentials. The {api} API requires a \
         quota project, which is not set by default."
    ))
    .with_info(
        "SERVICE_DISABLED",
        "googleapis.com",
        vec![("service".to_owned(), api.to_owned()), ("consumer".to_owned(), "projects/764086051850".to_owned())],
    ))
}

fn is_credentials(call: &Call) -> bool {
    matches!(call.verb.as_deref(), Some("generateAccessToken" | "generateIdToken"))
}

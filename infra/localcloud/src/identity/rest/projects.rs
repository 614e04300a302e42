//! Resource Manager v1: the project and its policy; who pays for it, and what it may have.

use axum::response::Response;
use http::Method;
use serde_json::{Value, json};

use super::{Server, SetPolicy, TestPermissions, no_route, permissions_json, policy_json, requested_version};
use crate::{
    container::shape,
    google::{
        call::{Call, ok, time_text},
        error::{Error, Result},
    },
    identity::{Target, policy::Stale, principal::Principal, project_policy},
};

impl Server {
    pub(super) fn projects(&self, call: &Call, caller: &Principal, path: &[&str]) -> Result<Response> {
        let [_, _, name] = path else {
            return Err(no_route(call));
        };
        let permission = match (&call.method, call.verb.as_deref()) {
            (&Method::GET, None) => Some("get"),
            (&Method::POST, Some("testIamPermissions")) => None,
            (&Method::POST, Some("getAncestry")) => Some("get"),
            (&Method::POST, Some(verb @ ("getIamPolicy" | "setIamPolicy"))) => Some(verb),
            _ => return Err(no_route(call)),
        };
        let denied = || Error::forbidden("The caller does not have permission");
        let (target, policy) = match self.identity.is_project(name) {
            true => (self.project_target(), project_policy(self.identity.project())),
            false if self.identity.neighbour(name).is_none() => return Err(denied()),
            false => (Target::project(name).within(name), project_policy(name)),
        };
        if let Some(permission) = permission
            && !self.identity.allowed(caller, &format!("resourcemanager.projects.{permission}"), &target)
        {
            return Err(denied());
        }
        match call.verb.as_deref() {
            None => Ok(ok(&self.project_json())),
            // No project is in a folder or an organisation.
            Some("getAncestry") => {
                Ok(ok(&json!({ "ancestor": [{ "resourceId": { "type": "project", "id": name } }] })))
            }
            Some("getIamPolicy") => Ok(ok(&policy_json(&self.identity.policy(&policy, requested_version(call)?))?)),
            Some("setIamPolicy") => {
                let desired: SetPolicy = call.json()?;
                let has_owner = desired.policy.bindings.iter().any(|binding| {
                    binding.role == "roles/owner" && binding.members.iter().any(|member| member.starts_with("user:"))
                });
                if !has_owner {
                    return Err(Error::invalid(
                        "Project must have at least one owner who has accepted the Terms of Service.",
                    ));
                }
                Ok(ok(&policy_json(&self.identity.set_policy(&policy, desired.policy, Stale::Aborted)?)?))
            }
            Some(_) => {
                let desired: TestPermissions = call.json()?;
                Ok(ok(&permissions_json(&self.identity.testable(caller, &desired.permissions, &target))))
            }
        }
    }

    /// Organization Policy v2: a boolean constraint as it is in effect.
    pub(super) fn constraint(&self, call: &Call, caller: &Principal, constraint: &str) -> Result<Response> {
        if (&call.method, call.verb.as_deref()) != (&Method::GET, Some("getEffectivePolicy")) {
            return Err(no_route(call));
        }
        if !self.identity.allowed(caller, "orgpolicy.policy.get", &self.project_target()) {
            return Err(Error::forbidden("The caller does not have permission"));
        }
        let rules = match self.identity.allowed_values(constraint) {
            Some(values) => json!([{ "values": { "allowedValues": values } }]),
            None => json!([{ "enforce": self.identity.enforces(constraint) }]),
        };
        let name = format!("projects/{}/policies/{constraint}", self.identity.number());
        Ok(ok(&json!({ "name": name, "spec": { "rules": rules } })))
    }

    /// Cloud Billing v1: the account that pays.
    pub(super) fn billing(&self, call: &Call, caller: &Principal) -> Result<Response> {
        if (&call.method, call.verb.as_deref()) != (&Method::GET, None) {
            return Err(no_route(call));
        }
        if !self.identity.allowed(caller, "resourcemanager.projects.get", &self.project_target()) {
            return Err(Error::forbidden("The caller does not have permission"));
        }
        let (project, paid) = (self.identity.project(), !self.identity.is_unbilled());
        let account = if paid { "billingAccounts/000000-000000-000000" } else { "" };
        let name = format!("projects/{project}/billingInfo");
        Ok(ok(&json!({
            "name": name, "projectId": project, "billingAccountName": account, "billingEnabled": paid,
        })))
    }

    /// Compute Engine v1: the project or a region with its quotas, none of which is used; the host of its Shared VPC; a
    /// network; a subnetwork, each with a way to Google's APIs, and its policy. `path` is what follows the project.
    pub(super) fn compute(&self, call: &Call, caller: &Principal, project: &str, path: &[&str]) -> Result<Response> {
        let neighbour = self.identity.neighbour(project);
        let (collection, answer) = match path {
            [] => ("projects", json!({ "kind": "compute#project", "name": self.identity.project() })),
            ["getXpnHost"] => {
                let host = self.identity.host().map(|host| json!({ "kind": "compute#project", "name": host.project }));
                ("projects", host.unwrap_or_else(|| json!({})))
            }
            ["regions", _, "subnetworks", _, "getIamPolicy"] => ("subnetworks", json!({})),
            ["regions", _, "subnetworks", name] if neighbour.is_some() => {
                let ranges = neighbour.iter().flat_map(|neighbour| &neighbour.ranges);
                let ranges: Vec<Value> = ranges.map(|name| json!({ "rangeName": name })).collect();
                ("subnetworks", json!({ "kind": "compute#subnetwork", "name": name, "secondaryIpRanges": ranges }))
            }
            ["regions", name] => {
                let zone =
                    |letter| format!("https://www.googleapis.com/compute/v1/projects/{project}/zones/{name}-{letter}");
                let zones: Vec<String> = shape::zones(name).iter().map(zone).collect();
                ("regions", json!({ "kind": "compute#region", "name": name, "status": "UP", "zones": zones }))
            }
            ["regions", _, "subnetworks", name] => {
                ("subnetworks", json!({ "kind": "compute#subnetwork", "name": name, "privateIpGoogleAccess": true }))
            }
            ["global", "networks", name] => ("networks", json!({ "kind": "compute#network", "name": name })),
            _ => return Err(no_route(call)),
        };
        if (&call.method, call.verb.as_deref()) != (&Method::GET, None) {
            return Err(no_route(call));
        }
        let verb = if path.last() == Some(&"getIamPolicy") { "getIamPolicy" } else { "get" };
        let permission = format!("compute.{collection}.{verb}");
        let home = if self.identity.is_project(project) { self.identity.project() } else { project };
        if !self.identity.allowed(caller, &permission, &Target::project(home).within(home)) {
            return Err(Error::forbidden(format!("Required '{permission}' permission")));
        }
        let resource = format!("projects/{home}/{}", path.join("/"));
        if verb == "getIamPolicy" {
            let name = resource.trim_end_matches("/getIamPolicy");
            return Ok(ok(&policy_json(&self.identity.policy(name, 3))?));
        }
        let exists = match (path, neighbour) {
            (["global", "networks", name], None) => self.identity.has_network(name),
            (["global", "networks", name], Some(neighbour)) => neighbour.network == *name,
            (["regions", _, "subnetworks", _], Some(neighbour)) => neighbour.subnetwork == path.join("/"),
            _ => true,
        };
        if !exists {
            return Err(Error::not_found(format!("The resource '{resource}' was not found")));
        }
        let mut answer = answer;
        if matches!(collection, "projects" | "regions") {
            let is_of = |metric: &str| (metric == "CPUS_ALL_REGIONS") == (collection == "projects");
            let quotas = self.identity.quotas().into_iter().filter(|(metric, _)| is_of(metric));
            answer["quotas"] = quotas
                .map(|(metric, limit)| json!({ "metric": metric, "limit": f64::from(limit), "usage": 0.0 }))
                .collect();
        }
        Ok(ok(&answer))
    }

    fn project_json(&self) -> Value {
        let created = time_text(self.identity.read().created);
        let (project, number) = (self.identity.project(), self.identity.number());
        json!({
            "projectNumber": number.to_string(),
            "projectId": project,
            "lifecycleState": "ACTIVE",
            "name": project,
            "createTime": created,
        })
    }
}

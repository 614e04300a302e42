//! IAM v1: custom roles.

use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Server, no_route};
use crate::{
    google::{
        call::{Call, ok},
        error::Result,
        page,
    },
    identity::{principal::Principal, roles::Role},
};

/// Most roles on a page.
const PAGE_MAX: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Create {
    role_id: String,
    role: Body,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    title: String,
    description: String,
    included_permissions: Vec<String>,
    stage: String,
    etag: String,
}

impl Server {
    pub(super) fn roles(&self, call: &Call, caller: &Principal, path: &[&str]) -> Result<Response> {
        match (&call.method, path, call.verb.as_deref()) {
            // gcloud asks which permissions a custom role may hold before it creates one.
            (&Method::POST, ["v1", "permissions"], Some("queryTestablePermissions")) => Ok(ok(&json!({}))),
            (method, ["v1", "projects", project, "roles", rest @ ..], verb) if self.identity.is_project(project) => {
                self.custom_roles(call, caller, method, rest, verb)
            }
            _ => Err(no_route(call)),
        }
    }

    fn custom_roles(
        &self,
        call: &Call,
        caller: &Principal,
        method: &Method,
        rest: &[&str],
        verb: Option<&str>,
    ) -> Result<Response> {
        let permission = match (method, rest, verb) {
            (&Method::POST, [], None) => "create",
            (&Method::GET, [], None) => "list",
            (&Method::GET, [_], None) => "get",
            (&Method::PATCH, [_], None) => "update",
            (&Method::DELETE, [_], None) => "delete",
            (&Method::POST, [_], Some("undelete")) => "undelete",
            _ => return Err(no_route(call)),
        };
        let id = rest.first().copied().unwrap_or_default();
        let resource = format!("projects/{}/roles/{id}", self.identity.project());
        self.need(caller, &format!("iam.roles.{permission}"), &self.project_target(), resource.trim_end_matches('/'))?;
        let now = self.identity.clock.now();
        match permission {
            "create" => {
                let desired: Create = call.json()?;
                let role = Role {
                    title: desired.role.title,
                    description: desired.role.description,
                    permissions: desired.role.included_permissions,
                    stage: desired.role.stage,
                    ..Role::default()
                };
                let role = self.identity.write().roles.create(&desired.role_id, role, now)?;
                Ok(ok(&self.role_json(&desired.role_id, &role, true)))
            }
            "list" => {
                let deleted = call.flag("showDeleted");
                let full = call.query("view") == Some("FULL");
                let state = self.identity.read();
                let roles = state
                    .roles
                    .list()
                    .filter(|(_, role)| deleted || role.deleted.is_none())
                    .map(|(id, role)| (id.clone(), self.role_json(id, role, full)));
                let (roles, next) = page::page(roles, &call.page()?, PAGE_MAX)?;
                Ok(ok(&page::answer("roles", roles, next)))
            }
            "get" => Ok(ok(&self.role_json(id, self.identity.read().roles.get(id)?, true))),
            "update" => {
                let desired: Body = call.json()?;
                let mask = call.query("updateMask").unwrap_or("title,description,includedPermissions,stage").to_owned();
                let has = |name: &str, snake: &str| mask.split(',').any(|field| field == name || field == snake);
                let etag = desired.etag.clone();
                let role = self.identity.write().roles.change(id, Some(&etag), |role| {
                    if has("title", "title") {
                        role.title = desired.title;
                    }
                    if has("description", "description") {
                        role.description = desired.description;
                    }
                    if has("includedPermissions", "included_permissions") {
                        role.permissions = desired.included_permissions;
                    }
                    if has("stage", "stage") {
                        role.stage = desired.stage;
                    }
                })?;
                Ok(ok(&self.role_json(id, &role, true)))
            }
            "delete" => {
                let role = self.identity.write().roles.delete(id, call.query("etag"), now)?;
                Ok(ok(&self.role_json(id, &role, true)))
            }
            _ => {
                let desired: Body = call.json()?;
                let role = self.identity.write().roles.undelete(id, Some(&desired.etag), now)?;
                Ok(ok(&self.role_json(id, &role, true)))
            }
        }
    }

    fn role_json(&self, id: &str, role: &Role, full: bool) -> Value {
        let mut value = json!({
            "name": format!("projects/{}/roles/{id}", self.identity.project()),
            "etag": role.etag(),
        });
        let mut put = |name: &str, text: &str| {
            if !text.is_empty() {
                value[name] = json!(text);
            }
        };
        put("title", &role.title);
        put("description", &role.description);
        put("stage", &role.stage);
        if full && !role.permissions.is_empty() {
            value["includedPermissions"] = json!(role.permissions);
        }
        if role.deleted.is_some() {
            value["deleted"] = json!(true);
        }
        value
    }
}

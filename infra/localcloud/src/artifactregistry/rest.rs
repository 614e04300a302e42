//! The REST API of Artifact Registry, v1 and v1beta2.

use std::sync::Arc;

use axum::{Router, body::Body, response::Response};
use http::Request;
use serde_json::{Map, Value, json};

use super::{Registry, target};
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
        page,
    },
    identity::{
        policy::Stale,
        principal::Principal,
        rest::{SetPolicy, TestPermissions, no_route, permissions_json, policy_json, requested_version},
    },
};

/// Most repositories on a page.
const PAGE_MAX: usize = 1000;

/// Routes of the service; `location` is the one that there is.
pub fn router(registry: Arc<Registry>, location: &str) -> Router {
    let location = Arc::new(location.to_owned());
    Router::new().fallback(move |request: Request<Body>| {
        let (registry, location) = (registry.clone(), location.clone());
        async move { registry.answer(request, &location).await.unwrap_or_else(|error| error.to_rest()) }
    })
}

impl Registry {
    async fn answer(&self, request: Request<Body>, here: &str) -> Result<Response> {
        let call = Call::read(request).await?.with_verb();
        let caller = self.identity.caller(&call.headers)?;
        if caller == Principal::Anonymous {
            return Err(Error::unauthenticated());
        }
        if self.enforce_apis {
            self.identity.need_service("artifactregistry.googleapis.com")?;
        }
        let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let ["v1" | "v1beta2", "projects", project, rest @ ..] = path.as_slice() else { return Err(no_route(&call)) };
        if !self.identity.is_project(project) {
            return Err(Error::forbidden(format!("Permission denied on resource project {project}.")));
        }
        let name = format!("projects/{}/{}", self.identity.project(), rest.join("/"));
        self.route(&call, &caller, rest, &name, here).map(|answer| ok(&answer))
    }

    fn route(&self, call: &Call, caller: &Principal, rest: &[&str], name: &str, here: &str) -> Result<Value> {
        let need = |permission: &str| {
            self.need(caller, &format!("artifactregistry.{permission}"), name.trim_end_matches("/repositories"))
        };
        match (call.method.as_str(), rest, call.verb.as_deref()) {
            ("GET", ["locations"], None) => {
                need("locations.list")?;
                let name = format!("projects/{}/locations/{here}", self.identity.project());
                Ok(json!({ "locations": [{ "name": name, "locationId": here, "displayName": here }] }))
            }
            ("GET", ["locations", _, "operations", _], None) => {
                need("repositories.list")?;
                self.operation(name)
            }
            ("GET", ["locations", _, "repositories"], None) => {
                need("repositories.list")?;
                let found = self.list(name.trim_end_matches("/repositories"));
                let (found, next) = page::page(found.into_iter(), &call.page()?, PAGE_MAX)?;
                Ok(page::answer("repositories", found, next))
            }
            ("POST", ["locations", _, "repositories"], None) => {
                need("repositories.create")?;
                let id = call.query("repositoryId").or(call.query("repository_id")).unwrap_or_default();
                self.create(name.trim_end_matches("/repositories"), id, call.json()?)
            }
            ("GET", ["locations", _, "repositories", _, "dockerImages"], None) => {
                let repository = name.trim_end_matches("/dockerImages");
                self.need(caller, "artifactregistry.dockerimages.list", repository)?;
                let (found, next) = page::page(self.images(repository)?.into_iter(), &call.page()?, PAGE_MAX)?;
                Ok(page::answer("dockerImages", found, next))
            }
            (_, ["locations", _, "repositories", _], _) => self.repository(call, caller, name),
            _ => Err(no_route(call)),
        }
    }

    fn repository(&self, call: &Call, caller: &Principal, name: &str) -> Result<Value> {
        let need = |verb: &str| self.need(caller, &format!("artifactregistry.repositories.{verb}"), name);
        match (call.method.as_str(), call.verb.as_deref()) {
            ("GET", None) => {
                need("get")?;
                self.get(name)
            }
            ("PATCH", None) => {
                need("update")?;
                let desired: Map<String, Value> = call.json()?;
                self.update(name, &desired, call.query("updateMask").unwrap_or_default())
            }
            ("DELETE", None) => {
                need("delete")?;
                self.delete(name)
            }
            (_, Some("getIamPolicy")) => {
                need("getIamPolicy")?;
                self.get(name)?;
                policy_json(&self.identity.policy(name, requested_version(call)?))
            }
            ("POST", Some("setIamPolicy")) => {
                need("setIamPolicy")?;
                self.get(name)?;
                let desired: SetPolicy = call.json()?;
                policy_json(&self.identity.set_policy(name, desired.policy, Stale::Aborted)?)
            }
            ("POST", Some("testIamPermissions")) => {
                let desired: TestPermissions = call.json()?;
                Ok(permissions_json(&self.identity.testable(caller, &desired.permissions, &target(name))))
            }
            _ => Err(no_route(call)),
        }
    }
}

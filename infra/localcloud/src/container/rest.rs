//! The REST API, v1 and as much of v1beta1.

use std::sync::Arc;

use axum::{Router, body::Body, response::Response};
use http::Request;
use serde_json::{Value, json};

use super::Container;
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
    },
    identity::{principal::Principal, rest::no_route},
};

/// Routes of the service.
pub fn router(container: Arc<Container>) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        let container = container.clone();
        async move { container.answer(request).await.unwrap_or_else(|error| error.to_iam()) }
    })
}

impl Container {
    async fn answer(&self, request: Request<Body>) -> Result<Response> {
        let call = Call::read(request).await?.with_verb();
        let caller = self.identity.caller(&call.headers)?;
        if caller == Principal::Anonymous {
            return Err(Error::unauthenticated());
        }
        if self.enforce_apis {
            self.identity.need_service("container.googleapis.com")?;
        }
        let base = format!("http://{}", call.header("host").unwrap_or("container.googleapis.com"));
        let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let ["v1" | "v1beta1", "projects", project, "locations", location, rest @ ..] = path.as_slice() else {
            return Err(no_route(&call));
        };
        if !self.identity.is_project(project) {
            return Err(Error::forbidden(format!(
                "Required \"container.clusters.list\" permission(s) for \"projects/{project}\"."
            )));
        }
        self.route(&call, &caller, location, rest, &base).map(|answer| ok(&answer))
    }

    fn route(&self, call: &Call, caller: &Principal, location: &str, rest: &[&str], base: &str) -> Result<Value> {
        match (call.method.as_str(), rest, call.verb.as_deref()) {
            ("GET", ["clusters"], None) => self.list_clusters(caller, location, base),
            ("POST", ["clusters"], None) => self.create_cluster(call, caller, location, base),
            ("GET", ["clusters", name], None) => self.get_cluster(caller, location, name, base),
            ("PUT", ["clusters", name], None) => self.update_cluster(call, caller, location, name, base),
            ("DELETE", ["clusters", name], None) => self.delete_cluster(caller, location, name, base),
            ("POST", ["clusters", name], Some("setResourceLabels")) => {
                self.set_labels(call, caller, location, name, base)
            }
            (_, ["clusters", name, "nodePools", pools @ ..], _) => {
                self.pools(call, caller, (location, name), pools, base)
            }
            ("GET", ["operations"], None) => self.list_operations(caller, location, base),
            ("GET", ["operations", name], None) => self.get_operation(caller, location, name, base),
            _ => Err(no_route(call)),
        }
    }

    fn list_operations(&self, caller: &Principal, location: &str, base: &str) -> Result<Value> {
        self.need(caller, "container.operations.list", location, "")?;
        let state = self.current();
        let now = self.identity.clock.now();
        let operations: Vec<Value> = state
            .operations
            .values()
            .filter(|operation| location == "-" || operation.location == location)
            .map(|operation| operation.show(base, self.identity.number(), now))
            .collect();
        Ok(if operations.is_empty() { json!({}) } else { json!({ "operations": operations }) })
    }

    fn get_operation(&self, caller: &Principal, location: &str, name: &str, base: &str) -> Result<Value> {
        self.need(caller, "container.operations.get", location, "")?;
        let state = self.current();
        let operation = state.operations.get(&super::clusters::key(location, name)).ok_or_else(|| {
            let project = self.identity.project();
            Error::not_found(format!("Not found: projects/{project}/locations/{location}/operations/{name}."))
        })?;
        Ok(operation.show(base, self.identity.number(), self.identity.clock.now()))
    }
}

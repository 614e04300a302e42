//! The REST API of Cloud Build, v1.

use std::sync::Arc;

use axum::{Router, body::Body, response::Response};
use http::Request;
use serde_json::{Value, json};

use super::CloudBuild;
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
        page,
    },
    identity::{Target, principal::Principal, rest::no_route},
};

/// Most builds on a page.
const PAGE_MAX: usize = 100;

/// Routes of the service.
pub fn router(builds: Arc<CloudBuild>) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        let builds = builds.clone();
        async move { answer(&builds, request).await.unwrap_or_else(|error| error.to_rest()) }
    })
}

pub(super) async fn answer(builds: &Arc<CloudBuild>, request: Request<Body>) -> Result<Response> {
    let call = Call::read(request).await?.with_verb();
    let identity = &builds.identity;
    let caller = identity.caller(&call.headers)?;
    if caller == Principal::Anonymous {
        return Err(Error::unauthenticated());
    }
    if builds.enforce_apis {
        identity.need_service("cloudbuild.googleapis.com")?;
    }
    let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let ["v1", "projects", project, rest @ ..] = path.as_slice() else { return Err(no_route(&call)) };
    let (location, rest) = match rest {
        ["locations", location, rest @ ..] => (*location, rest),
        rest => ("global", rest),
    };
    let permission = match (call.method.as_str(), rest, call.verb.as_deref()) {
        ("GET", ["builds"], None) => "cloudbuild.builds.list",
        ("GET", ["builds", _], None) => "cloudbuild.builds.get",
        ("POST", ["builds"], None) => "cloudbuild.builds.create",
        ("POST", ["builds", _], Some("cancel")) => "cloudbuild.builds.update",
        _ => return Err(no_route(&call)),
    };
    if !identity.is_project(project) || !identity.allowed(&caller, permission, &Target::project(identity.project())) {
        return Err(Error::forbidden("The caller does not have permission"));
    }
    match (rest, call.verb.as_deref()) {
        (["builds", id], None) => builds.get(id).map(|build| ok(&build)),
        (["builds", id], Some(_)) => builds.cancel(id).map(|build| ok(&build)),
        _ if permission.ends_with("list") => {
            let found = builds.list(location, call.query("filter").unwrap_or_default());
            let (found, next) = page::page(found.into_iter(), &call.page()?, PAGE_MAX)?;
            Ok(ok(&page::answer("builds", found, next)))
        }
        _ => {
            let build = builds.create(&caller, location, &call.json()?)?;
            tokio::spawn(builds.clone().work(build["id"].as_str().unwrap_or_default().to_owned()));
            Ok(ok(&operation(&build)))
        }
    }
}

/// The operation that an order is answered with.
fn operation(build: &Value) -> Value {
    let name = build["name"].as_str().unwrap_or_default().replace("/builds/", "/operations/");
    let metadata = json!({
        "@type": "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata",
        "build": build,
    });
    json!({ "name": name, "metadata": metadata })
}

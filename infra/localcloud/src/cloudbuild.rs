//! Cloud Build, as far as a laptop has it: it has no builds, and says how images are made there.

use std::sync::Arc;

use axum::{Router, body::Body, response::Response};
use http::Request;
use serde_json::json;

use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
    },
    identity::{Identity, Target, principal::Principal, rest::no_route},
};

/// Routes of the service.
pub fn router(identity: Arc<Identity>, enforce_apis: bool) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        let identity = identity.clone();
        async move { answer(&identity, enforce_apis, request).await.unwrap_or_else(|error| error.to_rest()) }
    })
}

async fn answer(identity: &Identity, enforce_apis: bool, request: Request<Body>) -> Result<Response> {
    let call = Call::read(request).await?.with_verb();
    let caller = identity.caller(&call.headers)?;
    if caller == Principal::Anonymous {
        return Err(Error::unauthenticated());
    }
    if enforce_apis {
        identity.need_service("cloudbuild.googleapis.com")?;
    }
    let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let ["v1", "projects", project, rest @ ..] = path.as_slice() else { return Err(no_route(&call)) };
    let rest = if let ["locations", _, rest @ ..] = rest { rest } else { rest };
    let permission = match (call.method.as_str(), rest) {
        ("GET", ["builds"]) => "cloudbuild.builds.list",
        ("GET", ["builds", _]) => "cloudbuild.builds.get",
        ("POST", ["builds"]) => "cloudbuild.builds.create",
        _ => return Err(no_route(&call)),
    };
    let ours = *project == identity.project() || *project == identity.number().to_string();
    if !ours || !identity.allowed(&caller, permission, &Target::project(identity.project())) {
        return Err(Error::forbidden("The caller does not have permission"));
    }
    match rest {
        ["builds", id] => Err(Error::not_found(format!("Requested entity was not found: build {id}."))),
        _ if permission.ends_with("list") => Ok(ok(&json!({}))),
        _ => Err(Error::new(
            tonic::Code::Unimplemented,
            "The laptop cloud builds no images: `cargo xtask deploy` registers programs built on this machine instead.",
        )
        .with_info("NOT_ON_A_LAPTOP", "cloudbuild.googleapis.com", Vec::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, identity::Settings};

    #[tokio::test]
    async fn lists_none_and_refuses_to_build() {
        let identity = Identity::new(Settings {
            clock: Clock::default(),
            project: "p".to_owned(),
            number: 1,
            operator: "o@example.com".to_owned(),
            allow_anonymous: true,
            strict_token_expiry: false,
            lags: Default::default(),
            unbilled: false,
            processors: 1,
            constraints: Default::default(),
        });
        let ask = async |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            answer(&identity, false, request).await.map_err(|error| error.http().as_u16())
        };
        assert!(ask("GET", "/v1/projects/p/locations/global/builds").await.is_ok());
        assert_eq!(ask("GET", "/v1/projects/p/builds/x").await.unwrap_err(), 404);
        assert_eq!(ask("POST", "/v1/projects/p/locations/europe-west1/builds").await.unwrap_err(), 501);
        assert_eq!(ask("GET", "/v1/projects/other/builds").await.unwrap_err(), 403);
    }
}

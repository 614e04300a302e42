//! The API server over HTTP: who asks, what for, and how the answer is written.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::{
    call::{Call, json, read_body},
    cluster::Cluster,
    discovery::{self, VERSION},
    failure::{Answer, Failure},
    port_forward,
    rbac::{self, Access},
    request::{self, Query, Route},
    resource, reviews, signer,
    users::User,
};

/// Largest body that is read, in bytes.
const BODY: usize = 3 * 1024 * 1024;

/// The routes of the API server.
pub fn router(cluster: Arc<Cluster>) -> Router {
    Router::new().fallback(handle).with_state(cluster)
}

async fn handle(State(cluster): State<Arc<Cluster>>, request: Request) -> Response {
    answer(cluster, request).await.unwrap_or_else(|failure| failure.into_response())
}

async fn answer(cluster: Arc<Cluster>, mut request: Request) -> Answer<Response> {
    let route = request::route(request.uri().path());
    match route {
        Ok(Route::Health) => return Ok("ok".into_response()),
        Ok(Route::Version) => return Ok(json(StatusCode::OK, &version())),
        _ => {}
    }
    let user = authenticate(&cluster, request.headers()).ok_or_else(Failure::unauthorized)?;
    let upgrade = port_forward::is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY)
        .collect()
        .await
        .map_err(|_| Failure::new(413, "RequestEntityTooLarge", format!("limit is {BODY}")))?
        .to_bytes();
    let query = Query::parse(parts.uri.query());
    let call = Call { user, method: parts.method, query, headers: parts.headers, body };
    match route? {
        Route::Health | Route::Version => Err(Failure::no_such_path()),
        Route::Discovery(segments) => {
            let mut response = json(StatusCode::OK, &discovery::answer(&segments)?);
            if segments.len() == 1 {
                let shape = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(shape));
            }
            Ok(response)
        }
        Route::OpenApi(segments) => Ok(json(StatusCode::OK, &discovery::openapi(&segments)?)),
        Route::Keys => {
            check_path(&cluster, &call, parts.uri.path())?;
            Ok(json(StatusCode::OK, &cluster.signer.key_set()))
        }
        Route::Issuer => {
            check_path(&cluster, &call, parts.uri.path())?;
            let host = parts.uri.authority().map(http::uri::Authority::as_str);
            let host = host.or_else(|| call.headers.get(header::HOST)?.to_str().ok()).unwrap_or_default();
            Ok(json(StatusCode::OK, &signer::configuration(host)))
        }
        Route::Review(plural) => {
            if call.method != Method::POST {
                return Err(Failure::method_not_allowed());
            }
            let review = reviews::answer(&cluster, &call.user, &plural, read_body(&call)?)?;
            Ok(json(StatusCode::CREATED, &review))
        }
        Route::Resource(target) => {
            let watch = call.query.truth("watch");
            let resource = target.rbac_resource();
            let access = Access {
                verb: request::verb(&call.method, &target, watch),
                group: target.kind.group,
                resource: &resource,
                // The namespace of a namespace is itself, so that a role in it can grant `get namespace`.
                namespace: if target.kind == &super::kinds::NAMESPACE { &target.name } else { &target.namespace },
                name: &target.name,
            };
            if !rbac::allows(&cluster.store, &call.user, &access)
                && !cluster.tokens.iam_allows(&call.user, target.kind, &target.subresource, access.verb)
            {
                cluster.used.note_refused(&call.user.name, &access);
                return Err(Failure::forbidden(target.kind, &target.name, &rbac::refusal(&call.user, &access)));
            }
            if !call.user.admin {
                cluster.used.note(&call.user.name, &access);
            }
            if target.kind == &super::kinds::POD && target.subresource == "portforward" {
                return port_forward::answer(&cluster, &target, &call.query, &call.headers, upgrade);
            }
            resource::answer(cluster, target, call).await
        }
    }
}

/// Refuses a request for a path that is no resource, unless the user may read it.
fn check_path(cluster: &Cluster, call: &Call, path: &str) -> Answer<()> {
    if call.method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    if !rbac::allows_path(&cluster.store, &call.user, path) {
        let message = format!("forbidden: User {:?} cannot get path {path:?}", call.user.name);
        return Err(Failure::new(403, "Forbidden", message));
    }
    Ok(())
}

fn authenticate(cluster: &Cluster, headers: &HeaderMap) -> Option<User> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let token = token.trim();
    let user = cluster.account_user(token).or_else(|| cluster.tokens.user(token))?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("impersonate-user") {
        // Only administrators may speak for others.
        Some(other) if user.admin => {
            let groups = headers.get_all("impersonate-group").iter().filter_map(|group| group.to_str().ok());
            Some(User::impersonated(other, groups.map(str::to_owned).collect()))
        }
        Some(_) => None,
        None => Some(user),
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2025-08-27T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

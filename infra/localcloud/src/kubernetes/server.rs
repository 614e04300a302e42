//! The API server over HTTP: who asks, what for, and how the answer is written.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    discovery,
    failure::{Answer, Failure},
    port_forward, protobuf,
    rbac::{self, Wish},
    request::{self, Query, Route},
    resource, reviews,
    users::User,
};

/// Version the server says it is.
pub const VERSION: &str = "v1.34.0";
/// Largest body that is read, in bytes.
const BODY: usize = 3 * 1024 * 1024;

/// One request, with who sent it.
pub(super) struct Call {
    pub(super) user: User,
    pub(super) method: Method,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

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
            let accept = call.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            let aggregated = segments.len() == 1 && discovery::wants_aggregated(accept);
            let mut response = json(StatusCode::OK, &discovery::answer(&segments, aggregated)?);
            if aggregated {
                let shape = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(shape));
            }
            Ok(response)
        }
        Route::OpenApi(segments) => Ok(json(StatusCode::OK, &discovery::openapi(&segments)?)),
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
            let wish = Wish {
                verb: request::verb(&call.method, &target, watch),
                group: target.group(),
                resource: &resource,
                // The namespace of a namespace is itself, so that a role in it can grant `get namespace`.
                namespace: if target.kind == &super::kinds::NAMESPACE { &target.name } else { &target.namespace },
                name: &target.name,
            };
            if !rbac::allows(&cluster.store, &call.user, &wish) {
                cluster.used.note_refused(&call.user.name, &wish);
                return Err(Failure::forbidden(target.kind, &target.name, &rbac::refusal(&call.user, &wish)));
            }
            if !call.user.admin {
                cluster.used.note(&call.user.name, &wish);
            }
            if target.kind == &super::kinds::POD && target.subresource == "portforward" {
                return port_forward::answer(&cluster, &target, &call.query, &call.headers, upgrade);
            }
            resource::answer(cluster, target, call).await
        }
    }
}

fn authenticate(cluster: &Cluster, headers: &HeaderMap) -> Option<User> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    let user = if scheme.eq_ignore_ascii_case("bearer") { cluster.tokens.user(token.trim())? } else { return None };
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

/// The body of a request as JSON, whatever of JSON and YAML it is written in; null when empty.
pub(super) fn read_body(call: &Call) -> Answer<Value> {
    if call.body.is_empty() {
        return Ok(Value::Null);
    }
    let kind = content_type(&call.headers);
    if kind.ends_with("yaml") {
        let text = std::str::from_utf8(&call.body).map_err(|_| Failure::bad_request("the body is not UTF-8"))?;
        return serde_saphyr::from_str(text)
            .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")));
    }
    if kind.contains("protobuf") {
        return protobuf::read(&call.body)
            .map_err(|why| Failure::new(415, "UnsupportedMediaType", format!("{kind}: {why}")));
    }
    serde_json::from_slice(&call.body)
        .map_err(|error| Failure::bad_request(format!("couldn't get version/kind; json parse error: {error}")))
}

/// The type of the body, without parameters.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    let given = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim()
}

/// A JSON answer.
pub(super) fn json(code: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2025-08-27T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

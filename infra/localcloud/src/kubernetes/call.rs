//! One request to the API server, read whole, and JSON answers.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use super::{
    failure::{Answer, Failure},
    protobuf,
    request::Query,
    users::User,
};

/// One request, with who sent it.
pub(super) struct Call {
    pub(super) user: User,
    pub(super) method: Method,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The body of a request as JSON, whatever of JSON and protobuf it is written in; null when empty.
pub(super) fn read_body(call: &Call) -> Answer<Value> {
    if call.body.is_empty() {
        return Ok(Value::Null);
    }
    let kind = content_type(&call.headers);
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

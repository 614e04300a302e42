//! One REST request taken apart: path segments, custom verb, query, JSON body.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Error, Result, respond};

/// A request, read whole.
#[derive(Clone, Debug)]
pub struct Call {
    /// HTTP method; `X-HTTP-Method-Override` is honoured.
    pub method: Method,
    /// Decoded path segments.
    pub segments: Vec<String>,
    /// Custom verb after the last colon of the path (`:setIamPolicy`), once [`Self::with_verb`] took it off.
    pub verb: Option<String>,
    /// Decoded query parameters, in order.
    pub query: Vec<(String, String)>,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// `http` or `https`.
    pub scheme: &'static str,
}

impl Call {
    /// Reads a whole request.
    ///
    /// # Errors
    /// When the body cannot be read.
    pub async fn read(request: Request<Body>) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|error| Error::invalid(format!("Body cannot be read: {error}")))?;
        Ok(Self::new(&parts.method, &parts.uri, parts.headers, body.to_bytes()))
    }

    /// Takes apart a request whose body is at hand.
    pub fn new(method: &Method, uri: &http::Uri, headers: HeaderMap, body: Bytes) -> Self {
        let overridden = headers
            .get("x-http-method-override")
            .and_then(|value| Method::from_bytes(value.as_bytes()).ok())
            .filter(|_| *method == Method::POST);
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let segments = uri.path().trim_start_matches('/').split('/').map(decode).collect();
        let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Self {
            method: overridden.unwrap_or_else(|| method.clone()),
            segments,
            verb: None,
            query,
            headers,
            body,
            scheme: "http",
        }
    }

    /// Takes the custom verb off the last segment, for APIs that have such.
    #[must_use]
    pub fn with_verb(mut self) -> Self {
        if let Some(last) = self.segments.last_mut()
            && let Some((name, after)) = last.rsplit_once(':')
            && !after.is_empty()
            && after.bytes().all(|byte| byte.is_ascii_alphabetic())
        {
            self.verb = Some(after.to_owned());
            *last = name.to_owned();
        }
        self
    }

    /// First value of a query parameter that is there and not empty.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// All values of a repeated query parameter.
    pub fn query_all(&self, name: &str) -> Vec<String> {
        self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// A query parameter as a number.
    ///
    /// # Errors
    /// 400 when it is not one.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        self.query(name)
            .map(|text| text.parse().map_err(|_| Error::invalid(format!("Invalid value for {name}: {text}"))))
            .transpose()
    }

    /// A query parameter as a truth value; absent is false.
    pub fn flag(&self, name: &str) -> bool {
        self.query(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON; an empty body is `{}`.
    ///
    /// # Errors
    /// 400 when it does not parse.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| {
            Error::invalid(format!("Invalid JSON payload received. {error}")).with_reason("parseError")
        })
    }

    /// The body as a form, or as JSON when its type says so.
    pub fn form(&self) -> Vec<(String, String)> {
        let json = self.header(header::CONTENT_TYPE.as_str()).is_some_and(|kind| kind.contains("json"));
        if json && let Ok(Value::Object(fields)) = serde_json::from_slice(&self.body) {
            return fields
                .into_iter()
                .map(|(key, value)| (key, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
                .collect();
        }
        form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// Page size and token: `pageSize` or `maxResults`, `pageToken`.
    ///
    /// # Errors
    /// 400 when the size is not a number.
    pub fn page(&self) -> Result<super::page::PageRequest> {
        let size = self.number("pageSize")?.or(self.number("maxResults")?).unwrap_or(0);
        Ok(super::page::PageRequest { size, token: self.query("pageToken").unwrap_or_default().to_owned() })
    }
}

/// A 200 answer with a JSON body.
pub fn ok(body: &Value) -> Response {
    respond(StatusCode::OK, body)
}

/// A time as Google's JSON has it: to the millisecond, which is what every client can read.
pub fn time_text(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A part of an update mask as a field of JSON: `cleanup_policies` is `cleanupPolicies`.
pub fn camel(snake: &str) -> String {
    let mut parts = snake.trim().split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        let mut letters = part.chars();
        let capital = letters.next().map(|first| first.to_ascii_uppercase());
        all.chars().chain(capital).chain(letters).collect()
    })
}

//! A REST request as a value, so that a test can check it without sending it.

use std::fmt;

use serde_json::Value;

use super::Api;

/// HTTP methods that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Create, or a custom verb.
    Post,
    /// Create by name, or replace.
    Put,
    /// Change some fields.
    Patch,
    /// Delete.
    Delete,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// API it goes to.
    pub api: Api,
    /// HTTP method.
    pub method: Method,
    /// Path without a leading slash, escaped.
    pub path: String,
    /// Query parameters, not escaped.
    pub query: Vec<(&'static str, String)>,
    /// JSON body.
    pub body: Option<Value>,
}

impl Request {
    /// A request without query and body.
    pub fn new(api: Api, method: Method, path: impl Into<String>) -> Self {
        Self { api, method, path: path.into(), query: vec![], body: None }
    }

    /// A read.
    pub fn get(api: Api, path: impl Into<String>) -> Self {
        Self::new(api, Method::Get, path)
    }

    /// With one more query parameter.
    #[must_use]
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// With a JSON body.
    #[must_use]
    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// False for requests that change nothing. Reading the policy of a service account is a POST.
    pub fn is_write(&self) -> bool {
        self.method != Method::Get
            && !self.path.ends_with(":getIamPolicy")
            && !self.path.ends_with(":testIamPermissions")
            && !self.path.ends_with(":getAncestry")
    }
}

impl Method {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.path)
    }
}

/// `text` as one part of a path: all but letters, digits and `-._~@` escaped.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

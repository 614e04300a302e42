//! What a request asks for, read from its method, path and query.

use std::collections::HashMap;

use http::Method;
use percent_encoding::percent_decode_str;

use super::{
    failure::{Answer, Failure},
    kinds::{self, Kind},
};

/// A path, understood.
#[derive(Debug, PartialEq)]
pub enum Route {
    /// `/healthz` and its like.
    Health,
    /// `/version`.
    Version,
    /// `/api`, `/apis` and below, down to resource lists; the segments.
    Discovery(Vec<String>),
    /// `/openapi/v2`, `/openapi/v3/...`; the segments after `openapi`.
    OpenApi(Vec<String>),
    /// `/openid/v1/jwks`: the keys of the cluster's tokens.
    Keys,
    /// `/.well-known/openid-configuration`: who signs them.
    Issuer,
    /// A create-only review: its plural name.
    Review(String),
    /// A resource of the store.
    Resource(Target),
}

/// A collection or an object in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Kind of the objects.
    pub kind: &'static Kind,
    /// Namespace in the path, "" for none.
    pub namespace: String,
    /// Name in the path, "" for the collection.
    pub name: String,
    /// Subresource in the path, "" for none.
    pub subresource: String,
}

impl Target {
    /// The namespace to look in; none for all of them.
    pub fn scope(&self) -> Option<&str> {
        if self.namespace.is_empty() && self.kind.namespaced { None } else { Some(&self.namespace) }
    }

    /// The plural name with its subresource, as RBAC rules name it.
    pub fn rbac_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.kind.plural.to_owned()
        } else {
            format!("{}/{}", self.kind.plural, self.subresource)
        }
    }
}

/// Reads a path.
///
/// # Errors
/// 404 for a path that no API has.
pub fn route(path: &str) -> Answer<Route> {
    let decode = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Ok(Route::Health),
        ["version"] => Ok(Route::Version),
        ["openid", "v1", "jwks"] => Ok(Route::Keys),
        [".well-known", "openid-configuration"] => Ok(Route::Issuer),
        ["openapi", rest @ ..] => Ok(Route::OpenApi(rest.iter().map(|part| (*part).to_owned()).collect())),
        ["api" | "apis"] | ["api", _] | ["apis", _] | ["apis", _, _] => Ok(Route::Discovery(segments)),
        ["api", version, rest @ ..] => resource("", version, rest),
        ["apis", group, version, rest @ ..] => resource(group, version, rest),
        _ => Err(Failure::no_such_path()),
    }
}

fn resource(group: &str, version: &str, rest: &[&str]) -> Answer<Route> {
    let (namespace, rest) = match rest {
        // `namespaces/x/status` is a subresource of the namespace, `namespaces/x/pods` a collection in it.
        ["namespaces", _, "status"] => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        _ => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, subresource] => (*plural, *name, *subresource),
        _ => return Err(Failure::no_such_path()),
    };
    if matches!(group, "authorization.k8s.io" | "authentication.k8s.io") && version == "v1" && name.is_empty() {
        return Ok(Route::Review(plural.to_owned()));
    }
    let kind = kinds::by_plural(group, version, plural).ok_or_else(Failure::no_such_path)?;
    if !kind.namespaced && !namespace.is_empty() {
        return Err(Failure::no_such_path());
    }
    Ok(Route::Resource(Target {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
    }))
}

/// The RBAC verb of a request on a resource.
pub fn verb(method: &Method, target: &Target, watch: bool) -> &'static str {
    match (method, target.name.is_empty()) {
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, true) => "deletecollection",
        (&Method::DELETE, false) => "delete",
        (_, _) if watch => "watch",
        (_, true) => "list",
        (_, false) => "get",
    }
}

/// The parameters of a request.
#[derive(Clone, Debug, Default)]
pub struct Query(HashMap<String, String>);

impl Query {
    /// Reads a query string.
    pub fn parse(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// A parameter, "" when absent.
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// Whether a parameter is `true` or `1`.
    pub fn truth(&self, key: &str) -> bool {
        matches!(self.text(key), "true" | "1")
    }

    /// A parameter that is a whole number.
    ///
    /// # Errors
    /// 400 when it is given and is no number.
    pub fn number(&self, key: &str) -> Answer<Option<i64>> {
        match self.text(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Failure::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax in {key}"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, kind: &'static Kind, namespace: &str, name: &str, subresource: &str) {
        let Route::Resource(target) = route(path).unwrap() else { panic!("{path} is a resource") };
        assert_eq!(target.kind, kind, "{path}");
        assert_eq!([&target.namespace, &target.name, &target.subresource], [namespace, name, subresource], "{path}");
    }

    #[test]
    fn paths() {
        check("/api/v1/namespaces/a", &kinds::NAMESPACE, "", "a", "");
        check("/api/v1/namespaces/a/status", &kinds::NAMESPACE, "", "a", "status");
        check("/api/v1/namespaces/a/pods/p/log", &kinds::POD, "a", "p", "log");
        check("/apis/batch/v1/jobs", &kinds::JOB, "", "", "");
        check("/apis/batch/v1/namespaces/a%2Db/jobs/j", &kinds::JOB, "a-b", "j", "");
        assert!(route("/apis/batch/v2/jobs").is_err());
        assert!(route("/nothing").is_err());
        assert_eq!(Query::parse(Some("a=b%3Dc+d&w")).text("a"), "b=c d");
    }
}

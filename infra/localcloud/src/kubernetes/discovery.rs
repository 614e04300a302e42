//! Discovery: which groups, versions and resources there are, as kubectl asks for it (aggregated); and as much
//! OpenAPI as kubectl needs to know that the server checks fields itself.

use serde_json::{Value, json};

use super::{
    failure::{Answer, Failure},
    kinds::{self, KINDS, Kind},
};

/// Version the server says it is.
pub const VERSION: &str = "v1.34.0";
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const REVIEWS: [(&str, &str, &str); 2] = [
    ("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
];

/// Answers `/api`, `/apis` and what is below, down to resource lists.
///
/// # Errors
/// 404 for groups and versions that there are not.
pub fn answer(segments: &[String]) -> Answer<Value> {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["api"] => Ok(aggregate(&[""])),
        ["apis"] => Ok(aggregate(&groups())),
        ["api", "v1"] => Ok(resources("")),
        ["apis", name, "v1"] if groups().contains(name) => Ok(resources(name)),
        _ => Err(Failure::no_such_path()),
    }
}

/// Answers `/openapi/v3` and what is below.
///
/// # Errors
/// 404 for documents that there are not.
pub fn openapi(segments: &[String]) -> Answer<Value> {
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["v2"] => Ok(json!({
            "swagger": "2.0", "info": {"title": "Kubernetes", "version": VERSION},
            "paths": {}, "definitions": {},
        })),
        ["v3"] => {
            let mut paths = json!({"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"}});
            for group in groups() {
                paths[format!("apis/{group}/v1")] =
                    json!({"serverRelativeURL": format!("/openapi/v3/apis/{group}/v1")});
            }
            Ok(json!({"paths": paths}))
        }
        ["v3", "api", "v1"] => Ok(document("")),
        ["v3", "apis", group, "v1"] if groups().contains(group) => Ok(document(group)),
        _ => Err(Failure::no_such_path()),
    }
}

/// Every group but the core one, in the order in which kubectl is to prefer them.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&'static str> = Vec::new();
    let named = KINDS.iter().map(|kind| kind.group).chain(REVIEWS.iter().map(|review| review.0));
    for group in named {
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

fn kinds_of(group: &str) -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().copied().filter(move |kind| kind.group == group)
}

/// Subresources as discovery lists them: name, kind it is read as, verbs.
fn subresources(kind: &Kind) -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let own = json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let mut all: Vec<_> = kind
        .subresources
        .iter()
        .map(|name| match *name {
            "scale" => {
                let scale = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
                ("scale", scale, vec!["get", "patch", "update"])
            }
            name => (name, own.clone(), vec!["get", "patch", "update"]),
        })
        .collect();
    if kind == &kinds::POD {
        all.push(("log", own, vec!["get"]));
        let options = json!({"group": "", "version": "v1", "kind": "PodPortForwardOptions"});
        all.push(("portforward", options, vec!["create", "get"]));
    } else if kind == &kinds::SERVICE_ACCOUNT {
        let token = json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"});
        all.push(("token", token, vec!["create"]));
    }
    all
}

fn resources(group: &str) -> Value {
    let mut list = Vec::new();
    for kind in kinds_of(group) {
        let mut one = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": VERBS,
        });
        if !kind.short.is_empty() {
            one["shortNames"] = json!(kind.short);
        }
        if !kind.categories.is_empty() {
            one["categories"] = json!(kind.categories);
        }
        list.push(one);
        for (name, read_as, verbs) in subresources(kind) {
            let mut one = json!({
                "name": format!("{}/{name}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": read_as["kind"], "verbs": verbs,
            });
            if read_as["kind"] != kind.kind {
                one["group"] = read_as["group"].clone();
                one["version"] = read_as["version"].clone();
            }
            list.push(one);
        }
    }
    for (_, kind, plural) in REVIEWS.iter().filter(|review| review.0 == group) {
        list.push(json!({"name": plural, "singularName": "", "namespaced": false, "kind": kind, "verbs": ["create"]}));
    }
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list})
}

fn aggregate(groups: &[&str]) -> Value {
    let items: Vec<_> = groups
        .iter()
        .map(|group| {
            let mut list = Vec::new();
            for kind in kinds_of(group) {
                let subresources: Vec<_> = subresources(kind)
                    .into_iter()
                    .map(|(name, read_as, verbs)| json!({"subresource": name, "responseKind": read_as, "verbs": verbs}))
                    .collect();
                let mut one = resource(group, kind.kind, kind.plural, kind.singular, kind.namespaced, &VERBS);
                for (field, value) in [
                    ("shortNames", json!(kind.short)),
                    ("categories", json!(kind.categories)),
                    ("subresources", json!(subresources)),
                ] {
                    if value.as_array().is_some_and(|list| !list.is_empty()) {
                        one[field] = value;
                    }
                }
                list.push(one);
            }
            for (_, kind, plural) in REVIEWS.iter().filter(|review| review.0 == *group) {
                list.push(resource(group, kind, plural, "", false, &["create"]));
            }
            let version = json!({"version": "v1", "resources": list, "freshness": "Current"});
            let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": [version]})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn resource(group: &str, kind: &str, plural: &str, singular: &str, namespaced: bool, verbs: &[&str]) -> Value {
    json!({
        "resource": plural, "responseKind": {"group": group, "version": "v1", "kind": kind},
        "scope": if namespaced { "Namespaced" } else { "Cluster" }, "singularResource": singular, "verbs": verbs,
    })
}

/// A document that says of each kind that its writes take `fieldValidation`; kubectl then leaves that to the server.
fn document(group: &str) -> Value {
    let version = if group.is_empty() { "api/v1".to_owned() } else { format!("apis/{group}/v1") };
    let mut paths = json!({});
    for kind in kinds_of(group) {
        let place = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
        let named = json!({"group": group, "version": "v1", "kind": kind.kind});
        let query =
            |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
        let operation = |action: &str| {
            json!({
                "x-kubernetes-action": action, "x-kubernetes-group-version-kind": named,
                "parameters": [query("dryRun"), query("fieldManager"), query("fieldValidation")],
                "responses": {"200": {"description": "OK"}},
            })
        };
        paths[format!("/{version}/{place}{}", kind.plural)] = json!({"post": operation("post")});
        paths[format!("/{version}/{place}{}/{{name}}", kind.plural)] =
            json!({"patch": operation("patch"), "put": operation("put")});
    }
    json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION}, "paths": paths,
        "components": {"schemas": {}},
    })
}

//! How each kind of resource is read, made, changed and deleted on the wire, and by what it is known to be ours.

use common::labels;
use serde_json::{Map, Value, json};

use crate::{
    desired::ownership_mark,
    google::{Api, Method, Request, escape},
    policy,
    resource::{Id, Kind},
};

/// Whose a live resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This environment's.
    Ours,
    /// Somebody else's; says by what it seems so.
    Other(String),
}

/// Fields that can never be changed once the resource exists.
pub(crate) fn immutable(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Bucket => &["location", "name"],
        Kind::Topic => &["kmsKeyName"],
        Kind::Subscription => &["topic", "filter", "enableMessageOrdering"],
        _ => &[],
    }
}

/// Reads a resource or a policy.
pub fn read(id: &Id) -> Request {
    let path = path(id);
    match id.kind {
        Kind::BucketPolicy => Request::get(Api::Storage, format!("{path}/iam"))
            .query("optionsRequestedPolicyVersion", policy::VERSION.to_string()),
        Kind::TopicPolicy | Kind::SubscriptionPolicy => Request::get(api(id.kind), format!("{path}:getIamPolicy"))
            .query("options.requestedPolicyVersion", policy::VERSION.to_string()),
        Kind::ServiceAccountPolicy => Request::new(Api::Iam, Method::Post, format!("{path}:getIamPolicy"))
            .query("options.requestedPolicyVersion", policy::VERSION.to_string()),
        _ => Request::get(api(id.kind), path),
    }
}

/// Makes a resource with these fields. `project` is where a bucket belongs.
pub fn create(id: &Id, fields: &Value, project: &str) -> Request {
    let path = path(id);
    let parent = |path: &str| path.rsplit_once('/').map_or(path, |(parent, _)| parent).to_owned();
    match id.kind {
        Kind::Bucket => {
            Request::new(Api::Storage, Method::Post, "storage/v1/b").query("project", project).body(fields.clone())
        }
        Kind::Role => {
            Request::new(Api::Iam, Method::Post, parent(&path)).body(json!({"roleId": id.short(), "role": fields}))
        }
        Kind::ServiceAccount => {
            let account = id.short().split('@').next().unwrap_or_default();
            Request::new(Api::Iam, Method::Post, parent(&path))
                .body(json!({"accountId": account, "serviceAccount": fields}))
        }
        // Topics and subscriptions are made under their name. A policy is never made.
        _ => Request::new(api(id.kind), Method::Put, path).body(fields.clone()),
    }
}

/// Changes the top-level fields `changed` of a resource that looks like `live` to what `fields` say.
pub fn update(id: &Id, fields: &Value, live: &Value, changed: &[String]) -> Request {
    let path = path(id);
    let mut body = Map::new();
    for field in changed {
        let mut value = fields[field.as_str()].clone();
        // Where a map is replaced whole, other people's labels stay.
        if field == "labels" && id.kind != Kind::Bucket {
            let mut merged = live["labels"].as_object().cloned().unwrap_or_default();
            merged.extend(value.as_object().cloned().unwrap_or_default());
            value = Value::Object(merged);
        }
        body.insert(field.clone(), value);
    }
    let mask = changed.join(",");
    match id.kind {
        Kind::Bucket => {
            let request = Request::new(Api::Storage, Method::Patch, path).body(Value::Object(body));
            match live["metageneration"].as_str() {
                Some(metageneration) => request.query("ifMetagenerationMatch", metageneration),
                None => request,
            }
        }
        Kind::Topic => {
            let body = json!({"topic": named(id, body), "updateMask": mask});
            Request::new(Api::Pubsub, Method::Patch, path).body(body)
        }
        Kind::Subscription => {
            let body = json!({"subscription": named(id, body), "updateMask": mask});
            Request::new(Api::Pubsub, Method::Patch, path).body(body)
        }
        Kind::ServiceAccount => {
            let body = json!({"serviceAccount": body, "updateMask": mask.replace("displayName", "display_name")});
            Request::new(Api::Iam, Method::Patch, path).body(body)
        }
        _ => {
            if let Some(etag) = live["etag"].as_str() {
                body.insert("etag".to_owned(), json!(etag));
            }
            Request::new(Api::Iam, Method::Patch, path).query("updateMask", mask).body(Value::Object(body))
        }
    }
}

/// Brings a deleted custom role back.
pub fn undelete(id: &Id) -> Request {
    Request::new(Api::Iam, Method::Post, format!("{}:undelete", path(id))).body(json!({}))
}

/// Deletes a resource.
pub fn delete(id: &Id) -> Request {
    Request::new(api(id.kind), Method::Delete, path(id))
}

/// Replaces a policy; the etag inside it guards against other writers.
pub fn write_policy(id: &Id, policy: Value) -> Request {
    let path = path(id);
    match id.kind {
        Kind::BucketPolicy => Request::new(Api::Storage, Method::Put, format!("{path}/iam")).body(policy),
        _ => Request::new(api(id.kind), Method::Post, format!("{path}:setIamPolicy")).body(json!({"policy": policy})),
    }
}

/// Lists what could be ours in a project: the request, the key of its items, and their kind.
pub fn lists(project: &str) -> [(Request, &'static str, Kind); 3] {
    let project = escape(project);
    [
        (
            Request::get(Api::Pubsub, format!("v1/projects/{project}/topics")).query("pageSize", "1000"),
            "topics",
            Kind::Topic,
        ),
        (
            Request::get(Api::Pubsub, format!("v1/projects/{project}/subscriptions")).query("pageSize", "1000"),
            "subscriptions",
            Kind::Subscription,
        ),
        (
            Request::get(Api::Iam, format!("v1/projects/{project}/serviceAccounts")).query("pageSize", "100"),
            "accounts",
            Kind::ServiceAccount,
        ),
    ]
}

/// Whose a live resource is, seen from the environment `environment`.
pub fn owner(id: &Id, live: &Value, environment: &str) -> Owner {
    let ours = match id.kind {
        Kind::Bucket | Kind::Topic | Kind::Subscription => {
            let label = |key: &str| live["labels"][key].as_str();
            label(labels::GOOGLE_MANAGED_BY) == Some(labels::MANAGED_BY_DESKGRID)
                && label(labels::GOOGLE_ENVIRONMENT) == Some(environment)
        }
        Kind::ServiceAccount => {
            live["description"].as_str().is_some_and(|text| text.starts_with(&ownership_mark(environment)))
        }
        // One custom role serves every environment of the project.
        Kind::Role => live["description"].as_str().is_some_and(|text| {
            text.starts_with(&format!("{}={}", labels::GOOGLE_MANAGED_BY, labels::MANAGED_BY_DESKGRID))
        }),
        // A policy has no owner; what it is on has.
        _ => true,
    };
    if ours { Owner::Ours } else { Owner::Other(seems(live)) }
}

fn seems(live: &Value) -> String {
    let labels: Vec<String> = live["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    match (labels.is_empty(), live["description"].as_str().filter(|text| !text.is_empty())) {
        (false, _) => format!("its labels are {}", labels.join(", ")),
        (true, Some(description)) => format!("its description is {description:?}"),
        (true, None) => "it has no label or description that says whose".to_owned(),
    }
}

fn named(id: &Id, mut fields: Map<String, Value>) -> Value {
    fields.insert("name".to_owned(), json!(id.name));
    Value::Object(fields)
}

fn api(kind: Kind) -> Api {
    match kind {
        Kind::Bucket | Kind::BucketPolicy => Api::Storage,
        Kind::Topic | Kind::TopicPolicy | Kind::Subscription | Kind::SubscriptionPolicy => Api::Pubsub,
        Kind::Role | Kind::ServiceAccount | Kind::ServiceAccountPolicy => Api::Iam,
    }
}

fn path(id: &Id) -> String {
    let parts: Vec<String> = id.name.split('/').map(escape).collect();
    match id.kind {
        Kind::Bucket | Kind::BucketPolicy => format!("storage/v1/b/{}", escape(&id.name)),
        _ => format!("v1/{}", parts.join("/")),
    }
}

#[cfg(test)]
mod tests;

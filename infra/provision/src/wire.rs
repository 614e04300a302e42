//! How each kind of resource is read, made, changed and deleted on the wire, and by what it is known to be ours.

use contract::labels;
use serde_json::{Map, Value, json};

use crate::{
    desired::ownership_mark,
    environment::Environment,
    google::{Api, Method, Request, escape},
    notification, policy,
    resource::{Desired, Id, Kind},
};

mod cluster;

/// Most services that are enabled by one request.
const MAX_SERVICES_PER_REQUEST: usize = 20;

/// Whose a live resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This environment's.
    Ours,
    /// Somebody else's; says by what it seems so.
    Other(String),
}

/// Fields that can never be changed once the resource exists, with what is inside them.
pub(crate) fn immutable(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Cluster => {
            &["name", "network", "subnetwork", "ipAllocationPolicy", "networkConfig.datapathProvider", "autopilot"]
        }
        Kind::NodePool => &[
            "config.spot",
            "config.serviceAccount",
            "config.oauthScopes",
            "config.shieldedInstanceConfig",
            "config.bootDiskKmsKey",
        ],
        Kind::Registry => &["format", "kmsKeyName"],
        Kind::Bucket => &["location", "name"],
        Kind::Topic => &["kmsKeyName"],
        Kind::Subscription => &["topic", "filter", "enableMessageOrdering"],
        _ => &[],
    }
}

/// Fields that only say how to make the resource and cannot be read back.
pub(crate) fn only_for_creation(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::NodePool => &["initialNodeCount"],
        _ => &[],
    }
}

/// Reads a resource of which `desired` is wanted.
pub fn read_as(id: &Id, desired: &Desired) -> Request {
    match (id.kind, desired) {
        (Kind::Services, Desired::Fields(Value::Object(services))) => services
            .keys()
            .fold(Request::get(Api::ServiceUsage, format!("{}:batchGet", path(id))), |request, service| {
                request.query("names", format!("{}/{service}", id.name))
            }),
        _ => read(id),
    }
}

/// What was read in the shape in which it is wanted, where that is another one than the API's.
pub fn view(id: &Id, desired: &Desired, answer: Value) -> Value {
    match (id.kind, desired) {
        (Kind::Services, _) => {
            let services = answer["services"].as_array().into_iter().flatten();
            let state = |service: &Value| {
                let name = service["name"].as_str()?.rsplit('/').next()?.to_owned();
                Some((name, service["state"].clone()))
            };
            services.filter_map(state).collect()
        }
        (Kind::Cluster, Desired::Fields(fields)) => cluster::view(fields, answer),
        _ => answer,
    }
}

/// Reads a resource or a policy.
pub fn read(id: &Id) -> Request {
    let path = path(id);
    match id.kind {
        Kind::BucketPolicy => Request::get(Api::Storage, format!("{path}/iam"))
            .query("optionsRequestedPolicyVersion", policy::VERSION.to_string()),
        Kind::TopicPolicy | Kind::SubscriptionPolicy | Kind::RegistryPolicy => {
            Request::get(api(id.kind), format!("{path}:getIamPolicy"))
                .query("options.requestedPolicyVersion", policy::VERSION.to_string())
        }
        Kind::ServiceAccountPolicy => Request::new(Api::Iam, Method::Post, format!("{path}:getIamPolicy"))
            .query("options.requestedPolicyVersion", policy::VERSION.to_string()),
        Kind::ProjectPolicy => Request::new(api(id.kind), Method::Post, format!("{path}:getIamPolicy"))
            .body(json!({"options": {"requestedPolicyVersion": policy::VERSION}})),
        _ => Request::get(api(id.kind), path),
    }
}

/// Makes a cluster with its first node pools, each by id and fields.
pub fn create_cluster(id: &Id, fields: &Value, pools: &[(&Id, &Value)]) -> Request {
    cluster::create(id, fields, pools)
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
        Kind::Cluster => create_cluster(id, fields, &[]),
        Kind::NodePool => Request::new(Api::Container, Method::Post, parent(&path))
            .body(json!({"nodePool": cluster::pool(id, fields)})),
        Kind::Registry => Request::new(Api::ArtifactRegistry, Method::Post, parent(&path))
            .query("repositoryId", id.short())
            .body(fields.clone()),
        Kind::Notification => notification::create(id, fields),
        // Topics and subscriptions are made under their name. A policy is never made.
        _ => Request::new(api(id.kind), Method::Put, path).body(fields.clone()),
    }
}

/// Requests that change the fields `changed`, given as paths, of the resource `live` to what `fields` say, one
/// after another. Most kinds take all at once, by their top-level fields.
pub fn updates(id: &Id, fields: &Value, live: &Value, changed: &[String]) -> Vec<Request> {
    let path = path(id);
    match id.kind {
        Kind::Services => return services(id, changed),
        Kind::Cluster => return cluster::updates(id, &path, fields, live, changed),
        Kind::NodePool => return cluster::pool_updates(&path, fields, live, changed),
        Kind::Notification => return notification::updates(id, fields, live),
        _ => {}
    }
    let mut changed: Vec<&str> = changed.iter().filter_map(|field| field.split('.').next()).collect();
    changed.dedup();
    vec![update(id, fields, live, &changed)]
}

/// Enables these services: one, or up to twenty together.
fn services(id: &Id, names: &[String]) -> Vec<Request> {
    let post = |path: String| Request::new(Api::ServiceUsage, Method::Post, path);
    match names {
        [one] => vec![post(format!("{}/{}:enable", path(id), escape(one))).body(json!({}))],
        many => {
            let batches = many.chunks(MAX_SERVICES_PER_REQUEST);
            batches.map(|batch| post(format!("{}:batchEnable", path(id))).body(json!({"serviceIds": batch}))).collect()
        }
    }
}

fn update(id: &Id, fields: &Value, live: &Value, changed: &[&str]) -> Request {
    let path = path(id);
    let mut body = Map::new();
    for field in changed {
        let mut value = fields[*field].clone();
        // Where a map is replaced whole, other people's labels stay.
        if *field == "labels" && id.kind != Kind::Bucket {
            let mut merged = live["labels"].as_object().cloned().unwrap_or_default();
            merged.extend(value.as_object().cloned().unwrap_or_default());
            value = Value::Object(merged);
        }
        body.insert((*field).to_owned(), value);
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
        Kind::Registry => {
            Request::new(Api::ArtifactRegistry, Method::Patch, path).query("updateMask", mask).body(Value::Object(body))
        }
        Kind::Topic | Kind::Subscription => {
            body.insert("name".to_owned(), json!(id.name));
            let body = json!({id.noun(): body, "updateMask": mask});
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

/// Undeletes a custom role.
pub fn undelete(id: &Id) -> Request {
    Request::new(Api::Iam, Method::Post, format!("{}:undelete", path(id))).body(json!({}))
}

/// Requests that delete the resource `live`.
pub fn deletes(id: &Id, live: &Value) -> Vec<Request> {
    match id.kind {
        Kind::Notification => notification::deletes(id, live),
        _ => vec![Request::new(api(id.kind), Method::Delete, path(id))],
    }
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
pub fn lists(environment: &Environment) -> [(Request, &'static str, Kind); 5] {
    let project = escape(&environment.project);
    let list = |api, path: &str, size: &str| {
        Request::get(api, format!("v1/projects/{project}/{path}")).query("pageSize", size)
    };
    let repositories = format!("locations/{}/repositories", escape(&environment.location));
    [
        (
            Request::get(Api::Container, format!("v1/projects/{project}/locations/-/clusters")),
            "clusters",
            Kind::Cluster,
        ),
        (list(Api::ArtifactRegistry, &repositories, "1000"), "repositories", Kind::Registry),
        (list(Api::Pubsub, "topics", "1000"), "topics", Kind::Topic),
        (list(Api::Pubsub, "subscriptions", "1000"), "subscriptions", Kind::Subscription),
        (list(Api::Iam, "serviceAccounts", "100"), "accounts", Kind::ServiceAccount),
    ]
}

/// The id of an item of such a list.
pub fn listed(kind: Kind, item: &Value, project: &str) -> Id {
    let text = |key: &str| item[key].as_str().unwrap_or_default();
    match kind {
        Kind::Cluster => {
            Id::new(kind, format!("projects/{project}/locations/{}/clusters/{}", text("location"), text("name")))
        }
        _ => Id::new(kind, text("name")),
    }
}

/// Whose a live resource is, seen from the environment `environment`.
pub fn owner(id: &Id, live: &Value, environment: &str) -> Owner {
    let ours = match id.kind {
        Kind::Bucket | Kind::Topic | Kind::Subscription | Kind::Registry | Kind::Cluster | Kind::NodePool => {
            let label = |key: &str| labels_of(id.kind, live)[key].as_str();
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
        // A policy has no owner; what it is on has. The same holds for services and notifications.
        _ => true,
    };
    if ours { Owner::Ours } else { Owner::Other(seems(id.kind, live)) }
}

/// The environment that a live resource says it is of.
pub fn environment(id: &Id, live: &Value) -> Option<String> {
    let mark = ownership_mark("");
    let description = || live["description"].as_str()?.strip_prefix(mark.trim_end_matches(": "))?.split(": ").next();
    let labels = labels_of(id.kind, live);
    let label = |key: &str| labels[key].as_str();
    let name = match id.kind {
        Kind::ServiceAccount => description(),
        _ => label(labels::GOOGLE_ENVIRONMENT)
            .filter(|_| label(labels::GOOGLE_MANAGED_BY) == Some(labels::MANAGED_BY_DESKGRID)),
    };
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Where the labels of a kind are.
fn labels_of(kind: Kind, live: &Value) -> &Value {
    match kind {
        Kind::Cluster => &live["resourceLabels"],
        Kind::NodePool => &live["config"]["resourceLabels"],
        _ => &live["labels"],
    }
}

fn seems(kind: Kind, live: &Value) -> String {
    let labels: Vec<String> = labels_of(kind, live)
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

fn api(kind: Kind) -> Api {
    match kind {
        Kind::Services => Api::ServiceUsage,
        Kind::Cluster | Kind::NodePool => Api::Container,
        Kind::Registry | Kind::RegistryPolicy => Api::ArtifactRegistry,
        Kind::Bucket | Kind::BucketPolicy | Kind::Notification => Api::Storage,
        Kind::Topic | Kind::TopicPolicy | Kind::Subscription | Kind::SubscriptionPolicy => Api::Pubsub,
        Kind::Role | Kind::ServiceAccount | Kind::ServiceAccountPolicy => Api::Iam,
        Kind::Project | Kind::ProjectPolicy => Api::CloudResourceManager,
    }
}

fn path(id: &Id) -> String {
    let parts: Vec<String> = id.name.split('/').map(escape).collect();
    match id.kind {
        Kind::Bucket | Kind::BucketPolicy | Kind::Notification => format!("storage/v1/b/{}", parts.join("/")),
        _ => format!("v1/{}", parts.join("/")),
    }
}

#[cfg(test)]
mod tests;

//! Topics: each business has one for messages and one for events.

use serde_json::{Value, json};

use super::{
    Api, Environment, Id, Kind, Managed, Mark, Removal, Request, Resource, Rules, alone, as_read, as_said, at_once,
    by_field, changed_fields, delete, get, labels, list, named, never, not_readable, path, ready, refuse_none,
    resource, unlimited,
};
use crate::{environment::Business, google::Method};

pub(crate) const RULES: Rules = Rules {
    noun: "topic",
    title: named,
    api: Api::Pubsub,
    policy: Some(Kind::TopicPolicy),
    target: None,
    parent: alone,
    managed: |manage| manage.pubsub,
    desired,
    is_first: false,
    mark: Mark::Labels("/labels"),
    immutable: &["kmsKeyName"],
    only_for_creation: &[],
    list: list("topics", |environment| project_list(environment, "topics")),
    read: get,
    view: as_read,
    count: unlimited,
    refuse: refuse_none,
    differences: by_field,
    phase: ready,
    denied: not_readable,
    looks_denied: false,
    create: Some(|new| Request::new(Api::Pubsub, Method::Put, path(new.id)).body(new.fields.clone())),
    doubles: false,
    update,
    is_slow: false,
    delete,
    undelete: None,
    operation: at_once,
    operations: None,
    is_too_early: never,
    is_passing: never,
    explain: as_said,
    removal: Removal::Deleted,
    permissions: &["pubsub.topics.create"],
    role: "roles/pubsub.admin",
    quotas: None,
};

/// The id of a topic of the environment's project.
pub(crate) fn id(environment: &Environment, topic: &str) -> Id {
    Id::new(Kind::Topic, format!("projects/{}/topics/{topic}", environment.project))
}

fn desired(environment: &Environment) -> Vec<Resource> {
    let managed = environment.manage.pubsub;
    let security = &environment.security;
    let topics = environment.businesses.iter().flat_map(|business| {
        let mut fields = base(environment, business);
        if !security.allowed_locations.is_empty() {
            fields["messageStoragePolicy"] = json!({"allowedPersistenceRegions": security.allowed_locations});
        }
        if let Some(key) = security.kms_keys.get("pubsub") {
            fields["kmsKeyName"] = json!(key);
        }
        [&business.topic, &business.events_topic]
            .map(|topic| resource(id(environment, topic), Some(business), managed, fields.clone(), vec![]))
    });
    topics.collect()
}

/// The fields of topics and subscriptions alike.
pub(super) fn base(environment: &Environment, business: &Business) -> Value {
    match environment.manage.pubsub {
        Managed::Create => json!({"labels": labels(environment, Some(business))}),
        Managed::Verify | Managed::Off => json!({}),
    }
}

pub(super) fn project_list(environment: &Environment, collection: &str) -> Request {
    let path = format!("v1/projects/{}/{collection}", super::escape(&environment.project));
    Request::get(Api::Pubsub, path).query("pageSize", "1000")
}

/// Changes a topic or a subscription.
pub(super) fn update(id: &Id, desired: &Value, live: &Value, changed: &[String]) -> Vec<Request> {
    let (mut body, mask) = changed_fields(desired, live, changed);
    body.insert("name".to_owned(), json!(id.name));
    let body = json!({id.noun(): body, "updateMask": mask});
    vec![Request::new(Api::Pubsub, Method::Patch, path(id)).body(body)]
}

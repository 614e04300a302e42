//! Topics: each business has one for messages and one for events.

use serde_json::{Value, json};

use super::*;
use crate::{environment::Business, google::Method};

pub(crate) const RULES: Rules = Rules {
    noun: "topic",
    title: named,
    api: Api::Pubsub,
    target: None,
    parent: no_parent,
    managed: |manage| manage.pubsub,
    desired,
    is_first: false,
    mark: Mark::Labels("/labels"),
    immutable: &["kmsKeyName"],
    list: list("topics", |environment| project_list(environment, "topics")),
    read: get,
    view: as_read,
    limit: None,
    differences: by_field,
    phase: ready,
    denied: not_readable,
    absent_may_be_denied: false,
    create: Some(|new| Request::new(Api::Pubsub, Method::Put, path(new.id)).body(new.fields.clone())),
    is_created: None,
    update,
    is_eventual: false,
    delete,
    undelete: None,
    started_operation: no_operation,
    exclusive_operations: None,
    methods: Methods {
        read: &["pubsub.projects.topics.get", "pubsub.projects.topics.list"],
        create: &["pubsub.projects.topics.create"],
        update: &["pubsub.projects.topics.patch"],
        delete: &["pubsub.projects.topics.delete"],
    },
    explain: crypto_key::explain,
    removal: Removal::Deleted,
    role: "roles/pubsub.admin",
    lengths: Some(|_| 3..=255),
    on_itself: None,
    checks: &[],
};

/// The id of a topic of the environment's project.
pub(crate) fn id(environment: &Environment, topic: &str) -> Id {
    Id::new(Kind::Topic, format!("projects/{}/topics/{topic}", environment.project))
}

fn desired(environment: &Environment) -> Vec<Resource> {
    let security = &environment.security;
    let topics = environment.businesses.iter().flat_map(|business| {
        let mut fields = base(environment, business);
        if !security.allowed_locations.is_empty() {
            fields["messageStoragePolicy"] = json!({"allowedPersistenceRegions": security.allowed_locations});
        }
        if let Some(key) = security.kms_keys.get("pubsub") {
            fields["kmsKeyName"] = json!(key);
        }
        let after = crypto_key::permissions(environment, &["pubsub"]);
        [&business.topic, &business.events_topic]
            .map(|topic| resource(environment, id(environment, topic), Some(business), fields.clone(), after.clone()))
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

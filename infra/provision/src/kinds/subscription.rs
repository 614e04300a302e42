//! Subscriptions: each business has one, and perhaps one for messages with priority.

use cloud::queue::DELETED_TOPIC;
use contract::{labels as names, message};
use serde_json::json;

use super::*;
use crate::google::Method;

pub(crate) const RULES: Rules = Rules {
    noun: "subscription",
    title: named,
    api: Api::Pubsub,
    target: None,
    parent: no_parent,
    managed: |manage| manage.pubsub,
    desired,
    is_first: false,
    mark: Mark::Labels("/labels"),
    immutable: &["topic", "filter", "enableMessageOrdering"],
    list: list("subscriptions", |environment| topic::project_list(environment, "subscriptions")),
    read: get,
    view: as_read,
    limit: None,
    differences: by_field,
    // It stays detached, even if a topic of that name is created again.
    phase: |_, live| if live["topic"] == DELETED_TOPIC { Phase::Detached } else { Phase::Ready },
    denied: not_readable,
    absent_may_be_denied: false,
    create: Some(|new| Request::new(Api::Pubsub, Method::Put, path(new.id)).body(new.fields.clone())),
    is_created: None,
    update: topic::update,
    is_eventual: false,
    delete,
    undelete: None,
    started_operation: no_operation,
    exclusive_operations: None,
    methods: Methods {
        read: &["pubsub.projects.subscriptions.get", "pubsub.projects.subscriptions.list"],
        create: &["pubsub.projects.subscriptions.create"],
        update: &["pubsub.projects.subscriptions.patch"],
        delete: &["pubsub.projects.subscriptions.delete"],
    },
    explain: unchanged_error,
    removal: Removal::Deleted,
    role: "roles/pubsub.admin",
    lengths: Some(|_| 3..=255),
    on_itself: None,
    checks: &[],
};

/// Seconds a message is leased before it is delivered again.
///
/// Google's clients renew a lease of 60 seconds by themselves, so this only counts for a consumer that died: a minute
/// later another one has the message. The shortest possible, 10, would deliver twice whenever a consumer stalls.
const ACK_DEADLINE_SECS: u32 = 60;
/// Shortest and longest pause before a nacked message is delivered again. Messages are nacked when an
/// orchestrator stops or the API server is busy, so the first pause is short.
const RETRY: (&str, &str) = ("1s", "60s");

/// The id of a subscription of the environment's project.
pub(crate) fn id(environment: &Environment, subscription: &str) -> Id {
    Id::new(Kind::Subscription, format!("projects/{}/subscriptions/{subscription}", environment.project))
}

fn desired(environment: &Environment) -> Vec<Resource> {
    let mut resources = Vec::new();
    for business in &environment.businesses {
        let topic = topic::id(environment, &business.topic);
        let mut fields = topic::base(environment, business);
        fields["topic"] = json!(topic.name);
        fields["ackDeadlineSeconds"] = json!(ACK_DEADLINE_SECS);
        fields["messageRetentionDuration"] = json!(format!("{}s", message::RETENTION_DAYS * 86_400));
        // Present but empty: never expires. Absent would mean: deleted after 31 idle days.
        fields["expirationPolicy"] = json!({});
        fields["retryPolicy"] = json!({"minimumBackoff": RETRY.0, "maximumBackoff": RETRY.1});
        let main = id(environment, &business.subscription);
        resources.push(resource(environment, main, Some(business), fields.clone(), vec![topic.clone()]));
        if let Some(priority) = &business.priority_subscription {
            // The main subscription has no filter, since a filter can never be changed: a priority message comes
            // on both, and the second arrival finds the Job or its outcome.
            fields["filter"] = json!(format!("attributes.{} = \"true\"", names::ATTRIBUTE_PRIORITY));
            let priority = id(environment, priority);
            resources.push(resource(environment, priority, Some(business), fields, vec![topic]));
        }
    }
    resources
}

//! Notifications of new objects, from a bucket to a topic. Cloud Storage identifies a notification by a number and
//! cannot update one, so we identify ours by bucket and topic, and replace one to change it.

use std::collections::BTreeMap;

use contract::object;
use serde_json::{Value, json};

use super::*;
use crate::{change::Action, google::Method};

pub(crate) const RULES: Rules = Rules {
    noun: "notification",
    title: |id| format!("notification to {}", id.short()),
    api: Api::Storage,
    target: None,
    parent: no_parent,
    managed: |manage| manage.bucket,
    desired,
    is_first: false,
    mark: Mark::Nothing,
    immutable: &[],
    list: None,
    read: |id, _| Request::get(Api::Storage, collection(id)),
    view,
    limit: Some(Limit { count, refuse }),
    differences: by_field,
    phase: ready,
    denied: not_readable,
    absent_may_be_denied: false,
    create: Some(|new| create(new.id, new.fields)),
    is_created: Some(assigned::differs_only_in_others),
    update,
    is_eventual: false,
    delete,
    undelete: None,
    started_operation: no_operation,
    exclusive_operations: None,
    methods: Methods {
        read: &["storage.notifications.list"],
        create: &["storage.notifications.insert"],
        update: &["storage.notifications.insert", "storage.notifications.delete"],
        delete: &["storage.notifications.delete"],
    },
    explain: unchanged_error,
    removal: Removal::Deleted,
    role: "roles/storage.admin",
    lengths: None,
    on_itself: None,
    checks: &[],
};

/// Most configurations of a bucket for one kind of event; Cloud Storage refuses more.
const MAX_PER_BUCKET: usize = 10;
/// The kind of event.
const EVENT: &str = "OBJECT_FINALIZE";

fn desired(environment: &Environment) -> Vec<Resource> {
    let uploading = environment.businesses.iter().filter(|business| business.submit_on_upload);
    let notifications = uploading.map(|business| {
        let topic = topic::id(environment, &business.topic);
        let fields = json!({
            "topic": format!("//pubsub.googleapis.com/{}", topic.name),
            "event_types": [EVENT],
            "object_name_prefix": object::input_prefix(&business.name),
            // With the object's metadata, which holds the options.
            "payload_format": "JSON_API_V1",
            // Duplicates, which a creation whose answer was lost leaves.
            "others": [],
        });
        let id = Id::new(Kind::Notification, format!("{}/notificationConfigs/{}", business.bucket, business.topic));
        // Cloud Storage creates a notification only if its agent may publish.
        let after = vec![bucket::id(&business.bucket), topic.clone(), topic.policy()];
        resource(environment, id, Some(business), fields, after)
    });
    notifications.collect()
}

/// Those of a bucket that go to the desired topic.
fn view(desired: &Value, answer: Value) -> Option<Value> {
    let items = answer["items"].as_array().into_iter().flatten();
    assigned::shown(desired, items.filter(|item| item["topic"] == desired["topic"]).collect(), "id")
}

/// How many of new objects the bucket has.
fn count(id: &Id, answer: &Value) -> (String, usize) {
    let is_of_new = |item: &&Value| {
        let events = item["event_types"].as_array();
        events.is_none_or(|events| events.is_empty() || events.contains(&json!(EVENT)))
    };
    let items = answer["items"].as_array().into_iter().flatten();
    (bucket_name(id).to_owned(), items.filter(is_of_new).count())
}

fn refuse(changes: &mut [Change], counts: &BTreeMap<String, usize>) {
    let mut counts = counts.clone();
    let created = |change: &&mut Change| change.id.kind == Kind::Notification && change.action == Action::Create;
    for change in changes.iter_mut().filter(created) {
        let bucket = bucket_name(&change.id).to_owned();
        let count = counts.entry(bucket.clone()).or_default();
        *count += 1;
        if *count > MAX_PER_BUCKET {
            let reason = format!(
                "the bucket {bucket} would notify more than {MAX_PER_BUCKET} topics of new objects, which is the limit \
                 of Cloud Storage; give the business a `bucket` of its own, or leave `submit_on_upload` out"
            );
            change.action = Action::Blocked { code: "too-many-notifications", reason };
        }
    }
}

fn create(id: &Id, fields: &Value) -> Request {
    Request::new(Api::Storage, Method::Post, collection(id)).body(assigned::body(fields))
}

/// Creates the right notification first, then deletes the others.
fn update(id: &Id, desired: &Value, live: &Value, _: &[String]) -> Vec<Request> {
    match assigned::differs_only_in_others(desired, live) {
        true => assigned::others(live).map(|other| delete_one(id, other)).collect(),
        false => std::iter::once(create(id, desired)).chain(delete(id, live)).collect(),
    }
}

/// Deletes one and its duplicates.
fn delete(id: &Id, live: &Value) -> Vec<Request> {
    live["id"].as_str().into_iter().chain(assigned::others(live)).map(|other| delete_one(id, other)).collect()
}

fn delete_one(id: &Id, number: &str) -> Request {
    Request::new(Api::Storage, Method::Delete, format!("{}/{}", collection(id), escape(number)))
}

/// Path of all notifications of the bucket.
fn collection(id: &Id) -> String {
    format!("storage/v1/b/{}/notificationConfigs", escape(bucket_name(id)))
}

fn bucket_name(id: &Id) -> &str {
    id.name.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_is_deleted_and_a_wrong_one_is_replaced() {
        let id = Id::new(Kind::Notification, "b/notificationConfigs/t");
        let fields = json!({"topic": "//t", "object_name_prefix": "bu1/input/", "others": []});
        let other = json!({"id": "1", "topic": "//other"});
        let wrong = json!({"id": "2", "topic": "//t", "object_name_prefix": "bu1/"});
        let right = json!({"id": "3", "topic": "//t", "object_name_prefix": "bu1/input/"});
        let seen = |items: &[&Value]| view(&fields, json!({"items": items}));
        let lines = |items: &[&Value]| {
            let requests = update(&id, &fields, &seen(items).unwrap(), &[]);
            requests.iter().map(|request| request.to_string().replace("storage/v1/b/b/", "")).collect::<Vec<_>>()
        };
        assert_eq!(seen(&[&other]), None);
        assert_eq!(lines(&[&other, &wrong, &right]), ["DELETE notificationConfigs/2"]);
        assert_eq!(lines(&[&wrong]), ["POST notificationConfigs", "DELETE notificationConfigs/2"]);
        assert_eq!(lines(&[&right]), Vec::<String>::new());
    }
}

//! Notifications of new objects, from a bucket to a topic. Cloud Storage identifies a notification by a number and
//! cannot update one, so we identify ours by bucket and topic, and replace one to change it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    change::{Action, Change, field_differences},
    google::{Api, Client, Error, Method, Request, escape},
    observation::Live,
    resource::{Desired, Id, Kind, Resource},
};

/// Most configurations of a bucket for one kind of event; Cloud Storage refuses more.
pub const MAX_PER_BUCKET: usize = 10;
/// The kind of event.
const EVENT: &str = "OBJECT_FINALIZE";

/// Reads the notifications among `desired`: how each is, and how many each bucket has for new objects.
///
/// # Errors
/// When a bucket cannot be asked.
pub async fn observe(
    client: &Client,
    desired: &[Resource],
) -> Result<(BTreeMap<Id, Live>, BTreeMap<String, usize>), Error> {
    let resources = || desired.iter().filter(|resource| resource.id.kind == Kind::Notification);
    let buckets: BTreeSet<&str> = resources().map(|resource| bucket(&resource.id)).collect();
    let lists = buckets.into_iter().map(|bucket| async move {
        match client.send(&list(bucket)).await {
            Ok(answer) => Ok((bucket, Ok(answer["items"].as_array().cloned().unwrap_or_default()))),
            Err(error) if error.is_not_found() => Ok((bucket, Ok(vec![]))),
            Err(error) if error.is_forbidden() => Ok((bucket, Err(error.to_string()))),
            Err(error) => Err(error),
        }
    });
    let lists: BTreeMap<&str, Result<Vec<Value>, String>> =
        futures::future::try_join_all(lists).await?.into_iter().collect();
    let mut live = BTreeMap::new();
    for resource in resources() {
        let found = match lists.get(bucket(&resource.id)) {
            Some(Ok(items)) => view(&resource.desired, items).map_or(Live::Absent, Live::Present),
            Some(Err(reason)) => Live::Denied(reason.clone()),
            None => Live::Absent,
        };
        live.insert(resource.id.clone(), found);
    }
    let counts = lists.iter().filter_map(|(bucket, items)| {
        let items = items.as_ref().ok()?;
        Some(((*bucket).to_owned(), items.iter().filter(|item| tells_of_new(item)).count()))
    });
    Ok((live, counts.collect()))
}

/// Refuses, before anything is written, more notifications than a bucket can have.
pub(crate) fn refuse_too_many(changes: &mut [Change], counts: &BTreeMap<String, usize>) {
    let mut counts = counts.clone();
    for change in changes.iter_mut().filter(|change| change.id.kind == Kind::Notification) {
        if change.action != Action::Create {
            continue;
        }
        let bucket = bucket(&change.id).to_owned();
        let count = counts.entry(bucket.clone()).or_default();
        *count += 1;
        if *count > MAX_PER_BUCKET {
            let reason = format!(
                "the bucket {bucket} would notify more than {MAX_PER_BUCKET} topics of new objects, which is the limit \
                 of Cloud Storage; give the business a `bucket` of its own, or leave `submit_on_upload` out"
            );
            change.action = Action::Blocked { reason };
        }
    }
}

/// Reads all of a bucket.
pub(crate) fn list(bucket: &str) -> Request {
    Request::get(Api::Storage, format!("storage/v1/b/{}/notificationConfigs", escape(bucket)))
}

/// Makes one.
pub(crate) fn create(id: &Id, fields: &Value) -> Request {
    let path = format!("storage/v1/b/{}/notificationConfigs", escape(bucket(id)));
    let mut body = fields.clone();
    // A word of ours, for what should not be there beside it.
    if let Some(body) = body.as_object_mut() {
        body.remove("others");
    }
    Request::new(Api::Storage, Method::Post, path).body(body)
}

/// Makes one, and no second one when only the answer was lost: Cloud Storage would take both.
///
/// # Errors
/// The last error of the creation, or of the read that follows it.
pub(crate) async fn make(client: &Client, id: &Id, desired: &Desired, fields: &Value) -> Result<Value, Error> {
    let once = client.once();
    let mut attempt = 1;
    loop {
        match once.send(&create(id, fields)).await {
            Err(error) if error.is_transient() && attempt < client.retry().attempts => {
                tokio::time::sleep(client.retry().pause(attempt)).await;
                attempt += 1;
            }
            answer => return answer,
        }
        let answer = client.send(&list(bucket(id))).await?;
        let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(live) = view(desired, items)
            // A wrong one may still be beside it, and goes later.
            && field_differences(fields, &live).iter().all(|difference| difference.field == "others")
        {
            return Ok(live);
        }
    }
}

/// Requests that turn `live` into `fields`: they create the right notification first, then delete the others.
pub(crate) fn updates(id: &Id, fields: &Value, live: &Value) -> Vec<Request> {
    let right = field_differences(fields, live).iter().all(|difference| difference.field == "others");
    let others = live["others"].as_array().cloned().unwrap_or_default();
    match right {
        true => others.iter().map(|other| delete_one(id, other)).collect(),
        false => std::iter::once(create(id, fields)).chain(deletes(id, live)).collect(),
    }
}

/// Deletes one and its doubles.
pub(crate) fn deletes(id: &Id, live: &Value) -> Vec<Request> {
    let others = live["others"].as_array().into_iter().flatten();
    std::iter::once(&live["id"]).filter(|id| !id.is_null()).chain(others).map(|other| delete_one(id, other)).collect()
}

fn delete_one(id: &Id, number: &Value) -> Request {
    let number = number.as_str().unwrap_or_default();
    let path = format!("storage/v1/b/{}/notificationConfigs/{}", escape(bucket(id)), escape(number));
    Request::new(Api::Storage, Method::Delete, path)
}

/// What of a bucket's notifications goes to the wanted topic: the one that is as it should be, or else the first, with
/// the numbers of its doubles as `others`. A creation whose answer was lost leaves such.
pub(crate) fn view(desired: &Desired, items: &[Value]) -> Option<Value> {
    let Desired::Fields(fields) = desired else { return None };
    let mut ours: Vec<&Value> = items.iter().filter(|item| item["topic"] == fields["topic"]).collect();
    let right = |item: &&Value| field_differences(fields, item).is_empty();
    let first = ours.iter().position(right).unwrap_or(0);
    if ours.is_empty() {
        return None;
    }
    let mut shown = ours.remove(first).clone();
    shown["others"] = ours.iter().map(|other| other["id"].clone()).collect();
    Some(shown)
}

fn bucket(id: &Id) -> &str {
    id.name.split('/').next().unwrap_or_default()
}

fn tells_of_new(item: &Value) -> bool {
    let events = item["event_types"].as_array();
    events.is_none_or(|events| events.is_empty() || events.contains(&json!(EVENT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_goes_and_a_wrong_one_is_replaced() {
        let id = Id::new(Kind::Notification, "b/notificationConfigs/t");
        let fields = json!({"topic": "//t", "object_name_prefix": "bu1/input/", "others": []});
        let desired = Desired::Fields(fields.clone());
        let other = json!({"id": "1", "topic": "//other"});
        let wrong = json!({"id": "2", "topic": "//t", "object_name_prefix": "bu1/"});
        let right = json!({"id": "3", "topic": "//t", "object_name_prefix": "bu1/input/"});
        let lines = |items: &[Value]| {
            let live = view(&desired, items).unwrap();
            let requests = updates(&id, &fields, &live);
            requests.iter().map(|request| request.to_string().replace("storage/v1/b/b/", "")).collect::<Vec<_>>()
        };
        assert_eq!(view(&desired, std::slice::from_ref(&other)), None);
        assert_eq!(lines(&[other.clone(), wrong.clone(), right.clone()]), ["DELETE notificationConfigs/2"]);
        assert_eq!(lines(std::slice::from_ref(&wrong)), ["POST notificationConfigs", "DELETE notificationConfigs/2"]);
        assert_eq!(lines(&[right]), Vec::<String>::new());
    }
}

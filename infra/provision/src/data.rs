//! What businesses have in the bucket and in Pub/Sub: counted before anything goes, and deleted when asked.

use std::collections::BTreeMap;

use anyhow::Context as _;
use cloud::storage::Store;
use contract::{config, labels};
use futures::{TryStreamExt as _, future};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use sessions::jobs;

use crate::{
    cloud::Cloud,
    environment::Business,
    failure::Failure,
    google::{Api, Method, Request},
    lock,
};

/// Objects deleted at once.
const DELETES: usize = 32;
/// Limit of the messages that are read.
const MESSAGES: usize = 100;

/// What a business has in its bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stock {
    /// Objects by the part of the business they are in: `input`, `output`, `outcome`, …
    pub objects: BTreeMap<String, usize>,
    /// Bytes of them all.
    pub bytes: i64,
    /// Inputs without an outcome: they wait, or their Job runs.
    pub unsettled: usize,
}

impl Stock {
    /// How many objects there are.
    pub fn total(&self) -> usize {
        self.objects.values().sum()
    }
}

/// Counts the objects of a business. A bucket that does not exist holds none.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn stock(store: &Store, business: &Business) -> anyhow::Result<Stock> {
    let name = &business.name;
    let context = || format!("count the objects of {name} in {}", business.bucket);
    let mut stock = Stock::default();
    let prefix = format!("{name}/");
    let objects = match store.list(&business.bucket, &prefix).await {
        Ok(objects) => objects,
        Err(error) if is_absent(&error) => return Ok(stock),
        Err(error) => return Err(error).with_context(context),
    };
    let expired_before = Some(config::expired_before(business.retention.outcome_days, Timestamp::now()));
    let mut seen = jobs::Objects { expired_before, ..jobs::Objects::default() };
    for object in objects {
        let part = object.name[prefix.len()..].split('/').next().unwrap_or_default().to_owned();
        stock.bytes += object.size;
        *stock.objects.entry(part.clone()).or_default() += 1;
        match part.as_str() {
            "input" => seen.inputs.push(object),
            "outcome" => seen.outcomes.push(object),
            _ => {}
        }
    }
    let jobs = jobs::merge(name, None, &seen, &[]);
    stock.unsettled = jobs.iter().filter(|job| job.state == Some(jobs::State::Waiting)).count();
    Ok(stock)
}

/// Deletes every object under a prefix (all of the bucket without one), and returns their number.
///
/// # Errors
/// When the bucket cannot be listed or an object not be deleted.
pub async fn delete(store: &Store, bucket: &str, prefix: &str) -> anyhow::Result<usize> {
    let context = || format!("delete the objects under {prefix:?} of {bucket}");
    let deleted = store
        .list_stream(bucket, prefix)
        // The lock object of this run is deleted last.
        .try_filter(|object| future::ready(object.name != lock::OBJECT))
        .map_ok(|object| async move { store.delete(bucket, &object.name, object.generation).await })
        .try_buffer_unordered(DELETES)
        .try_fold(0, |count, _| async move { Ok(count + 1) })
        .await;
    match deleted {
        Err(error) if is_absent(&error) => Ok(0),
        deleted => deleted.with_context(context),
    }
}

/// Messages of a business that only Pub/Sub holds, as far as one read shows: they have no input in the bucket.
/// The messages are released at once.
///
/// # Errors
/// When Pub/Sub cannot be asked, or denies the read: unread messages would be lost with the subscription.
pub async fn held_messages(cloud: &Cloud, project: &str, business: &Business) -> anyhow::Result<usize> {
    let mut count = 0;
    for subscription in [Some(&business.subscription), business.priority_subscription.as_ref()].into_iter().flatten() {
        let path = format!("v1/projects/{project}/subscriptions/{subscription}");
        let context = || format!("read the messages of {subscription}");
        let post =
            |verb: &str, body: Value| Request::new(Api::Pubsub, Method::Post, format!("{path}:{verb}")).body(body);
        let pulled =
            cloud.google.send(&post("pull", json!({"maxMessages": MESSAGES, "returnImmediately": true}))).await;
        let pulled = match pulled {
            Err(error) if error.is_not_found() => continue,
            // Without any permission on it, the answer does not say whether it exists.
            Err(error) if error.is_forbidden() => match cloud.google.send(&Request::get(Api::Pubsub, &path)).await {
                Err(other) if other.is_not_found() => continue,
                _ => return Err(unseen(&business.name, subscription, &error.to_string()).into()),
            },
            pulled => pulled.with_context(context)?,
        };
        let messages = pulled["receivedMessages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() {
            continue;
        }
        let ids: Vec<&Value> = messages.iter().map(|message| &message["ackId"]).collect();
        let given_back = post("modifyAckDeadline", json!({"ackIds": ids, "ackDeadlineSeconds": 0}));
        cloud.google.send(&given_back).await.with_context(context)?;
        count += messages.iter().filter(|message| is_alone(&message["message"]["attributes"])).count();
    }
    Ok(count)
}

/// Messages that could not be read.
fn unseen(business: &str, subscription: &str, why: &str) -> Failure {
    Failure {
        code: "pending",
        what: format!("whether messages of {business} wait with the input in themselves cannot be seen"),
        on: subscription.to_owned(),
        why: format!("they would be lost with the subscription, and you may not read them: {why}"),
        next: "get roles/pubsub.subscriber on it (`gcloud pubsub subscriptions add-iam-policy-binding`), or accept the loss of \
               what is there with --cancel"
            .to_owned(),
    }
}

/// Whether a message with these attributes carries its input itself.
fn is_alone(attributes: &Value) -> bool {
    attributes[labels::ATTRIBUTE_DESKGRID].is_null() && attributes["eventType"].is_null()
}

fn is_absent(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref().is_some_and(cloud::storage::is_not_found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_without_an_input_are_alone() {
        assert!(is_alone(&Value::Null));
        assert!(is_alone(&json!({"who": "a person"})));
        assert!(!is_alone(&json!({"deskgrid": "1"})));
        assert!(!is_alone(&json!({"eventType": "OBJECT_FINALIZE"})));
    }
}

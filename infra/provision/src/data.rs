//! What businesses have in the bucket and in Pub/Sub: counted before anything goes, and deleted when asked.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cloud::storage::Store;
use contract::{config, labels};
use futures::{TryStreamExt as _, future};
use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::api::ListParams;
use serde::Serialize;
use serde_json::{Value, json};
use sessions::jobs;

use crate::{
    cloud::Cloud,
    deploy::{ENVIRONMENT, ORCHESTRATOR},
    environment::Business,
    failure::Failure,
    google::{Api, Method, Request},
    lock,
    plan::{Action, Change, Plan},
    resource::{Id, Kind},
};

/// The methods with which a removal counts and deletes what a business has.
pub(crate) const METHODS: &[&str] = &[
    "storage.objects.list",
    "storage.objects.delete",
    "pubsub.projects.subscriptions.get",
    "pubsub.projects.subscriptions.pull",
    "pubsub.projects.subscriptions.modifyAckDeadline",
];
/// Objects deleted at once.
const DELETES: usize = 32;
/// Limit of the messages that are read.
const MESSAGES: usize = 100;
/// Pulls that may wait in vain, after one that does not wait, before a subscription counts as empty.
const PULLS: usize = 3;
/// How long these wait for a message, together.
const PULLS_WAIT: Duration = Duration::from_secs(6);

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

/// Messages of a business that only Pub/Sub holds: they have no input in the bucket.
/// The messages are released at once.
///
/// # Errors
/// When Pub/Sub cannot be asked, or denies the read: unread messages would be lost with the subscription.
pub async fn held_messages(cloud: &Cloud, project: &str, business: &Business) -> anyhow::Result<usize> {
    let names = [Some(&business.subscription), business.priority_subscription.as_ref()];
    let counts = names.into_iter().flatten().map(async |subscription| {
        let subscription = Id::new(Kind::Subscription, format!("projects/{project}/subscriptions/{subscription}"));
        let messages = undelivered(cloud, &business.name, &subscription).await?;
        anyhow::Ok(messages.iter().filter(|message| is_alone(&message["message"]["attributes"])).count())
    });
    Ok(future::try_join_all(counts).await?.into_iter().sum())
}

/// Checks that no subscription that a plan deletes, or deletes and creates again, holds undelivered messages: nobody
/// would deliver them any more.
///
/// # Errors
/// When one does; when an orchestrator may have leased some; as [`held_messages`].
pub async fn check_messages(cloud: &Cloud, plan: &Plan, has_cluster: bool) -> anyhow::Result<()> {
    let client = has_cluster.then(|| cloud.cluster()).transpose()?;
    let deletes = |change: &&Change| {
        change.id.kind == Kind::Subscription && matches!(change.action, Action::Delete | Action::Replace)
    };
    let checks = plan.changes.iter().filter(deletes).map(async |change| {
        let (business, name) = (change.business.as_deref().unwrap_or_default(), change.id.short());
        let has_orchestrator = match client.filter(|_| change.action == Action::Delete) {
            Some(client) => has_orchestrator(client, &plan.environment, business).await?,
            None => false,
        };
        let why = match undelivered(cloud, business, &change.id).await?.len() {
            0 if has_orchestrator => format!(
                "its orchestrator is still deployed and may hold messages of {name}; put {business} back into the \
                 environment file and run `cargo xtask remove-business {business}`, or run `cargo xtask deploy` first, \
                 which removes the orchestrator"
            ),
            0 => return Ok(()),
            1 => format!("1 message in {name} was not delivered, and would be lost with the subscription"),
            MESSAGES => format!("{MESSAGES} messages or more in {name} were not delivered, and would be lost with it"),
            count => format!("{count} messages in {name} were not delivered, and would be lost with the subscription"),
        };
        Err(anyhow::Error::new(pending(business, why)))
    });
    future::try_join_all(checks).await?;
    Ok(())
}

/// Whether the cluster has an orchestrator of a business of this environment.
async fn has_orchestrator(client: &kube::Client, environment: &str, business: &str) -> anyhow::Result<bool> {
    let context = || format!("find the orchestrator of {business}");
    let ours = ListParams::default().labels(&format!("{}={business},{ENVIRONMENT}={environment}", labels::BUSINESS));
    let namespaces = kube::Api::<Namespace>::all(client.clone()).list(&ours).await.with_context(context)?;
    for namespace in namespaces.items.into_iter().filter_map(|namespace| namespace.metadata.name) {
        let deployments: kube::Api<Deployment> = kube::Api::namespaced(client.clone(), &namespace);
        if deployments.get_opt(ORCHESTRATOR).await.with_context(context)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The undelivered messages of a subscription, at most [`MESSAGES`]; they are released at once.
async fn undelivered(cloud: &Cloud, business: &str, subscription: &Id) -> anyhow::Result<Vec<Value>> {
    let (path, name) = (format!("v1/{}", subscription.name), subscription.short());
    let context = || format!("read the messages of {name}");
    let post = |verb: &str, body: Value| Request::new(Api::Pubsub, Method::Post, format!("{path}:{verb}")).body(body);
    let wait = PULLS_WAIT.min(cloud.google.retry().longest);
    let mut end = None;
    // A pull may return no message although there are some, so one empty answer proves nothing. Pub/Sub must answer the
    // first pull; the others wait for a message. Only the last one is abandoned: an abandoned pull may lease a message,
    // which the next one would not see.
    for round in 0..=PULLS {
        let pull = post("pull", json!({"maxMessages": MESSAGES, "returnImmediately": round == 0}));
        let limit = if round == 0 {
            Duration::MAX
        } else {
            end.get_or_insert_with(|| Instant::now() + wait).saturating_duration_since(Instant::now())
        };
        let pulled = match tokio::time::timeout(limit, cloud.google.send(&pull)).await {
            // Nothing came while it waited.
            Err(_) => return Ok(Vec::new()),
            Ok(Err(error)) if error.is_not_found() => return Ok(Vec::new()),
            // Without any permission on it, the answer does not say whether it exists.
            Ok(Err(error)) if error.is_forbidden() => {
                return match cloud.google.send(&Request::get(Api::Pubsub, &path)).await {
                    Err(other) if other.is_not_found() => Ok(Vec::new()),
                    _ => Err(unseen(business, name, &error.to_string()).into()),
                };
            }
            Ok(pulled) => pulled.with_context(context)?,
        };
        let messages = pulled["receivedMessages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() {
            continue;
        }
        let ids: Vec<&Value> = messages.iter().map(|message| &message["ackId"]).collect();
        let released = post("modifyAckDeadline", json!({"ackIds": ids, "ackDeadlineSeconds": 0}));
        cloud.google.send(&released).await.with_context(context)?;
        return Ok(messages);
    }
    Ok(Vec::new())
}

/// Work that a removal would lose.
pub fn pending(business: &str, why: String) -> Failure {
    Failure {
        code: "pending",
        what: format!("work of {business} is pending"),
        on: business.to_owned(),
        why,
        next: "wait until it is done (`cargo xtask status`), or accept its loss with --cancel".to_owned(),
    }
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

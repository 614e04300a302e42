//! How the topics and subscriptions of a business are set.

use std::time::Duration;

use anyhow::Context as _;
use contract::config::Business;
use tokio::time::timeout;

use crate::{raw::PubsubItem, state::State};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The topics and subscriptions of a business, with their settings or why these cannot be read.
pub(super) async fn items(state: &State, business: &Business) -> Vec<PubsubItem> {
    let topics = [("messages in", &business.topic), ("outcomes out", &business.events_topic)];
    let priority = business.priority_subscription.iter().map(|name| ("drained first", name));
    let subscriptions = priority.chain([("feeds the orchestrator", &business.subscription)]);
    let topics = futures::future::join_all(topics.map(|(role, name)| topic_item(state, role, name)));
    let subscriptions: Vec<_> = subscriptions.map(|(role, name)| subscription_item(state, role, name)).collect();
    let (mut items, subscriptions) = tokio::join!(topics, futures::future::join_all(subscriptions));
    items.extend(subscriptions);
    items
}

async fn topic_item(state: &State, role: &'static str, name: &str) -> PubsubItem {
    item("topic", role, name, topic_settings(state, name).await)
}

async fn subscription_item(state: &State, role: &'static str, name: &str) -> PubsubItem {
    item("subscription", role, name, subscription_settings(state, name).await)
}

fn item(
    kind: &'static str,
    role: &'static str,
    name: &str,
    settings: anyhow::Result<Vec<(&'static str, String)>>,
) -> PubsubItem {
    let name = name.to_owned();
    match settings {
        Ok(settings) => {
            let settings = settings.into_iter().filter(|(_, value)| !value.is_empty());
            let settings = settings.map(|(setting, value)| (setting.to_owned(), value)).collect();
            PubsubItem { kind, role, name, settings, error: String::new() }
        }
        Err(error) => PubsubItem { kind, role, name, settings: Vec::new(), error: format!("{error:#}") },
    }
}

async fn topic_settings(state: &State, name: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    let reply = state.topics.get_topic().set_topic(name).send();
    let topic = timeout(PATIENCE, reply).await.context("no answer in time")??;
    let regions = topic.message_storage_policy.map(|policy| policy.allowed_persistence_regions.join(", "));
    Ok(vec![
        ("kept for", topic.message_retention_duration.map(duration).unwrap_or_default()),
        ("key", topic.kms_key_name),
        ("regions", regions.unwrap_or_default()),
    ])
}

async fn subscription_settings(state: &State, name: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
    let reply = state.subscriptions.get_subscription().set_subscription(name).send();
    let subscription = timeout(PATIENCE, reply).await.context("no answer in time")??;
    let retry = subscription.retry_policy.map(|policy| {
        let text = |time: Option<google_cloud_wkt::Duration>| time.map(duration).unwrap_or_default();
        format!("{} to {}", text(policy.minimum_backoff), text(policy.maximum_backoff))
    });
    let expires = match subscription.expiration_policy.and_then(|policy| policy.ttl) {
        Some(ttl) => format!("after {} unused", duration(ttl)),
        None => "never".to_owned(),
    };
    Ok(vec![
        ("topic", subscription.topic.rsplit('/').next().unwrap_or_default().to_owned()),
        ("filter", subscription.filter),
        ("ack deadline", format!("{} s", subscription.ack_deadline_seconds)),
        ("kept for", subscription.message_retention_duration.map(duration).unwrap_or_default()),
        ("retry", retry.unwrap_or_else(|| "at once".to_owned())),
        ("expires", expires),
        ("ordered", if subscription.enable_message_ordering { "yes".to_owned() } else { String::new() }),
    ])
}

fn duration(time: google_cloud_wkt::Duration) -> String {
    inspect::text::duration(jiff::SignedDuration::new(time.seconds(), time.nanos()))
}

//! Whether the topics and subscriptions of a business exist: Pub/Sub accepts messages for a topic that nobody reads.

use std::fmt;

use contract::config::Business;
use futures::future::try_join_all;
use google_cloud_gax::error::{Error, rpc::Code};

use crate::clients::Connection;

/// What a subscription names as its topic once that was deleted.
pub const DELETED_TOPIC: &str = "_deleted-topic_";

/// A part of the queue that cannot do its work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The topic does not exist.
    Topic(String),
    /// The subscription does not exist.
    Subscription(String),
    /// The topic of the subscription was deleted; one of the same name that was created later does not reach it.
    Detached(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        match self {
            Self::Topic(name) => write!(f, "the topic {} does not exist", short(name)),
            Self::Subscription(name) => write!(f, "the subscription {} does not exist", short(name)),
            Self::Detached(name) => write!(f, "the topic of the subscription {} was deleted", short(name)),
        }
    }
}

/// What is missing between a client of a business and its orchestrator.
///
/// # Errors
/// As [`missing`].
pub async fn missing_intake(connection: &Connection, business: &Business) -> anyhow::Result<Vec<Missing>> {
    missing(connection, &[&business.topic], &[&business.subscription]).await
}

/// What is missing of everything that a business has in Pub/Sub.
///
/// # Errors
/// As [`missing`].
pub async fn missing_any(connection: &Connection, business: &Business) -> anyhow::Result<Vec<Missing>> {
    let subscriptions: Vec<&str> = [Some(&business.subscription), business.priority_subscription.as_ref()]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    missing(connection, &[&business.topic, &business.events_topic], &subscriptions).await
}

/// Those of these topics and subscriptions that are missing. One that the caller may not read counts as present.
///
/// # Errors
/// When Pub/Sub does not answer.
async fn missing(connection: &Connection, topics: &[&str], subscriptions: &[&str]) -> anyhow::Result<Vec<Missing>> {
    let (topic_admin, subscription_admin) =
        tokio::try_join!(connection.topic_admin(), connection.subscription_admin())?;
    let topics = try_join_all(topics.iter().map(async |name| {
        let topic = topic_admin.get_topic().set_topic(*name).send().await;
        anyhow::Ok(existing(topic)?.err().map(|()| Missing::Topic((*name).to_owned())))
    }));
    let subscriptions = try_join_all(subscriptions.iter().map(async |name| {
        let found = existing(subscription_admin.get_subscription().set_subscription(*name).send().await)?;
        anyhow::Ok(match found {
            Err(()) => Some(Missing::Subscription((*name).to_owned())),
            Ok(Some(found)) if found.topic == DELETED_TOPIC => Some(Missing::Detached((*name).to_owned())),
            Ok(_) => None,
        })
    }));
    let (topics, subscriptions) = tokio::try_join!(topics, subscriptions)?;
    Ok(topics.into_iter().chain(subscriptions).flatten().collect())
}

/// What was read; nothing when the read is denied, an error inside when it does not exist.
fn existing<T>(read: Result<T, Error>) -> Result<Result<Option<T>, ()>, Error> {
    match read {
        Ok(found) => Ok(Ok(Some(found))),
        Err(error) => match error.status().map(|status| status.code) {
            Some(Code::NotFound) => Ok(Err(())),
            Some(Code::PermissionDenied) => Ok(Ok(None)),
            _ => Err(error),
        },
    }
}

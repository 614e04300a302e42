//! Whether the topics and subscriptions of a business exist: Pub/Sub accepts messages for a topic that nobody reads.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use contract::config::Business;
use futures::future::try_join_all;
use google_cloud_gax::{
    error::{Error, rpc::Code},
    paginator::ItemPaginator as _,
};

use crate::clients::Connection;

/// What a subscription names as its topic once that was deleted.
pub const DELETED_TOPIC: &str = "_deleted-topic_";

/// How long [`Intake`] keeps a good answer.
const KEPT: Duration = Duration::from_secs(30);

/// A part of the queue that cannot do its work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// The topic does not exist.
    Topic(String),
    /// The subscription does not exist.
    Subscription(String),
    /// The topic has no such subscription.
    Unattached(String),
    /// The topic of the subscription was deleted; one of the same name that was created later does not reach it.
    Detached(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        match self {
            Self::Topic(name) => write!(f, "the topic {} does not exist", short(name)),
            Self::Subscription(name) => write!(f, "the subscription {} does not exist", short(name)),
            Self::Unattached(name) => write!(f, "the topic has no subscription {}", short(name)),
            Self::Detached(name) => write!(f, "the topic of the subscription {} was deleted", short(name)),
        }
    }
}

/// What is missing between a client of a business and its orchestrator, as the topic knows it: a client may read its
/// topic, and the permission on a subscription is deleted with it. A topic that the caller may not read counts as whole.
///
/// # Errors
/// When Pub/Sub does not answer.
pub async fn missing_intake(connection: &Connection, business: &Business) -> anyhow::Result<Vec<Missing>> {
    let mut attached = Vec::new();
    let topic = connection.topic_admin().await?;
    let mut names = topic.list_topic_subscriptions().set_topic(&business.topic).by_item();
    while let Some(name) = names.next().await {
        match existing(name)? {
            Ok(Some(name)) => attached.push(name),
            Ok(None) => return Ok(Vec::new()),
            Err(()) => return Ok(vec![Missing::Topic(business.topic.clone())]),
        }
    }
    let lacks = |name: &&str| !attached.iter().any(|attached| attached == name);
    Ok(subscriptions(business).into_iter().filter(lacks).map(|name| Missing::Unattached(name.to_owned())).collect())
}

/// Checks the way to orchestrators, and keeps a good answer for half a minute: a form may send hundreds of inputs.
#[derive(Debug)]
pub struct Intake {
    connection: Connection,
    /// When nothing was missing, by business.
    whole: Mutex<BTreeMap<String, Instant>>,
}

impl Intake {
    /// For the businesses that a connection reaches.
    pub fn new(connection: Connection) -> Self {
        Self { connection, whole: Mutex::default() }
    }

    /// As [`missing_intake`].
    ///
    /// # Errors
    /// As [`missing_intake`].
    pub async fn missing(&self, business: &Business) -> anyhow::Result<Vec<Missing>> {
        let whole = || self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if whole().get(&business.name).is_some_and(|checked| checked.elapsed() < KEPT) {
            return Ok(Vec::new());
        }
        let missing = missing_intake(&self.connection, business).await?;
        if missing.is_empty() {
            whole().insert(business.name.clone(), Instant::now());
        }
        Ok(missing)
    }
}

/// What is missing of everything that a business has in Pub/Sub.
///
/// # Errors
/// As [`missing`].
pub async fn missing_any(connection: &Connection, business: &Business) -> anyhow::Result<Vec<Missing>> {
    missing(connection, &[&business.topic, &business.events_topic], &subscriptions(business)).await
}

fn subscriptions(business: &Business) -> Vec<&str> {
    let all = [Some(&business.subscription), business.priority_subscription.as_ref()];
    all.into_iter().flatten().map(String::as_str).collect()
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

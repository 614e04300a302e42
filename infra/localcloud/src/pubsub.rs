//! Pub/Sub: topics, subscriptions, delivery.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use jiff::Timestamp;
use prost::Message as _;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    google::{
        error::{Error, Result},
        grpc,
        page::{PageRequest, page},
    },
    identity::{Identity, Target, principal::Principal},
};

mod fields;
pub mod filter;
mod grpc_api;
mod keeper;
mod names;
pub mod persist;
pub mod queue;
pub mod rest;
pub mod settings;
pub mod span;
mod stream;
mod subscriptions;

use filter::Filter;
use queue::{Message, Queue};

/// Topic of a subscription whose topic was deleted.
pub const DELETED_TOPIC: &str = "_deleted-topic_";
/// Largest publish request and message, in bytes.
const PUBLISH_BYTES_MAX: usize = 10_000_000;
/// Most messages of a publish request.
const PUBLISH_MESSAGES_MAX: usize = 1000;
/// Longest ordering key, in bytes.
const ORDERING_KEY_MAX: usize = 1024;
/// Most resources on a page.
const PAGE_MAX: usize = 1000;

/// The whole service.
#[derive(Debug)]
pub struct Pubsub {
    identity: Arc<Identity>,
    enforce_api: bool,
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    subscriptions: RwLock<BTreeMap<String, Arc<Subscription>>>,
    last_message: AtomicU64,
    last_stream: AtomicU64,
    changes: AtomicU64,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A topic.
#[derive(Debug)]
struct Topic {
    settings: Mutex<settings::Topic>,
    subscriptions: Mutex<HashMap<String, Arc<Subscription>>>,
}

/// A subscription.
#[derive(Debug)]
struct Subscription {
    name: String,
    filter: Option<Filter>,
    inner: Mutex<Inner>,
    /// There may be something to deliver, or room for it.
    wake: Notify,
    /// The next deadline may have changed.
    timers: Notify,
    deleted: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    settings: settings::Subscription,
    queue: Queue,
    streams: usize,
    active: Timestamp,
}

/// How much a subscription holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Messages not acknowledged.
    pub messages: usize,
    /// Of those, leased to a receiver now.
    pub leased: usize,
    /// When the oldest was published.
    pub oldest: Option<Timestamp>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pubsub {
    /// An empty service.
    pub fn new(identity: Arc<Identity>, enforce_api: bool) -> Arc<Self> {
        let seed = identity.clock.now().as_microsecond().unsigned_abs();
        Arc::new(Self {
            identity,
            enforce_api,
            topics: RwLock::default(),
            subscriptions: RwLock::default(),
            last_message: AtomicU64::new(seed),
            last_stream: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Stops what runs in the background and closes every stream.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Counts changes, so that who saves knows whether to.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How much a subscription holds back; none when there is no such subscription.
    pub fn backlog(&self, subscription: &str) -> Option<Backlog> {
        let found = self.find_subscription(subscription).ok()?;
        let inner = lock(&found.inner);
        let oldest = inner.queue.messages().next().map(|message| message.published);
        Some(Backlog { messages: inner.queue.len(), leased: inner.queue.leased(), oldest })
    }

    /// Refuses a caller without the permission, in Pub/Sub's words.
    fn need(&self, caller: &Principal, permission: &str, target: &Target) -> Result<()> {
        if *caller == Principal::Anonymous {
            return Err(Error::unauthenticated());
        }
        if self.enforce_api {
            self.identity.need_service("pubsub.googleapis.com")?;
        }
        if self.identity.allowed(caller, permission, target) {
            return Ok(());
        }
        Err(Error::forbidden("User not authorized to perform this action."))
    }

    fn project_target(&self) -> Target {
        Target::project(self.identity.project())
    }

    fn check_project(&self, project: &str) -> Result<()> {
        if project == self.identity.project() {
            return Ok(());
        }
        Err(Error::not_found(format!(
            "Requested project not found or user does not have access to it (project={project}). Make sure to specify \
             the unique project identifier and not the Google Cloud Console display name."
        )))
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// 400, 403, 409.
    pub fn create_topic(&self, caller: &Principal, settings: settings::Topic) -> Result<settings::Topic> {
        let name = names::check("topics", &settings.name)?;
        self.check_project(name.project)?;
        self.need(caller, "pubsub.topics.create", &self.project_target())?;
        settings.check()?;
        // Pub/Sub takes keys of any location.
        let place = settings.kms_key_name.split('/').nth(3).unwrap_or_default().to_owned();
        self.identity.need_key("gcp-sa-pubsub", &settings.kms_key_name.as_str().into(), &place, |agent| {
            Error::failed_precondition(format!(
                "Cloud Pub/Sub did not have the necessary permissions configured to support this operation. Please \
                 verify that the service account {agent} was granted the Cloud KMS CryptoKey Encrypter/Decrypter role."
            ))
        })?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if topics.contains_key(&settings.name) {
            return Err(Error::exists(format!("Resource already exists in the project (resource={}).", name.id)));
        }
        let topic = Topic { settings: Mutex::new(settings.clone()), subscriptions: Mutex::default() };
        topics.insert(settings.name.clone(), Arc::new(topic));
        self.changed();
        Ok(settings)
    }

    fn find_topic(&self, name: &str) -> Result<Arc<Topic>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(name).cloned().ok_or_else(|| names::missing(name))
    }

    /// Whether a topic exists.
    pub(crate) fn has_topic(&self, name: &str) -> bool {
        self.find_topic(name).is_ok()
    }

    /// A topic's settings.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn get_topic(&self, caller: &Principal, name: &str) -> Result<settings::Topic> {
        names::check("topics", name)?;
        self.need(caller, "pubsub.topics.get", &names::topic_target(name))?;
        Ok(lock(&self.find_topic(name)?.settings).clone())
    }

    /// Changes a topic.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn update_topic(&self, caller: &Principal, from: settings::Topic, mask: &[String]) -> Result<settings::Topic> {
        names::check("topics", &from.name)?;
        self.need(caller, "pubsub.topics.update", &names::topic_target(&from.name))?;
        let topic = self.find_topic(&from.name)?;
        let mut settings = lock(&topic.settings);
        let mut changed = settings.clone();
        changed.update(from, mask)?;
        changed.check()?;
        settings.clone_from(&changed);
        self.changed();
        Ok(changed)
    }

    /// A page of topics.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn list_topics(
        &self,
        caller: &Principal,
        project: &str,
        request: &PageRequest,
    ) -> Result<(Vec<settings::Topic>, String)> {
        self.check_project(names::project(project)?)?;
        self.need(caller, "pubsub.topics.list", &self.project_target())?;
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        page(topics.iter().map(|(name, topic)| (name.clone(), lock(&topic.settings).clone())), request, PAGE_MAX)
    }

    /// A page of the names of a topic's subscriptions.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn list_topic_subscriptions(
        &self,
        caller: &Principal,
        topic: &str,
        request: &PageRequest,
    ) -> Result<(Vec<String>, String)> {
        names::check("topics", topic)?;
        self.need(caller, "pubsub.topics.get", &names::topic_target(topic))?;
        let topic = self.find_topic(topic)?;
        let mut names: Vec<String> = lock(&topic.subscriptions).keys().cloned().collect();
        names.sort_unstable();
        page(names.into_iter().map(|name| (name.clone(), name)), request, PAGE_MAX)
    }

    /// Deletes a topic; its subscriptions stay, without one.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn delete_topic(&self, caller: &Principal, name: &str) -> Result<()> {
        names::check("topics", name)?;
        self.need(caller, "pubsub.topics.delete", &names::topic_target(name))?;
        let topic = {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            topics.remove(name).ok_or_else(|| names::missing(name))?
        };
        for subscription in lock(&topic.subscriptions).values() {
            DELETED_TOPIC.clone_into(&mut lock(&subscription.inner).settings.topic);
        }
        self.identity.forget_policy(name);
        self.changed();
        Ok(())
    }

    /// Publishes messages and answers their ids.
    ///
    /// # Errors
    /// 400, 403, 404.
    pub fn publish(&self, caller: &Principal, topic: &str, messages: Vec<PubsubMessage>) -> Result<Vec<String>> {
        names::check("topics", topic)?;
        self.need(caller, "pubsub.topics.publish", &names::topic_target(topic))?;
        let topic = self.find_topic(topic)?;
        check_messages(&messages)?;
        let now = self.identity.clock.now();
        let subscriptions: Vec<Arc<Subscription>> = lock(&topic.subscriptions).values().cloned().collect();
        let messages: Vec<Arc<Message>> = messages
            .into_iter()
            .map(|mut content| {
                let id = self.last_message.fetch_add(1, Ordering::Relaxed) + 1;
                content.message_id = id.to_string();
                content.publish_time = Some(grpc::timestamp(now));
                let size_bytes = i64::try_from(content.encoded_len()).unwrap_or(i64::MAX);
                Arc::new(Message { id, content, size_bytes, published: now })
            })
            .collect();
        for subscription in subscriptions {
            subscription.offer(&messages);
        }
        self.changed();
        Ok(messages.iter().map(|message| message.content.message_id.clone()).collect())
    }
}

impl Subscription {
    fn offer(&self, messages: &[Arc<Message>]) {
        let mut inner = lock(&self.inner);
        let was_empty = inner.queue.is_empty();
        let mut added = false;
        for message in messages {
            if self.filter.as_ref().is_none_or(|filter| filter.matches(&message.content.attributes)) {
                inner.queue.push(message.clone());
                added = true;
            }
        }
        drop(inner);
        if added {
            self.wake.notify_waiters();
            if was_empty {
                self.timers.notify_one();
            }
        }
    }
}

fn check_messages(messages: &[PubsubMessage]) -> Result<()> {
    if messages.is_empty() || messages.len() > PUBLISH_MESSAGES_MAX {
        return Err(Error::invalid(format!(
            "The value for message_count is out of range. You passed {} in the request, but the value must be between 1 and {PUBLISH_MESSAGES_MAX}.",
            messages.len()
        )));
    }
    // <https://cloud.google.com/pubsub/docs/reference/rest/v1/PubsubMessage>
    let key = messages.first().map(|message| &message.ordering_key);
    if messages.iter().any(|message| Some(&message.ordering_key) != key) {
        return Err(Error::invalid(
            "In a single publish request, all messages must have no ordering key or they must all have the same \
             ordering key.",
        ));
    }
    if key.is_some_and(|key| key.len() > ORDERING_KEY_MAX) {
        return Err(Error::invalid(format!("An ordering key has at most {ORDERING_KEY_MAX} bytes.")));
    }
    let mut total = 0;
    for message in messages {
        if message.data.is_empty() && message.attributes.is_empty() {
            return Err(Error::invalid(
                "Some messages in the publish request did not contain either data or attributes. They must contain at \
                 least one of the two.",
            ));
        }
        if message.attributes.len() > 100
            || message
                .attributes
                .iter()
                .any(|(key, value)| key.is_empty() || key.len() > 256 || value.len() > 1024 || key.starts_with("goog"))
        {
            return Err(Error::invalid(
                "Message attributes: at most 100, keys of 1 to 256 bytes that do not begin with goog, values of at most 1024 bytes.",
            ));
        }
        total += message.encoded_len();
    }
    if total > PUBLISH_BYTES_MAX {
        return Err(Error::invalid(format!(
            "The value for data_size_bytes is too large. You passed {total} in the request, but the maximum value is {PUBLISH_BYTES_MAX}."
        )));
    }
    Ok(())
}

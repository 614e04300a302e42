//! What of Pub/Sub is saved: settings and the messages not acknowledged yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use jiff::Timestamp;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{
    Pubsub, Topic, lock,
    queue::{Message, Queue},
    settings,
};
use crate::google::{error::Result, grpc};

/// Everything, as it is saved. Leases are not: after a restart every message is ready again.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    topics: Vec<settings::Topic>,
    subscriptions: Vec<SavedSubscription>,
    /// Protobuf in base64, by id; subscriptions share them.
    messages: BTreeMap<u64, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedSubscription {
    settings: settings::Subscription,
    messages: Vec<u64>,
}

impl Pubsub {
    /// A copy of everything.
    pub fn snapshot(&self) -> Saved {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let mut saved =
            Saved { topics: topics.values().map(|topic| lock(&topic.settings).clone()).collect(), ..Saved::default() };
        drop(topics);
        let subscriptions = self.subscriptions.read().unwrap_or_else(PoisonError::into_inner);
        for subscription in subscriptions.values() {
            let inner = lock(&subscription.inner);
            let mut ids = Vec::with_capacity(inner.queue.len());
            for message in inner.queue.messages() {
                saved
                    .messages
                    .entry(message.id)
                    .or_insert_with(|| BASE64_STANDARD.encode(message.content.encode_to_vec()));
                ids.push(message.id);
            }
            saved.subscriptions.push(SavedSubscription { settings: inner.settings.clone(), messages: ids });
        }
        saved
    }

    /// Brings back what was saved.
    ///
    /// # Errors
    /// When saved settings are no longer valid.
    pub fn restore(self: &Arc<Self>, saved: Saved) -> Result<()> {
        let messages: BTreeMap<u64, Arc<Message>> =
            saved.messages.iter().filter_map(|(id, text)| Some((*id, Arc::new(read(*id, text)?)))).collect();
        if let Some(last) = messages.keys().next_back() {
            self.last_message.fetch_max(*last, Ordering::Relaxed);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        for settings in saved.topics {
            let name = settings.name.clone();
            topics.insert(name, Arc::new(Topic { settings: Mutex::new(settings), subscriptions: Mutex::default() }));
        }
        let mut subscriptions = self.subscriptions.write().unwrap_or_else(PoisonError::into_inner);
        for SavedSubscription { settings, messages: ids } in saved.subscriptions {
            let mut queue = Queue::default();
            for id in ids {
                if let Some(message) = messages.get(&id) {
                    queue.push(message.clone());
                }
            }
            let subscription = self.start(settings.clone(), queue)?;
            if let Some(topic) = topics.get(&settings.topic) {
                lock(&topic.subscriptions).insert(settings.name.clone(), subscription.clone());
            }
            subscriptions.insert(settings.name, subscription);
        }
        Ok(())
    }
}

fn read(id: u64, text: &str) -> Option<Message> {
    let content = PubsubMessage::decode(BASE64_STANDARD.decode(text).ok()?.as_slice()).ok()?;
    let published = content.publish_time.as_ref().and_then(grpc::time).unwrap_or(Timestamp::UNIX_EPOCH);
    let size_bytes = i64::try_from(content.encoded_len()).ok()?;
    Some(Message { id, content, size_bytes, published })
}

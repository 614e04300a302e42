//! Received messages.

use std::collections::BTreeMap;

use bytes::Bytes;
use contract::labels;
use google_cloud_pubsub::model::Message;
use jiff::Timestamp;

use crate::execute::job::Origin;

/// A received message.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) data: Bytes,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) published: Option<Timestamp>,
    pub(crate) received: Timestamp,
}

impl Received {
    /// A message as Pub/Sub sent it.
    pub(crate) fn new(message: Message, received: Timestamp) -> Self {
        let requested = message.attributes.get(labels::ATTRIBUTE_REQUESTED).and_then(|time| time.parse().ok());
        let requested = requested.filter(|_| message.attributes.contains_key(labels::ATTRIBUTE_DESKGRID));
        let published = message.publish_time.and_then(|time| Timestamp::new(time.seconds(), time.nanos()).ok());
        Self {
            id: message.message_id,
            data: message.data,
            attributes: message.attributes.into_iter().collect(),
            published: requested.or(published),
            received,
        }
    }

    /// Frees the bytes: messages wait in memory through failures.
    pub(crate) fn release(&mut self) {
        (self.data, self.attributes) = Default::default();
    }

    /// Content type of the payload.
    pub(crate) fn content_type(&self) -> &str {
        self.attributes.get("content-type").map_or("text/plain", String::as_str)
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin { message_id: self.id.clone(), published: self.published, received: self.received }
    }
}

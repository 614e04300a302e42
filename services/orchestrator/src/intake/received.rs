//! Received messages, and how many bytes their payloads hold in memory.
//!
//! A message has up to 10 MB, and many wait in memory through failures. So a payload is released as
//! soon as it is in the bucket, and while the payloads are too large no further message is received.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use contract::labels;
use google_cloud_pubsub::model::Message;
use jiff::Timestamp;

use crate::{base::Base, execute::job::Origin};

/// Bytes in memory from which no further message is received; the message that crosses the limit may have 10 MB.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A received message.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) payload: Payload,
    pub(crate) published: Option<Timestamp>,
    pub(crate) received: Timestamp,
}

impl Received {
    /// A message as Pub/Sub sent it.
    pub(crate) fn new(message: Message, payloads: &Payloads, base: &Base) -> Self {
        let requested = message.attributes.get(labels::ATTRIBUTE_REQUESTED).and_then(|time| time.parse().ok());
        let requested = requested.filter(|_| message.attributes.contains_key(labels::ATTRIBUTE_DESKGRID));
        let published = message.publish_time.and_then(|time| Timestamp::new(time.seconds(), time.nanos()).ok());
        Self {
            id: message.message_id,
            payload: payloads.hold(message.data, message.attributes.into_iter().collect()),
            published: requested.or(published),
            received: (base.clock)(),
        }
    }

    /// Content type of the payload.
    pub(crate) fn content_type(&self) -> &str {
        self.payload.attributes.get("content-type").map_or("text/plain", String::as_str)
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin { message_id: self.id.clone(), published: self.published, received: self.received }
    }
}

/// How many bytes the payloads of all streams hold. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payloads(Arc<AtomicUsize>);

impl Payloads {
    /// Counts the bytes of a payload until it is released.
    pub(crate) fn hold(&self, data: Bytes, attributes: BTreeMap<String, String>) -> Payload {
        let bytes = data.len();
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Payload { data, attributes, _held: Some(Held { payloads: self.clone(), bytes }) }
    }

    /// Whether the limit is reached, so that no further message may be received.
    pub(crate) fn are_too_large(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= HELD_BYTES_MAX
    }
}

/// The payload of a message; empty after its release.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    pub(crate) data: Bytes,
    pub(crate) attributes: BTreeMap<String, String>,
    _held: Option<Held>,
}

impl Payload {
    /// Frees the bytes.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }
}

#[derive(Debug)]
struct Held {
    payloads: Payloads,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.payloads.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_counts_until_it_is_released() {
        let payloads = Payloads::default();
        let hold = |megabytes: usize| payloads.hold(Bytes::from(vec![0; megabytes << 20]), BTreeMap::new());
        let mut first = hold(9);
        assert!(!payloads.are_too_large());
        let second = hold(9);
        assert!(payloads.are_too_large());
        first.release();
        assert!(first.data.is_empty() && !payloads.are_too_large());
        drop(first);
        let _third = hold(9);
        assert!(payloads.are_too_large());
        drop(second);
        assert!(!payloads.are_too_large());
    }
}

//! What there is outside the orchestrator: messages, objects and Jobs, and what clients may do to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pubsub;
use jiff::Timestamp;
use serde_json::{Value, json};

/// How long a stream has a message that nobody extends.
const LEASE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) generation: i64,
    pub(crate) contents: Bytes,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) created: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    id: String,
    /// Whether it lies in the subscription that is drained first.
    first: bool,
    data: Bytes,
    attributes: BTreeMap<String, String>,
    published: Timestamp,
    /// The stream that has it, while one does, and until when.
    pub(super) stream: Option<(u64, Instant)>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    counter: u64,
    pub(super) messages: BTreeMap<String, Message>,
    pub(crate) nacked: usize,
    pub(crate) acked: usize,
    /// Which client opened each stream.
    pub(crate) streams: BTreeMap<u64, String>,
    /// Streams of the subscription that is drained first.
    pub(crate) first_streams: BTreeSet<u64>,
    /// There is a subscription with a filter for priority.
    pub(crate) has_priority: bool,
    /// Clients of dead processes, whose connections may not have noticed yet.
    pub(super) dead: BTreeSet<String>,
    pub(crate) subscription_fails: Option<tonic::Status>,
    /// Most bytes that a stream asked for.
    pub(crate) stream_bytes: i64,
    pub(crate) events: Vec<BTreeMap<String, String>>,
    pub(crate) objects: BTreeMap<String, Object>,
    /// Names of objects that were ever written.
    pub(crate) written: Vec<String>,
    /// Nobody may write an object, and how often somebody tried.
    pub(crate) denies_writes: bool,
    pub(crate) denied_writes: usize,
    pub(crate) jobs: BTreeMap<String, Value>,
    pub(crate) pods: BTreeMap<String, Value>,
    pub(crate) deleted_pods: Vec<String>,
    /// How often somebody looked at pods.
    pub(crate) pod_looks: usize,
    pub(crate) history: Vec<Value>,
    /// How often a Job of each name was created.
    pub(crate) creations: BTreeMap<String, usize>,
    pub(crate) most_active: usize,
    pub(crate) create_fails: Option<(u16, Value)>,
    pub(crate) create_fails_once: Vec<(u16, Value)>,
    /// Jobs whose engine does nothing.
    pub(crate) engines_wait: bool,
    /// Batches of which only one of two pods ends.
    pub(crate) batches_stop_halfway: bool,
    /// How often somebody looked whether outcomes exist, one by one or many at once.
    pub(crate) looks: usize,
}

impl State {
    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn publish(&mut self, data: &[u8], attributes: BTreeMap<String, String>) -> String {
        let id = format!("{}", 1000 + self.next());
        let data = Bytes::copy_from_slice(data);
        let published = Timestamp::now();
        let message = Message { id: id.clone(), first: false, data, attributes, published, stream: None };
        if self.has_priority && message.attributes.get("priority").is_some_and(|value| value == "true") {
            self.messages.insert(format!("first-{id}"), Message { first: true, ..message.clone() });
        }
        self.messages.insert(id.clone(), message);
        id
    }

    pub(crate) fn take(&mut self, stream: u64, limit: usize) -> Vec<pubsub::ReceivedMessage> {
        if self.dead.contains(&self.streams[&stream]) {
            return Vec::new();
        }
        let now = Instant::now();
        let has =
            self.messages.values().filter(|message| message.stream.is_some_and(|lease| lease.0 == stream)).count();
        let first = self.first_streams.contains(&stream);
        let free = self
            .messages
            .iter_mut()
            .filter(|(_, message)| message.first == first && message.stream.is_none_or(|lease| lease.1 < now));
        // An answer is not much larger than a megabyte.
        let mut bytes = 0;
        free.take(limit.saturating_sub(has))
            .take_while(|(_, message)| {
                bytes += message.data.len();
                bytes <= 1 << 20 || bytes == message.data.len()
            })
            .map(|(ack_id, message)| {
                message.stream = Some((stream, now + LEASE));
                let published = message.published;
                pubsub::ReceivedMessage {
                    ack_id: ack_id.clone(),
                    message: Some(pubsub::PubsubMessage {
                        data: message.data.to_vec(),
                        attributes: message.attributes.clone().into_iter().collect(),
                        message_id: message.id.clone(),
                        publish_time: Some(prost_types::Timestamp {
                            seconds: published.as_second(),
                            nanos: published.subsec_nanosecond(),
                        }),
                        ..Default::default()
                    }),
                    ..Default::default()
                }
            })
            .collect()
    }

    /// How many messages are not acknowledged.
    pub(crate) fn messages_left(&self) -> usize {
        self.messages.len()
    }

    /// How many messages no stream has.
    pub(crate) fn untaken(&self) -> usize {
        self.messages.values().filter(|message| message.stream.is_none()).count()
    }

    pub(crate) fn ack(&mut self, id: &str) {
        self.acked += usize::from(self.messages.remove(id).is_some());
    }

    pub(crate) fn extend(&mut self, id: &str, seconds: i32) {
        let lease = self.messages.get_mut(id).and_then(|message| message.stream.as_mut());
        if let Some((_, until)) = lease {
            *until = Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap());
        }
    }

    pub(crate) fn nack(&mut self, id: &str) {
        if let Some(message) = self.messages.get_mut(id) {
            message.stream = None;
            self.nacked += 1;
        }
    }

    pub(crate) fn write_once(
        &mut self,
        name: &str,
        contents: Bytes,
        metadata: BTreeMap<String, String>,
    ) -> Option<i64> {
        if self.objects.contains_key(name) {
            return None;
        }
        let generation = i64::try_from(self.next()).unwrap();
        let created = Timestamp::now();
        self.objects.insert(name.to_owned(), Object { generation, contents, metadata, created });
        self.written.push(name.to_owned());
        Some(generation)
    }

    /// Writes an object that may be there.
    pub(crate) fn replace(&mut self, name: &str, contents: Bytes) -> i64 {
        let generation = i64::try_from(self.next()).unwrap();
        let created = Timestamp::now();
        self.objects.insert(name.to_owned(), Object { generation, contents, metadata: BTreeMap::new(), created });
        generation
    }

    /// What Kueue does when there is room: lets a Job begin.
    pub(crate) fn admit(&mut self, name: &str) {
        let mut job = self.jobs[name].clone();
        job["spec"]["suspend"] = false.into();
        self.show(name, job, "MODIFIED");
    }

    pub(crate) fn show(&mut self, name: &str, mut job: Value, kind: &str) {
        job["metadata"]["resourceVersion"] = (self.history.len() + 1).to_string().into();
        self.history.push(json!({"type": kind, "object": job}));
        self.jobs.insert(name.to_owned(), job);
        let active = self.jobs.values().filter(|job| job["status"]["conditions"].is_null()).count();
        self.most_active = self.most_active.max(active);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(mut job) = self.jobs.remove(name) {
            job["metadata"]["resourceVersion"] = (self.history.len() + 1).to_string().into();
            self.history.push(json!({"type": "DELETED", "object": job}));
        }
    }

    /// `kubectl delete job NAME`.
    pub(crate) fn delete(&mut self, name: &str) {
        let Some(mut job) = self.jobs.get(name).cloned() else { return };
        if job["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            return self.remove(name);
        }
        job["metadata"]["deletionTimestamp"] = "2026-01-01T00:02:00Z".into();
        self.show(name, job, "MODIFIED");
    }
}

//! Bucket notifications: what is published when an object changes.

use std::collections::{BTreeMap, HashMap};

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::object::Object;
use crate::google::{
    call::time_text,
    error::{Error, Result},
};

/// Most notifications of a bucket for one kind of event.
const PER_EVENT_MAX: usize = 10;
/// Most notifications of a bucket.
const PER_BUCKET_MAX: usize = 100;
const EVENTS: [Event; 3] = [Event::Finalize, Event::MetadataUpdate, Event::Delete];

/// One notification configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notification {
    /// `//pubsub.googleapis.com/projects/P/topics/T`
    pub topic: String,
    /// Kinds of events; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    /// Attributes to add.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_attributes: BTreeMap<String, String>,
    /// `JSON_API_V1` or `NONE`.
    pub payload_format: String,
    /// Only objects whose name begins so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object_name_prefix: String,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new generation.
    Finalize,
    /// New metadata.
    MetadataUpdate,
    /// Gone.
    Delete,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Finalize => "OBJECT_FINALIZE",
            Self::MetadataUpdate => "OBJECT_METADATA_UPDATE",
            Self::Delete => "OBJECT_DELETE",
        }
    }
}

impl Notification {
    /// Name of the topic, as Pub/Sub has it.
    pub fn topic_name(&self) -> &str {
        self.topic.strip_prefix("//pubsub.googleapis.com/").unwrap_or(&self.topic)
    }

    /// The JSON resource.
    pub fn json(&self, base: &str, bucket: &str, id: u64) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["kind"] = json!("storage#notification");
        value["id"] = json!(id.to_string());
        value["etag"] = json!(id.to_string());
        value["selfLink"] = json!(format!("{base}/storage/v1/b/{bucket}/notificationConfigs/{id}"));
        value
    }

    /// Checks a new configuration beside those the bucket has.
    ///
    /// # Errors
    /// 400.
    pub fn check(&self, others: &BTreeMap<u64, Self>) -> Result<()> {
        if !matches!(self.payload_format.as_str(), "JSON_API_V1" | "NONE") {
            return Err(Error::invalid(format!("Invalid payload format: '{}'", self.payload_format)));
        }
        if let Some(bad) = self.event_types.iter().find(|kind| EVENTS.iter().all(|event| event.name() != **kind)) {
            return Err(Error::invalid(format!("Invalid event type: '{bad}'")));
        }
        let crowded = EVENTS
            .iter()
            .filter(|event| self.wants(**event))
            .any(|event| others.values().filter(|other| other.wants(*event)).count() >= PER_EVENT_MAX);
        if crowded || others.len() >= PER_BUCKET_MAX {
            return Err(Error::invalid(
                "Too many overlapping notifications. A bucket may have at most 10 notification configurations for an event type and 100 in all.",
            ));
        }
        Ok(())
    }

    pub(super) fn wants(&self, event: Event) -> bool {
        self.event_types.is_empty() || self.event_types.iter().any(|kind| kind == event.name())
    }
}

/// The message that says what happened to an object. `other` is the generation that replaced it or was replaced.
pub(super) fn message(
    id: u64,
    notification: &Notification,
    event: Event,
    object: &Object,
    other: Option<i64>,
    base: &str,
    now: jiff::Timestamp,
) -> PubsubMessage {
    let mut attributes: HashMap<String, String> = notification.custom_attributes.clone().into_iter().collect();
    let mut put = |name: &str, value: String| attributes.insert(name.to_owned(), value);
    put("notificationConfig", format!("projects/_/buckets/{}/notificationConfigs/{id}", object.bucket));
    put("eventType", event.name().to_owned());
    put("payloadFormat", notification.payload_format.clone());
    put("bucketId", object.bucket.clone());
    put("objectId", object.name.clone());
    put("objectGeneration", object.generation.to_string());
    put("eventTime", time_text(now));
    if let Some(other) = other {
        let name = if event == Event::Finalize { "overwroteGeneration" } else { "overwrittenByGeneration" };
        put(name, other.to_string());
    }
    let data = if notification.payload_format == "JSON_API_V1" {
        object.json(base).to_string().into_bytes()
    } else {
        Vec::new()
    };
    PubsubMessage { data, attributes, ..PubsubMessage::default() }
}

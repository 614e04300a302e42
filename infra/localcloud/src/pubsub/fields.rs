//! The fields of Pub/Sub's resources: each is held as Google holds it, or refused by name.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tonic::Code;

use crate::google::error::{Error, Result};

/// What becomes of a field that a caller sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// It has the effect that it has on Google Cloud.
    Held,
    /// The service sets it, and ignores what is sent.
    OutputOnly,
    /// It would have an effect that there is not here.
    Refused,
}

use Field::{Held, OutputOnly, Refused};

/// A resource and its fields.
pub(super) struct Resource {
    /// Its name in the discovery document.
    pub(super) name: &'static str,
    pub(super) fields: &'static [(&'static str, Field)],
}

pub(super) const SUBSCRIPTION: Resource = Resource {
    name: "Subscription",
    fields: &[
        ("ackDeadlineSeconds", Held),
        ("analyticsHubSubscriptionInfo", OutputOnly),
        ("bigqueryConfig", Refused),
        ("cloudStorageConfig", Refused),
        ("deadLetterPolicy", Refused),
        ("detached", Refused),
        ("enableExactlyOnceDelivery", Held),
        ("enableMessageOrdering", Refused),
        ("expirationPolicy", Held),
        ("filter", Held),
        ("labels", Held),
        ("messageRetentionDuration", Held),
        ("name", Held),
        ("pushConfig", Refused),
        // Only a seek would show it, and that is refused.
        ("retainAckedMessages", Held),
        ("retryPolicy", Held),
        ("state", OutputOnly),
        ("topic", Held),
        ("topicMessageRetentionDuration", OutputOnly),
    ],
};

pub(super) const TOPIC: Resource = Resource {
    name: "Topic",
    fields: &[
        ("ingestionDataSourceSettings", Refused),
        ("kmsKeyName", Held),
        ("labels", Held),
        // As of `retainAckedMessages`.
        ("messageRetentionDuration", Held),
        ("messageStoragePolicy", Held),
        ("name", Held),
        ("satisfiesPzs", OutputOnly),
        ("schemaSettings", Refused),
        ("state", OutputOnly),
    ],
};

pub(super) const MESSAGE: Resource = Resource {
    name: "PubsubMessage",
    fields: &[
        ("attributes", Held),
        ("data", Held),
        ("messageId", OutputOnly),
        // No subscription is ordered, and one that is not ignores it on Google Cloud too.
        ("orderingKey", Held),
        ("publishTime", OutputOnly),
    ],
};

impl Resource {
    /// Whether a field is refused, so that an update can only clear it.
    pub(super) fn refuses(&self, name: &str) -> bool {
        self.fields.contains(&(name, Refused))
    }

    /// Reads what a caller sets.
    ///
    /// # Errors
    /// 400 for a field that does not exist, 501 for one that is refused.
    pub(super) fn read<T: DeserializeOwned>(&self, sent: Value) -> Result<T> {
        let Value::Object(sent) = sent else { return Err(Error::invalid(format!("A {} is an object.", self.name))) };
        let mut held = Map::new();
        for (name, value) in sent {
            match self.fields.iter().find(|(known, _)| *known == name).map(|(_, field)| field) {
                None => {
                    let message = format!("Invalid JSON payload received. Unknown name \"{name}\": Cannot find field.");
                    return Err(Error::invalid(message).with_reason("parseError"));
                }
                Some(Refused) if is_set(&value) => {
                    let message = format!("The laptop cloud does not support {}.{name}; leave it out.", self.name);
                    return Err(Error::new(Code::Unimplemented, message));
                }
                Some(Held) if !value.is_null() => {
                    held.insert(name, value);
                }
                Some(Held | OutputOnly | Refused) => {}
            }
        }
        serde_json::from_value(Value::Object(held))
            .map_err(|error| Error::invalid(format!("Invalid value in a {}: {error}", self.name)))
    }
}

/// Whether a value differs from that of a field which is left out.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(is_set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_discovery_document_is_held_or_refused() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../provision/tests/it/discovery/pubsub.v1.json");
        let document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for resource in [SUBSCRIPTION, TOPIC, MESSAGE] {
            let properties = document["schemas"][resource.name]["properties"].as_object().unwrap();
            let documented: Vec<(&str, bool)> =
                properties.iter().map(|(name, about)| (name.as_str(), about["readOnly"] == true)).collect();
            let known: Vec<&str> = resource.fields.iter().map(|(name, _)| *name).collect();
            assert_eq!(known, documented.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{}", resource.name);
            for (name, is_read_only) in documented {
                assert!(!is_read_only || resource.fields.contains(&(name, OutputOnly)), "{name} is set by the service");
            }
        }
    }
}

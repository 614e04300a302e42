//! What topics and subscriptions are set to, as JSON and protobuf have it, and the rules for it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{fields, filter::Filter, queue::Backoff, span::Span};
use crate::google::error::{Error, Result};

/// Seven days, how long unacknowledged messages are kept by default.
const RETENTION_SECS: i64 = 7 * 86_400;
/// 31 days, after which an idle subscription is deleted by default.
const EXPIRATION_SECS: i64 = 31 * 86_400;

/// Settings of a topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Topic {
    /// `projects/P/topics/T`
    pub name: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Kept and shown only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_retention_duration: Option<Span>,
    /// Kept and shown only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_storage_policy: Option<Value>,
    /// Kept and shown only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kms_key_name: String,
}

/// Settings of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Subscription {
    /// `projects/P/subscriptions/S`
    pub name: String,
    /// `projects/P/topics/T`, or `_deleted-topic_`.
    pub topic: String,
    /// Always empty: messages are pulled.
    pub push_config: PushConfig,
    /// 10 to 600.
    pub ack_deadline_seconds: i32,
    /// Kept and shown only: nothing seeks back here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retain_acked_messages: bool,
    /// How long messages are kept.
    pub message_retention_duration: Option<Span>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Absent: 31 days. Empty: never.
    pub expiration_policy: Option<ExpirationPolicy>,
    /// Which messages it gets.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter: String,
    /// How redelivery is put off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    /// Refuse stale ack ids.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub enable_exactly_once_delivery: bool,
}

/// When an idle subscription goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExpirationPolicy {
    /// None for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
}

/// Back-off between redeliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// 0 to 600 s, 10 s unless given.
    pub minimum_backoff: Option<Span>,
    /// 0 to 600 s, 600 s unless given.
    pub maximum_backoff: Option<Span>,
}

/// Push delivery, which there is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushConfig {}

impl Subscription {
    /// The settings with everything filled in that was left out.
    pub fn complete(mut self) -> Self {
        if self.ack_deadline_seconds == 0 {
            self.ack_deadline_seconds = 10;
        }
        self.message_retention_duration.get_or_insert(Span::secs(RETENTION_SECS));
        self.expiration_policy.get_or_insert(ExpirationPolicy { ttl: Some(Span::secs(EXPIRATION_SECS)) });
        if let Some(retry) = &mut self.retry_policy {
            retry.minimum_backoff.get_or_insert(Span::secs(10));
            retry.maximum_backoff.get_or_insert(Span::secs(600));
        }
        self
    }

    /// Checks completed settings.
    ///
    /// # Errors
    /// 400 for the first rule broken.
    pub fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::invalid(text));
        if !(10..=600).contains(&self.ack_deadline_seconds) {
            return invalid(format!(
                "Invalid ack deadline given: ack_deadline_seconds={}. It must be between 10 and 600 seconds.",
                self.ack_deadline_seconds
            ));
        }
        let retention = self.retention();
        if retention < SignedDuration::from_mins(10) || retention > SignedDuration::from_hours(31 * 24) {
            return invalid(
                "The value for message_retention_duration must be between 10 minutes and 31 days.".to_owned(),
            );
        }
        if let Some(ttl) = self.expiry() {
            if ttl < SignedDuration::from_hours(24) {
                return invalid("The value for expiration_policy.ttl must be at least 1 day.".to_owned());
            }
            if ttl < retention {
                return invalid(
                    "The value for expiration_policy.ttl must not be below message_retention_duration.".to_owned(),
                );
            }
        }
        if let Some(backoff) = self.backoff() {
            let max = SignedDuration::from_secs(600);
            let in_range = |value: SignedDuration| !value.is_negative() && value <= max;
            if !in_range(backoff.minimum) || !in_range(backoff.maximum) || backoff.minimum > backoff.maximum {
                return invalid(
                    "The values of retry_policy must be between 0 and 600 seconds, the minimum not above the maximum."
                        .to_owned(),
                );
            }
        }
        check_labels(&self.labels)?;
        self.parsed_filter().map(|_| ())
    }

    /// The filter.
    ///
    /// # Errors
    /// 400 when it does not parse.
    pub fn parsed_filter(&self) -> Result<Option<Filter>> {
        Filter::parse(&self.filter)
            .map_err(|problem| Error::invalid(format!("Invalid filter given (filter={}): {problem}.", self.filter)))
    }

    /// How long messages are kept.
    pub fn retention(&self) -> SignedDuration {
        self.message_retention_duration.unwrap_or(Span::secs(RETENTION_SECS)).0
    }

    /// How long it may be idle; none for ever.
    pub fn expiry(&self) -> Option<SignedDuration> {
        self.expiration_policy.and_then(|policy| policy.ttl).map(|ttl| ttl.0)
    }

    /// How redelivery is put off.
    pub fn backoff(&self) -> Option<Backoff> {
        self.retry_policy.map(|retry| Backoff {
            minimum: retry.minimum_backoff.unwrap_or(Span::secs(10)).0,
            maximum: retry.maximum_backoff.unwrap_or(Span::secs(600)).0,
        })
    }

    /// Takes over the fields that a mask names.
    ///
    /// # Errors
    /// 400 for an empty mask, an unknown field, or one that cannot be changed.
    pub fn update(&mut self, from: Self, mask: &[String]) -> Result<()> {
        need_mask(mask)?;
        for field in mask {
            match camel(field).as_str() {
                "ackDeadlineSeconds" => self.ack_deadline_seconds = from.ack_deadline_seconds,
                "retainAckedMessages" => self.retain_acked_messages = from.retain_acked_messages,
                "messageRetentionDuration" => self.message_retention_duration = from.message_retention_duration,
                "labels" => self.labels.clone_from(&from.labels),
                "expirationPolicy" => self.expiration_policy = from.expiration_policy,
                "expirationPolicy.ttl" => {
                    self.expiration_policy = Some(from.expiration_policy.unwrap_or_default());
                }
                "retryPolicy" => self.retry_policy = from.retry_policy,
                "enableExactlyOnceDelivery" => self.enable_exactly_once_delivery = from.enable_exactly_once_delivery,
                // It is not set, so it can only be cleared.
                refused if refused != "enableMessageOrdering" && fields::SUBSCRIPTION.refuses(refused) => {}
                other => {
                    return Err(Error::invalid(format!(
                        "Invalid update_mask provided in the UpdateSubscriptionRequest: {other} is not a known or \
                         updatable Subscription field. Note that field paths must be of the form 'push_config' rather \
                         than 'pushConfig'."
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Topic {
    /// Checks the settings.
    ///
    /// # Errors
    /// 400 for the first rule broken.
    pub fn check(&self) -> Result<()> {
        if let Some(Span(retention)) = self.message_retention_duration
            && (retention < SignedDuration::from_mins(10) || retention > SignedDuration::from_hours(31 * 24))
        {
            return Err(Error::invalid(
                "The value for message_retention_duration must be between 10 minutes and 31 days.",
            ));
        }
        check_labels(&self.labels)
    }

    /// Takes over the fields that a mask names.
    ///
    /// # Errors
    /// 400 for an empty mask or a field that cannot be changed.
    pub fn update(&mut self, from: Self, mask: &[String]) -> Result<()> {
        need_mask(mask)?;
        for field in mask {
            match camel(field).as_str() {
                "labels" => self.labels.clone_from(&from.labels),
                "messageRetentionDuration" => self.message_retention_duration = from.message_retention_duration,
                "messageStoragePolicy" => self.message_storage_policy.clone_from(&from.message_storage_policy),
                "kmsKeyName" => self.kms_key_name.clone_from(&from.kms_key_name),
                other => {
                    return Err(Error::invalid(format!(
                        "Invalid update_mask provided in the UpdateTopicRequest: {other} is not a known or updatable Topic field."
                    )));
                }
            }
        }
        Ok(())
    }
}

fn need_mask(mask: &[String]) -> Result<()> {
    if mask.is_empty() {
        return Err(Error::invalid(
            "The update_mask in the request must be set, and must contain a non-empty paths list.",
        ));
    }
    Ok(())
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    let fits = |text: &str| {
        text.len() <= 63 && text.chars().all(|c| c.is_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
    };
    let good = labels.len() <= 64
        && labels.iter().all(|(key, value)| fits(key) && fits(value) && key.starts_with(|c: char| c.is_lowercase()));
    if good {
        return Ok(());
    }
    Err(Error::invalid(
        "Invalid labels given: keys and values have at max 63 lower-case letters, digits, underscores and dashes, and \
         keys start with a letter.",
    ))
}

/// `snake_case` as `camelCase`; camel case stays.
fn camel(text: &str) -> String {
    let mut camel = String::with_capacity(text.len());
    let mut upper = false;
    for character in text.trim().chars() {
        match character {
            '_' => upper = true,
            character if upper => {
                camel.push(character.to_ascii_uppercase());
                upper = false;
            }
            character => camel.push(character),
        }
    }
    camel
}

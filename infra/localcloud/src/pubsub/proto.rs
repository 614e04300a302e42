//! Settings of topics and subscriptions as protobuf has them.

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as proto;

use super::{
    settings::{DeadLetterPolicy, ExpirationPolicy, PushConfig, RetryPolicy, Subscription, Topic},
    span::Span,
};

impl From<proto::Topic> for Topic {
    fn from(topic: proto::Topic) -> Self {
        Self {
            name: topic.name,
            labels: topic.labels.into_iter().collect(),
            message_retention_duration: topic.message_retention_duration.as_ref().map(Span::from_proto),
            kms_key_name: topic.kms_key_name,
            ..Self::default()
        }
    }
}

impl From<&Topic> for proto::Topic {
    fn from(topic: &Topic) -> Self {
        Self {
            name: topic.name.clone(),
            labels: topic.labels.clone().into_iter().collect(),
            message_retention_duration: topic.message_retention_duration.map(Span::to_proto),
            kms_key_name: topic.kms_key_name.clone(),
            state: proto::topic::State::Active as i32,
            ..Self::default()
        }
    }
}

impl From<proto::Subscription> for Subscription {
    fn from(from: proto::Subscription) -> Self {
        let span = |duration: &prost_types::Duration| Span::from_proto(duration);
        Self {
            name: from.name,
            topic: from.topic,
            push_config: PushConfig {
                push_endpoint: from.push_config.map(|push| push.push_endpoint).unwrap_or_default(),
            },
            ack_deadline_seconds: from.ack_deadline_seconds,
            retain_acked_messages: from.retain_acked_messages,
            message_retention_duration: from.message_retention_duration.as_ref().map(span),
            labels: from.labels.into_iter().collect(),
            enable_message_ordering: from.enable_message_ordering,
            expiration_policy: from
                .expiration_policy
                .map(|policy| ExpirationPolicy { ttl: policy.ttl.as_ref().map(span) }),
            filter: from.filter,
            dead_letter_policy: from.dead_letter_policy.map(|policy| DeadLetterPolicy {
                dead_letter_topic: policy.dead_letter_topic,
                max_delivery_attempts: policy.max_delivery_attempts,
            }),
            retry_policy: from.retry_policy.map(|policy| RetryPolicy {
                minimum_backoff: policy.minimum_backoff.as_ref().map(span),
                maximum_backoff: policy.maximum_backoff.as_ref().map(span),
            }),
            enable_exactly_once_delivery: from.enable_exactly_once_delivery,
            ..Self::default()
        }
    }
}

impl From<&Subscription> for proto::Subscription {
    fn from(from: &Subscription) -> Self {
        Self {
            name: from.name.clone(),
            topic: from.topic.clone(),
            push_config: Some(proto::PushConfig::default()),
            ack_deadline_seconds: from.ack_deadline_seconds,
            retain_acked_messages: from.retain_acked_messages,
            message_retention_duration: from.message_retention_duration.map(Span::to_proto),
            labels: from.labels.clone().into_iter().collect(),
            enable_message_ordering: from.enable_message_ordering,
            expiration_policy: from
                .expiration_policy
                .map(|policy| proto::ExpirationPolicy { ttl: policy.ttl.map(Span::to_proto) }),
            filter: from.filter.clone(),
            dead_letter_policy: from.dead_letter_policy.as_ref().map(|policy| proto::DeadLetterPolicy {
                dead_letter_topic: policy.dead_letter_topic.clone(),
                max_delivery_attempts: policy.max_delivery_attempts,
            }),
            retry_policy: from.retry_policy.map(|policy| proto::RetryPolicy {
                minimum_backoff: policy.minimum_backoff.map(Span::to_proto),
                maximum_backoff: policy.maximum_backoff.map(Span::to_proto),
            }),
            detached: from.detached,
            enable_exactly_once_delivery: from.enable_exactly_once_delivery,
            state: proto::subscription::State::Active as i32,
            ..Self::default()
        }
    }
}

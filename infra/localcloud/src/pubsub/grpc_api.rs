//! Pub/Sub's gRPC API.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as proto;
use googleapis_tonic_google_storage_v2::google::iam::v1 as iam;
use http::Request;

use super::{Pubsub, settings};
use crate::{
    google::{
        error::Error,
        grpc::{self, streaming, unary},
        page::Ask,
    },
    identity::proto::requested_version,
};

/// Answers one call, by its path.
pub(super) async fn answer(pubsub: Arc<Pubsub>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    let Some((service, method)) = path.trim_start_matches('/').split_once('/') else {
        return grpc::unimplemented(&path);
    };
    match service {
        "google.pubsub.v1.Publisher" => publisher(pubsub, method, request).await,
        "google.pubsub.v1.Subscriber" => subscriber(pubsub, method, request).await,
        "google.iam.v1.IAMPolicy" => policy(pubsub, method, request).await,
        _ => grpc::unimplemented(&path),
    }
}

async fn publisher(pubsub: Arc<Pubsub>, method: &str, request: Request<Body>) -> Response {
    match method {
        "Publish" => {
            unary(request, |headers, message: proto::PublishRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let message_ids = pubsub.publish(&caller, &message.topic, message.messages)?;
                Ok(proto::PublishResponse { message_ids })
            })
            .await
        }
        "CreateTopic" => {
            unary(request, |headers, message: proto::Topic| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.create_topic(&caller, message.into()).map(|topic| proto::Topic::from(&topic))
            })
            .await
        }
        "GetTopic" => {
            unary(request, |headers, message: proto::GetTopicRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.get_topic(&caller, &message.topic).map(|topic| proto::Topic::from(&topic))
            })
            .await
        }
        "UpdateTopic" => {
            unary(request, |headers, message: proto::UpdateTopicRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let mask = message.update_mask.unwrap_or_default().paths;
                let topic = settings::Topic::from(message.topic.unwrap_or_default());
                pubsub.update_topic(&caller, topic, &mask).map(|topic| proto::Topic::from(&topic))
            })
            .await
        }
        "ListTopics" => {
            unary(request, |headers, message: proto::ListTopicsRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let ask = Ask { size: i64::from(message.page_size), token: message.page_token };
                let (topics, next_page_token) = pubsub.list_topics(&caller, &message.project, &ask)?;
                Ok(proto::ListTopicsResponse { topics: topics.iter().map(Into::into).collect(), next_page_token })
            })
            .await
        }
        "ListTopicSubscriptions" => {
            unary(request, |headers, message: proto::ListTopicSubscriptionsRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let ask = Ask { size: i64::from(message.page_size), token: message.page_token };
                let (subscriptions, next_page_token) =
                    pubsub.list_topic_subscriptions(&caller, &message.topic, &ask)?;
                Ok(proto::ListTopicSubscriptionsResponse { subscriptions, next_page_token })
            })
            .await
        }
        "DeleteTopic" => {
            unary(request, |headers, message: proto::DeleteTopicRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.delete_topic(&caller, &message.topic)
            })
            .await
        }
        _ => grpc::unimplemented(method),
    }
}

async fn subscriber(pubsub: Arc<Pubsub>, method: &str, request: Request<Body>) -> Response {
    match method {
        "StreamingPull" => {
            streaming(request, |headers, messages| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.streaming_pull(caller, messages).await
            })
            .await
        }
        "Acknowledge" => {
            unary(request, |headers, message: proto::AcknowledgeRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.acknowledge(&caller, &message.subscription, &message.ack_ids)
            })
            .await
        }
        "ModifyAckDeadline" => {
            unary(request, |headers, message: proto::ModifyAckDeadlineRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let seconds = message.ack_deadline_seconds;
                pubsub.modify_ack_deadline(&caller, &message.subscription, &message.ack_ids, seconds)
            })
            .await
        }
        "Pull" => {
            unary(request, |headers, message: proto::PullRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                #[expect(deprecated, reason = "clients still send it")]
                let at_once = message.return_immediately;
                let received_messages =
                    pubsub.pull(&caller, &message.subscription, message.max_messages, at_once).await?;
                Ok(proto::PullResponse { received_messages })
            })
            .await
        }
        "CreateSubscription" => {
            unary(request, |headers, message: proto::Subscription| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.create_subscription(&caller, message.into()).map(|made| proto::Subscription::from(&made))
            })
            .await
        }
        "GetSubscription" => {
            unary(request, |headers, message: proto::GetSubscriptionRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.get_subscription(&caller, &message.subscription).map(|found| proto::Subscription::from(&found))
            })
            .await
        }
        "UpdateSubscription" => {
            unary(request, |headers, message: proto::UpdateSubscriptionRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let mask = message.update_mask.unwrap_or_default().paths;
                let from = settings::Subscription::from(message.subscription.unwrap_or_default());
                pubsub.update_subscription(&caller, from, &mask).map(|changed| proto::Subscription::from(&changed))
            })
            .await
        }
        "ListSubscriptions" => {
            unary(request, |headers, message: proto::ListSubscriptionsRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let ask = Ask { size: i64::from(message.page_size), token: message.page_token };
                let (found, next_page_token) = pubsub.list_subscriptions(&caller, &message.project, &ask)?;
                let subscriptions = found.iter().map(Into::into).collect();
                Ok(proto::ListSubscriptionsResponse { subscriptions, next_page_token })
            })
            .await
        }
        "DeleteSubscription" => {
            unary(request, |headers, message: proto::DeleteSubscriptionRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.delete_subscription(&caller, &message.subscription)
            })
            .await
        }
        "Seek" => {
            unary(request, |headers, message: proto::SeekRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let time = match &message.target {
                    Some(proto::seek_request::Target::Time(time)) => grpc::time(time),
                    _ => None,
                };
                let time = time.ok_or_else(|| Error::invalid("The laptop cloud seeks to a time only."))?;
                pubsub.seek(&caller, &message.subscription, time)?;
                Ok(proto::SeekResponse {})
            })
            .await
        }
        _ => grpc::unimplemented(method),
    }
}

async fn policy(pubsub: Arc<Pubsub>, method: &str, request: Request<Body>) -> Response {
    match method {
        "GetIamPolicy" => {
            unary(request, |headers, message: iam::GetIamPolicyRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let version = requested_version(&message);
                pubsub.get_policy(&caller, &message.resource, version).map(iam::Policy::from)
            })
            .await
        }
        "SetIamPolicy" => {
            unary(request, |headers, message: iam::SetIamPolicyRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let wanted = message.policy.unwrap_or_default().into();
                pubsub.set_policy(&caller, &message.resource, wanted).map(iam::Policy::from)
            })
            .await
        }
        "TestIamPermissions" => {
            unary(request, |headers, message: iam::TestIamPermissionsRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let permissions = pubsub.test_permissions(&caller, &message.resource, &message.permissions)?;
                Ok(iam::TestIamPermissionsResponse { permissions })
            })
            .await
        }
        _ => grpc::unimplemented(method),
    }
}

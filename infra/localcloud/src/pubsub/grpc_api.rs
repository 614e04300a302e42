//! Pub/Sub's gRPC API: messages only. Google's clients manage topics and subscriptions over REST.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as proto;
use http::Request;

use super::Pubsub;
use crate::google::grpc::{self, streaming, unary};

/// Answers one call, by its path.
pub(super) async fn answer(pubsub: Arc<Pubsub>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/google.pubsub.v1.Publisher/Publish" => {
            unary(request, |headers, message: proto::PublishRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let message_ids = pubsub.publish(&caller, &message.topic, message.messages)?;
                Ok(proto::PublishResponse { message_ids })
            })
            .await
        }
        "/google.pubsub.v1.Subscriber/StreamingPull" => {
            streaming(request, |headers, messages| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.streaming_pull(caller, messages).await
            })
            .await
        }
        "/google.pubsub.v1.Subscriber/Acknowledge" => {
            unary(request, |headers, message: proto::AcknowledgeRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                pubsub.acknowledge(&caller, &message.subscription, &message.ack_ids)
            })
            .await
        }
        "/google.pubsub.v1.Subscriber/ModifyAckDeadline" => {
            unary(request, |headers, message: proto::ModifyAckDeadlineRequest| async move {
                let caller = pubsub.identity.caller(&headers)?;
                let seconds = message.ack_deadline_seconds;
                pubsub.modify_ack_deadline(&caller, &message.subscription, &message.ack_ids, seconds)
            })
            .await
        }
        _ => grpc::unimplemented(&path),
    }
}

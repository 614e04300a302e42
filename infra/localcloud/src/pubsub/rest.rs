//! Pub/Sub's REST API, and the port it shares with gRPC.

use std::sync::Arc;

use axum::{Router, body::Body, response::Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::{PubsubMessage, ReceivedMessage};
use http::{Method, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Pubsub, fields, names, settings};
use crate::{
    google::{
        call::{Call, ok, time_text},
        error::{Error, Result},
        grpc, page,
    },
    identity::{
        Target,
        policy::{Policy, Stale},
        principal::Principal,
        rest::{SetPolicy, TestPermissions, no_route, permissions_json, policy_json, requested_version},
    },
};

/// Routes of the service.
pub fn router(pubsub: Arc<Pubsub>) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        let pubsub = pubsub.clone();
        async move {
            if grpc::is_grpc(&request) {
                return super::grpc_api::answer(pubsub, request).await;
            }
            answer(&pubsub, request).await.unwrap_or_else(|error| error.to_rest())
        }
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateTopic {
    topic: Value,
    #[serde(default)]
    update_mask: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateSubscription {
    subscription: Value,
    #[serde(default)]
    update_mask: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Publish {
    messages: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Message {
    data: String,
    attributes: std::collections::HashMap<String, String>,
    ordering_key: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Pull {
    max_messages: i32,
    return_immediately: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Acks {
    ack_ids: Vec<String>,
    ack_deadline_seconds: i32,
}

async fn answer(pubsub: &Arc<Pubsub>, request: Request<Body>) -> Result<Response> {
    let call = Call::read(request).await?.with_verb();
    let caller = pubsub.identity.caller(&call.headers)?;
    let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let ["v1", rest @ ..] = path.as_slice() else { return Err(no_route(&call)) };
    let name = rest.join("/");
    match rest {
        ["projects", _, "topics" | "subscriptions", _]
            if matches!(call.verb.as_deref(), Some("getIamPolicy" | "setIamPolicy" | "testIamPermissions")) =>
        {
            iam(pubsub, &call, &caller, &name)
        }
        ["projects", _, "topics"] if call.method == Method::GET => {
            let (topics, next) = pubsub.list_topics(&caller, name.trim_end_matches("/topics"), &call.page()?)?;
            Ok(ok(&page::answer("topics", topics.iter().map(topic_json).collect(), next)))
        }
        ["projects", _, "topics", _] => topic(pubsub, &call, &caller, name),
        ["projects", _, "topics", _, "subscriptions"] if call.method == Method::GET => {
            let topic = name.trim_end_matches("/subscriptions");
            let (names, next) = pubsub.list_topic_subscriptions(&caller, topic, &call.page()?)?;
            Ok(ok(&page::answer("subscriptions", names.into_iter().map(Value::String).collect(), next)))
        }
        ["projects", _, "subscriptions"] if call.method == Method::GET => {
            let project = name.trim_end_matches("/subscriptions");
            let (found, next) = pubsub.list_subscriptions(&caller, project, &call.page()?)?;
            Ok(ok(&page::answer("subscriptions", found.iter().map(|it| subscription_json(&call, it)).collect(), next)))
        }
        ["projects", _, "subscriptions", _] => subscription(pubsub, &call, &caller, name).await,
        _ => Err(no_route(&call)),
    }
}

fn topic(pubsub: &Pubsub, call: &Call, caller: &Principal, name: String) -> Result<Response> {
    match (&call.method, call.verb.as_deref()) {
        (&Method::PUT, None) => {
            let topic = pubsub.create_topic(caller, settings::Topic { name, ..fields::TOPIC.read(call.json()?)? })?;
            Ok(ok(&topic_json(&topic)))
        }
        (&Method::GET, None) => Ok(ok(&topic_json(&pubsub.get_topic(caller, &name)?))),
        (&Method::PATCH, None) => {
            let update: UpdateTopic = call.json()?;
            let mask = mask(call, &update.update_mask);
            let topic =
                pubsub.update_topic(caller, settings::Topic { name, ..fields::TOPIC.read(update.topic)? }, &mask)?;
            Ok(ok(&topic_json(&topic)))
        }
        (&Method::DELETE, None) => pubsub.delete_topic(caller, &name).map(|()| ok(&json!({}))),
        (&Method::POST, Some("publish")) => {
            let publish: Publish = call.json()?;
            let messages: Result<Vec<PubsubMessage>> = publish.messages.into_iter().map(message).collect();
            let ids = pubsub.publish(caller, &name, messages?)?;
            Ok(ok(&json!({ "messageIds": ids })))
        }
        _ => Err(no_route(call)),
    }
}

async fn subscription(pubsub: &Arc<Pubsub>, call: &Call, caller: &Principal, name: String) -> Result<Response> {
    match (&call.method, call.verb.as_deref()) {
        (&Method::PUT, None) => {
            let desired = settings::Subscription { name, ..fields::SUBSCRIPTION.read(call.json()?)? };
            Ok(ok(&subscription_json(call, &pubsub.create_subscription(caller, desired)?)))
        }
        (&Method::GET, None) => Ok(ok(&subscription_json(call, &pubsub.get_subscription(caller, &name)?))),
        (&Method::PATCH, None) => {
            let update: UpdateSubscription = call.json()?;
            let mask = mask(call, &update.update_mask);
            let from = settings::Subscription { name, ..fields::SUBSCRIPTION.read(update.subscription)? };
            Ok(ok(&subscription_json(call, &pubsub.update_subscription(caller, from, &mask)?)))
        }
        (&Method::DELETE, None) => pubsub.delete_subscription(caller, &name).map(|()| ok(&json!({}))),
        (&Method::POST, Some("pull")) => {
            let desired: Pull = call.json()?;
            let taken = pubsub.pull(caller, &name, desired.max_messages, desired.return_immediately).await?;
            let messages: Vec<Value> = taken.iter().map(received_json).collect();
            Ok(ok(&if messages.is_empty() { json!({}) } else { json!({ "receivedMessages": messages }) }))
        }
        (&Method::POST, Some("acknowledge")) => {
            let desired: Acks = call.json()?;
            pubsub.acknowledge(caller, &name, &desired.ack_ids).map(|()| ok(&json!({})))
        }
        (&Method::POST, Some("modifyAckDeadline")) => {
            let desired: Acks = call.json()?;
            let seconds = desired.ack_deadline_seconds;
            pubsub.modify_ack_deadline(caller, &name, &desired.ack_ids, seconds).map(|()| ok(&json!({})))
        }
        _ => Err(no_route(call)),
    }
}

fn iam(pubsub: &Pubsub, call: &Call, caller: &Principal, name: &str) -> Result<Response> {
    match call.verb.as_deref() {
        Some("getIamPolicy") => Ok(ok(&policy_json(&pubsub.get_policy(caller, name, requested_version(call)?)?)?)),
        Some("setIamPolicy") => {
            let desired: SetPolicy = call.json()?;
            Ok(ok(&policy_json(&pubsub.set_policy(caller, name, desired.policy)?)?))
        }
        _ => {
            let desired: TestPermissions = call.json()?;
            Ok(ok(&permissions_json(&pubsub.test_permissions(caller, name, &desired.permissions)?)))
        }
    }
}

impl Pubsub {
    /// Target of a topic or subscription that exists, and the stem of its permissions.
    fn target(&self, name: &str) -> Result<(Target, &'static str)> {
        if name.contains("/topics/") {
            names::check("topics", name)?;
            Ok((names::topic_target(name), "pubsub.topics"))
        } else {
            names::check("subscriptions", name)?;
            Ok((names::subscription_target(name), "pubsub.subscriptions"))
        }
    }

    fn must_exist(&self, name: &str) -> Result<()> {
        if name.contains("/topics/") {
            self.find_topic(name).map(|_| ())
        } else {
            self.find_subscription(name).map(|_| ())
        }
    }

    /// The policy of a topic or subscription.
    pub(super) fn get_policy(&self, caller: &Principal, name: &str, version: i32) -> Result<Policy> {
        let (target, stem) = self.target(name)?;
        self.need(caller, &format!("{stem}.getIamPolicy"), &target)?;
        self.must_exist(name)?;
        Ok(self.identity.policy(name, version))
    }

    /// Replaces the policy of a topic or subscription.
    pub(super) fn set_policy(&self, caller: &Principal, name: &str, desired: Policy) -> Result<Policy> {
        let (target, stem) = self.target(name)?;
        self.need(caller, &format!("{stem}.setIamPolicy"), &target)?;
        self.must_exist(name)?;
        self.identity.set_policy(name, desired, Stale::Aborted)
    }

    /// Those of the permissions that the caller has.
    pub(super) fn test_permissions(
        &self,
        caller: &Principal,
        name: &str,
        permissions: &[String],
    ) -> Result<Vec<String>> {
        let (target, _) = self.target(name)?;
        self.must_exist(name)?;
        Ok(self.identity.testable(caller, permissions, &target))
    }
}

fn mask(call: &Call, in_body: &str) -> Vec<String> {
    let text = call.query("updateMask").unwrap_or(in_body);
    text.split(',').map(str::trim).filter(|field| !field.is_empty()).map(str::to_owned).collect()
}

fn message(sent: Value) -> Result<PubsubMessage> {
    let message: Message = fields::MESSAGE.read(sent)?;
    let text = message.data.replace('-', "+").replace('_', "/");
    let data = BASE64_STANDARD
        .decode(&text)
        .or_else(|_| base64::prelude::BASE64_STANDARD_NO_PAD.decode(&text))
        .map_err(|_| Error::invalid("Invalid value at 'messages.data' (TYPE_BYTES), Base64 decoding failed"))?;
    Ok(PubsubMessage {
        data,
        attributes: message.attributes,
        ordering_key: message.ordering_key,
        ..PubsubMessage::default()
    })
}

fn received_json(received: &ReceivedMessage) -> Value {
    let mut value = json!({ "ackId": received.ack_id });
    if let Some(message) = &received.message {
        let time = message.publish_time.as_ref().and_then(grpc::time);
        let mut content = json!({
            "messageId": message.message_id,
            "publishTime": time.map(time_text),
        });
        if !message.data.is_empty() {
            content["data"] = json!(BASE64_STANDARD.encode(&message.data));
        }
        if !message.attributes.is_empty() {
            content["attributes"] = json!(message.attributes);
        }
        if !message.ordering_key.is_empty() {
            content["orderingKey"] = json!(message.ordering_key);
        }
        value["message"] = content;
    }
    value
}

/// Enumerations are numbers when the caller asks so, as Google's Rust client does.
fn state(call: &Call) -> Value {
    let numbers = call.query("$alt").is_some_and(|alt| alt.contains("enum-encoding=int"));
    if numbers { json!(1) } else { json!("ACTIVE") }
}

fn topic_json(topic: &settings::Topic) -> Value {
    serde_json::to_value(topic).unwrap_or_default()
}

fn subscription_json(call: &Call, subscription: &settings::Subscription) -> Value {
    let mut value = serde_json::to_value(subscription).unwrap_or_default();
    value["state"] = state(call);
    value
}

//! Pub/Sub and Cloud Storage in a few lines each, on one port: what the orchestrator uses of them, and no more.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pubsub;
use googleapis_tonic_google_storage_v2::google::storage::v2 as storage;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;
use tonic::{Status, server::Grpc};
use tonic_prost::ProstCodec;

use crate::fixture::{Fixture, Object};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) async fn serve(fixture: Arc<Fixture>, listener: tokio::net::TcpListener) {
    let router = axum::Router::new().fallback(move |request: Request<Body>| answer(fixture.clone(), request));
    axum::serve(listener, router).await.unwrap();
}

async fn answer(fixture: Arc<Fixture>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    let w = fixture.clone();
    match path.as_str() {
        "/google.pubsub.v1.Subscriber/StreamingPull" => pull(fixture, request).await,
        "/google.pubsub.v1.Subscriber/Acknowledge" => {
            unary(request, move |body: pubsub::AcknowledgeRequest| {
                w.change(|state| body.ack_ids.iter().for_each(|id| state.ack(id)));
                Ok(())
            })
            .await
        }
        "/google.pubsub.v1.Subscriber/ModifyAckDeadline" => {
            unary(request, move |body: pubsub::ModifyAckDeadlineRequest| {
                let seconds = body.ack_deadline_seconds;
                w.change(|state| {
                    body.ack_ids.iter().for_each(|id| match seconds {
                        0 => state.nack(id),
                        _ => state.extend(id, seconds),
                    });
                });
                Ok(())
            })
            .await
        }
        "/google.pubsub.v1.Publisher/Publish" => {
            unary(request, move |body: pubsub::PublishRequest| {
                let events = body.topic.ends_with("-events-topic");
                // One message refuses its whole request (cloud.google.com/pubsub/quotas: 1,024 bytes a value).
                let is_long = |value: &String| value.len() > 1024;
                if body.messages.iter().any(|message| message.attributes.values().any(is_long)) {
                    return Err(Status::invalid_argument("an attribute value is too long"));
                }
                let ids = body.messages.into_iter().map(|message| {
                    w.change(|state| match events {
                        true => {
                            state.events.push(message.attributes.clone().into_iter().collect());
                            "event".to_owned()
                        }
                        false => {
                            let attributes: BTreeMap<_, _> = message.attributes.clone().into_iter().collect();
                            state.published.push(attributes.clone());
                            state.publish(&message.data, attributes)
                        }
                    })
                });
                Ok(pubsub::PublishResponse { message_ids: ids.collect() })
            })
            .await
        }
        "/google.storage.v2.Storage/GetObject" => {
            unary(request, move |body: storage::GetObjectRequest| {
                let mut state = w.state();
                state.lookups += usize::from(body.object.starts_with("bu1/outcome/s"));
                let found = state.objects.get(&body.object);
                found
                    .filter(|object| [0, object.generation].contains(&body.generation))
                    .map(|object| described(&body.object, object))
                    .ok_or_else(|| Status::not_found(body.object))
            })
            .await
        }
        "/google.storage.v2.Storage/DeleteObject" => {
            unary(request, move |body: storage::DeleteObjectRequest| {
                assert!(body.generation > 0, "deleted without a generation");
                w.change(|state| match state.objects.get(&body.object) {
                    Some(object) if object.generation == body.generation => {
                        state.objects.remove(&body.object);
                        Ok(())
                    }
                    _ => Err(Status::not_found(body.object)),
                })
            })
            .await
        }
        "/google.storage.v2.Storage/UpdateObject" => {
            unary(request, move |body: storage::UpdateObjectRequest| {
                let changed = body.object.unwrap_or_default();
                w.change(|state| match state.objects.get_mut(&changed.name) {
                    Some(object) if Some(object.generation) == body.if_generation_match => {
                        object.metadata = changed.metadata.into_iter().collect();
                        Ok(described(&changed.name, object))
                    }
                    _ => Err(Status::failed_precondition(changed.name)),
                })
            })
            .await
        }
        "/google.storage.v2.Storage/ListObjects" => {
            unary(request, move |body: storage::ListObjectsRequest| {
                let mut state = w.state();
                state.lookups += usize::from(body.prefix.starts_with("bu1/outcome/s"));
                state.control_lists += usize::from(body.prefix == "bu1/control/");
                let under = state.objects.iter().filter(|(name, _)| name.starts_with(&body.prefix));
                let end = |name: &str| body.lexicographic_end.is_empty() || name < body.lexicographic_end.as_str();
                let under = under.filter(|(name, _)| **name >= body.lexicographic_start && end(name));
                let objects = under.map(|(name, object)| described(name, object)).collect();
                Ok(storage::ListObjectsResponse { objects, ..Default::default() })
            })
            .await
        }
        _ if path.starts_with("/upload/storage/v1/") => upload(&fixture, request).await,
        _ if path.starts_with("/storage/v1/") => download(&fixture, &path, request.headers()),
        _ => panic!("{path} is not served"),
    }
}

fn described(name: &str, object: &Object) -> storage::Object {
    let created = object.created;
    storage::Object {
        name: name.to_owned(),
        generation: object.generation,
        size: object.contents.len() as i64,
        // What has the bytes of a gzip file is stored compressed.
        content_encoding: if object.contents.starts_with(&[0x1f, 0x8b]) { "gzip".to_owned() } else { String::new() },
        metadata: object.metadata.clone().into_iter().collect(),
        create_time: Some(prost_types::Timestamp { seconds: created.as_second(), nanos: created.subsec_nanosecond() }),
        ..Default::default()
    }
}

/// Takes a multipart upload apart: metadata as JSON, then the contents.
async fn upload(fixture: &Fixture, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let query: BTreeMap<String, String> =
        axum::extract::Query::try_from_uri(&parts.uri).map(|axum::extract::Query(query)| query).unwrap();
    let content_type = parts.headers["content-type"].to_str().unwrap().to_owned();
    let boundary = content_type.split("boundary=").nth(1).unwrap().trim_matches('"').to_owned();
    let marker = format!("--{boundary}");
    let mut sections = split(&body, marker.as_bytes()).into_iter().skip(1).map(|section| {
        let start = find(section, b"\r\n\r\n").map_or(0, |at| at + 4);
        section[start..].strip_suffix(b"\r\n").unwrap_or(&section[start..])
    });
    let resource: serde_json::Value = serde_json::from_slice(sections.next().unwrap()).unwrap_or_default();
    let contents = Bytes::copy_from_slice(sections.next().unwrap());
    let metadata = serde_json::from_value(resource["metadata"].clone()).unwrap_or_default();
    let name = query["name"].clone();
    let denied = fixture.change(|state| {
        state.denied_writes += usize::from(state.denies_writes);
        state.denies_writes
    });
    if denied {
        return json_response(403, json!({"error": {"code": 403, "message": format!("may not write {name}")}}));
    }
    let expected = query.get("ifGenerationMatch").map(|generation| generation.parse::<i64>().unwrap());
    let written = fixture.change(|state| match expected {
        Some(0) => state.write_once(&name, contents, metadata),
        Some(expected) if state.objects.get(&name).is_none_or(|object| object.generation != expected) => None,
        expected => {
            let is_written_over = name.contains("/parked/") || name == contract::object::swept("bu1");
            assert!(expected.is_some() || is_written_over, "{name} is not written once");
            Some(state.replace(&name, contents, metadata))
        }
    });
    match written {
        Some(generation) => json_response(
            200,
            json!({"kind": "storage#object", "name": name, "bucket": "p-bucket", "generation": generation.to_string()}),
        ),
        None => json_response(412, json!({"error": {"code": 412, "message": "conditionNotMet"}})),
    }
}

fn download(fixture: &Fixture, path: &str, headers: &HeaderMap) -> Response {
    let name = path.split("/o/").nth(1).unwrap().replace("%2F", "/");
    let found = fixture.state().objects.get(&name).cloned();
    let part = headers.get("range").map(|part| part.to_str().unwrap().trim_start_matches("bytes=").to_owned());
    match (found, part) {
        (Some(object), Some(part)) => {
            let (from, to) = part.split_once('-').unwrap();
            let bytes = object.contents.slice(from.parse::<usize>().unwrap()..=to.parse().unwrap());
            Response::builder()
                .status(StatusCode::PARTIAL_CONTENT)
                .header("x-goog-generation", object.generation)
                .header("content-range", format!("bytes {part}/{}", object.contents.len()))
                .header("content-length", bytes.len())
                .body(Body::from(bytes))
                .unwrap()
        }
        (Some(object), None) => Response::builder()
            .header("x-goog-generation", object.generation)
            .header("content-length", object.contents.len())
            .body(Body::from(object.contents))
            .unwrap(),
        (None, _) => json_response(404, json!({"error": {"code": 404, "message": name}})),
    }
}

fn json_response(code: u16, body: serde_json::Value) -> Response {
    Response::builder()
        .status(StatusCode::from_u16(code).unwrap())
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn split<'a>(mut text: &'a [u8], marker: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = find(text, marker) {
        parts.push(&text[..at]);
        text = &text[at + marker.len()..];
    }
    parts.push(text);
    parts
}

async fn unary<Q, A>(request: Request<Body>, answer: impl FnOnce(Q) -> Result<A, Status> + Send) -> Response
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
{
    let mut answer = Some(answer);
    let service = tower::service_fn(move |request: tonic::Request<Q>| {
        let answered = (answer.take().unwrap())(request.into_inner()).map(tonic::Response::new);
        async move { answered }
    });
    Grpc::new(ProstCodec::<A, Q>::default()).unary(service, request).await.map(Body::new)
}

/// Hands out messages, as many unacknowledged ones at a time as the stream requests.
async fn pull(fixture: Arc<Fixture>, request: Request<Body>) -> Response {
    let service = tower::service_fn(move |request: tonic::Request<tonic::Streaming<pubsub::StreamingPullRequest>>| {
        let fixture = fixture.clone();
        async move {
            let mut body = request.into_inner();
            let first = body.next().await.ok_or_else(|| Status::invalid_argument("no request"))??;
            if let Some(status) = fixture.state().subscription_fails.clone() {
                return Err(status);
            }
            let stream = fixture.change(|state| {
                let stream = state.next();
                state.streams.insert(stream, first.client_id.clone());
                if first.subscription.ends_with("-priority-subscription") {
                    state.first_streams.insert(stream);
                }
                stream
            });
            let limit = usize::try_from(first.max_outstanding_messages).unwrap();
            let answers = futures::stream::unfold((fixture, body), move |(fixture, body)| async move {
                let mut changes = fixture.changes();
                loop {
                    changes.borrow_and_update();
                    let taken = fixture.change_quietly(|state| state.take(stream, limit));
                    if !taken.is_empty() {
                        let answer = pubsub::StreamingPullResponse { received_messages: taken, ..Default::default() };
                        return Some((Ok(answer), (fixture, body)));
                    }
                    let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
                }
            });
            Ok(tonic::Response::new(Box::pin(answers) as Answers<pubsub::StreamingPullResponse>))
        }
    });
    Grpc::new(ProstCodec::<pubsub::StreamingPullResponse, pubsub::StreamingPullRequest>::default())
        .streaming(service, request)
        .await
        .map(Body::new)
}

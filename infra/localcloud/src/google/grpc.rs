//! Serving gRPC methods by hand over messages that came without server code.

use std::{future::Future, pin::Pin};

use axum::{body::Body, response::Response};
use futures::Stream;
use http::{HeaderMap, Request, header};
use tonic::{Status, Streaming, codec::CompressionEncoding, server::Grpc};
use tonic_prost::ProstCodec;

use super::error::Error;

/// Largest message taken or sent, in bytes.
const MESSAGE_MAX: usize = 64 << 20;

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// True for a gRPC request.
pub fn is_grpc(request: &Request<Body>) -> bool {
    request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn codec<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX)
}

/// Answers a call of one message with one message.
pub async fn unary<Q, A, F>(request: Request<Body>, answer: impl FnOnce(HeaderMap, Q) -> F + Send) -> Response
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
    F: Future<Output = Result<A, Error>> + Send + 'static,
{
    let mut answer = Some(answer);
    let service = tower::service_fn(move |request: tonic::Request<Q>| {
        let (metadata, _, message) = request.into_parts();
        let answer = answer.take().map(|answer| answer(metadata.into_headers(), message));
        async move {
            let Some(answer) = answer else { return Err(Status::internal("called twice")) };
            answer.await.map(tonic::Response::new).map_err(Status::from)
        }
    });
    codec::<Q, A>().unary(service, request).await.map(Body::new)
}

/// Answers a stream with a stream.
pub async fn streaming<Q, A, F>(
    request: Request<Body>,
    answer: impl FnOnce(HeaderMap, Streaming<Q>) -> F + Send,
) -> Response
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
    F: Future<Output = Result<Answers<A>, Error>> + Send + 'static,
{
    let mut answer = Some(answer);
    let service = tower::service_fn(move |request: tonic::Request<Streaming<Q>>| {
        let (metadata, _, messages) = request.into_parts();
        let answer = answer.take().map(|answer| answer(metadata.into_headers(), messages));
        async move {
            let Some(answer) = answer else { return Err(Status::internal("called twice")) };
            answer.await.map(tonic::Response::new).map_err(Status::from)
        }
    });
    codec::<Q, A>().streaming(service, request).await.map(Body::new)
}

/// Answers a call of a method that is not here.
pub fn unimplemented(path: &str) -> Response {
    Status::unimplemented(format!("{path} is not served by the laptop cloud")).into_http::<Body>()
}

/// A time as protobuf has it.
pub fn timestamp(time: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// A protobuf time as ours.
pub fn time(timestamp: &prost_types::Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(timestamp.seconds, timestamp.nanos).ok()
}

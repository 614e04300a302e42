//! Limits of a request: its size, its pace, and the time until its answer.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout};

use crate::Problem;

/// Bytes of a form, and of any body that is not a stream.
pub const MAX_FORM_BYTES: usize = 64 * 1024;
/// Bytes of the head of a request.
pub(crate) const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Headers of a request.
pub(crate) const MAX_HEADERS: usize = 64;
/// Connections at the same time.
pub(crate) const MAX_CONNECTIONS: usize = 2000;

/// Times that requests and answers may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until the head of a request is complete.
    pub head_within: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// Time after which the average pace of a body counts.
    pub grace: Duration,
    /// Slowest average pace of a body.
    pub bytes_per_sec: u64,
    /// Until a page is answered.
    pub answer_within: Duration,
}

impl Limits {
    /// The limits in production.
    pub const PRODUCTION: Self = Self {
        head_within: Duration::from_secs(10),
        idle: Duration::from_secs(15),
        grace: Duration::from_secs(20),
        bytes_per_sec: 512,
        answer_within: Duration::from_secs(30),
    };
}

/// Answers a body that is too slow with 408.
pub(crate) async fn with_pace(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let slow = Arc::new(AtomicBool::new(false));
    let request = request.map(|body| paced(body, limits, slow.clone()));
    let response = next.run(request).await;
    if !slow.load(Ordering::Relaxed) {
        return response;
    }
    let problem = Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The request came too slowly").why(format!(
        "nothing came for {} s, or less than {} bytes a second",
        limits.idle.as_secs(),
        limits.bytes_per_sec
    ));
    let mut response = problem.next("Send it again over a better connection.").into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn paced(body: Body, limits: Limits, slow: Arc<AtomicBool>) -> Body {
    if http_body::Body::is_end_stream(&body) {
        return body;
    }
    let pieces = async_stream::stream! {
        let mut pieces = body.into_data_stream();
        let (since, mut received) = (Instant::now(), 0_u64);
        loop {
            let piece = timeout(limits.idle, pieces.next()).await;
            let Ok(piece) = piece else { break };
            match piece {
                None => return,
                Some(Err(error)) => {
                    yield Err(io::Error::other(error));
                    return;
                }
                Some(Ok(piece)) => {
                    received += piece.len() as u64;
                    yield Ok(piece);
                }
            }
            let elapsed = since.elapsed();
            if elapsed > limits.grace && received < elapsed.as_secs() * limits.bytes_per_sec {
                break;
            }
        }
        slow.store(true, Ordering::Relaxed);
        yield Err(io::Error::new(io::ErrorKind::TimedOut, "the request came too slowly"));
    };
    Body::from_stream(pieces)
}

/// Answers with 503 when a page takes too long.
pub(crate) async fn with_timeout(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    match timeout(limits.answer_within, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "This page takes too long")
            .why(format!("there was no answer within {} s", limits.answer_within.as_secs()))
            .next("Try again, or ask for less: for one business or one session.")
            .retry_after(5)
            .into_response(),
    }
}

//! One stream for all tabs of a browser, which opens few connections to one server.
//!
//! The request has the URLs of the streams that the tabs show. The answer has the events of all of them: the field `of`
//! of an event is the position of its stream in the request. Each stream is requested as the tab itself would, so it has
//! the same access. One that is not there answers with the event `refused` and its status.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, future::Either, stream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{Problem, Visitor, limits::MAX_FORM_BYTES};

/// Streams of one request.
const MAX_STREAMS: usize = 200;
/// Time after which the stream ends, so that the browser reconnects and its access is checked again.
const LASTS: Duration = Duration::from_secs(300);
/// Header of the last event that the browser received.
const LAST_EVENT: &str = "last-event-id";

/// A stream that a tab shows.
#[derive(serde::Deserialize)]
struct Desired {
    url: String,
    /// Id of the last event that was received, to go on behind it.
    #[serde(default)]
    last: String,
}

#[derive(Clone)]
struct Shared {
    streams: Router,
    stop: CancellationToken,
}

/// The route of the shared stream, for an app with these streams.
pub(crate) fn route(streams: Router, stop: CancellationToken) -> Router {
    let router = Router::new().route("/live", post(serve)).with_state(Shared { streams, stop });
    router.layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
}

async fn serve(
    State(Shared { streams, stop }): State<Shared>,
    Extension(visitor): Extension<Visitor>,
    Json(desired): Json<Vec<Desired>>,
) -> Result<Response, Problem> {
    if desired.len() > MAX_STREAMS {
        return Err(Problem::bad_request(format!("One request may have {MAX_STREAMS} streams")));
    }
    let mut all = Vec::new();
    for (index, desired) in desired.into_iter().enumerate() {
        let request = Request::get(&desired.url).header(LAST_EVENT, desired.last).extension(visitor.clone());
        let request = request.body(Body::empty()).map_err(|_| Problem::bad_request("This is not a stream"))?;
        all.push(events(streams.clone(), request, index).boxed());
    }
    let end = async move {
        tokio::select! {
            () = sleep(LASTS) => {}
            () = stop.cancelled() => {}
        }
    };
    // A browser whose streams have all ended must not reconnect at once.
    let events = stream::select_all(all).chain(stream::pending()).take_until(end).map(Ok::<_, Infallible>);
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response())
}

/// The events of one stream, each with its position.
fn events(streams: Router, request: Request, index: usize) -> impl Stream<Item = Bytes> {
    let answer = async move { streams.oneshot(request).await.unwrap_or_else(|never| match never {}) };
    stream::once(answer).flat_map(move |answer| {
        let kind = answer.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes()).unwrap_or_default();
        let is_stream = answer.status() == StatusCode::OK && kind.starts_with(b"text/event-stream");
        let events = if is_stream {
            // One piece is one event.
            let pieces = answer.into_body().into_data_stream();
            Either::Left(pieces.filter_map(|piece| async { piece.ok() }))
        } else {
            let refused = format!("event: refused\ndata: {}\n\n", answer.status().as_u16());
            Either::Right(stream::once(async { Bytes::from(refused) }))
        };
        events.map(move |event| [format!("of: {index}\n").as_bytes(), &event].concat().into())
    })
}

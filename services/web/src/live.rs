//! Live pages: a page has parts, and receives those that changed.
//!
//! A part is an element with an id. The page opens the URL of its [`Page::live`](crate::Page::live); the answer is a
//! stream of server-sent events `parts`, each with the new HTML of the parts that changed. The script replaces them.
//! The first event has every part, so no change is missed, and the browser reopens the stream after an error. A hidden
//! page closes its stream. The tabs of a browser share one connection (see [`crate::shared`]).

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use axum::{
    http::StatusCode,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::Problem;

/// Streams that may be open at the same time.
const MAX_STREAMS: usize = 1000;
/// Shortest time between two events of a stream.
const THROTTLE: Duration = Duration::from_millis(300);
/// Longest time between two renderings: some parts change with the clock alone.
const REFRESH: Duration = Duration::from_secs(10);
/// Time after which a stream ends, so that the browser reconnects and its access is checked again.
const LASTS: Duration = Duration::from_secs(300);

/// Parts of a page by the id of their element.
pub type Parts = BTreeMap<&'static str, String>;

/// The streams of a site.
#[derive(Debug)]
pub(crate) struct Streams {
    room: Arc<Semaphore>,
    open: Gauge,
    stop: CancellationToken,
}

/// Counts an open stream until it is dropped.
struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Streams {
    /// No streams; they end at `stop`.
    pub(crate) fn new(open: Gauge, stop: CancellationToken) -> Self {
        Self { room: Arc::new(Semaphore::new(MAX_STREAMS)), open, stop }
    }

    pub(crate) fn open(&self) -> i64 {
        self.open.get()
    }

    /// See [`Site::live`](crate::Site::live).
    pub(crate) fn serve<F, Answer>(&self, mut changes: watch::Receiver<u64>, render: F) -> Response
    where
        F: Fn() -> Answer + Send + 'static,
        Answer: Future<Output = Result<Parts, Problem>> + Send,
    {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-pages", "Too many live pages are open")
                .retry_after(10)
                .into_response();
        };
        self.open.inc();
        let counted = Counted(self.open.clone());
        let stop = self.stop.clone();
        let events = async_stream::stream! {
            let _held = (permit, counted);
            let end = Instant::now() + LASTS;
            let mut sent: HashMap<&'static str, u64> = HashMap::new();
            loop {
                changes.mark_unchanged();
                match render().await {
                    Ok(parts) => {
                        let is_changed = |(id, html): &(&'static str, String)| is_new(&mut sent, id, html);
                        let changed: Parts = parts.into_iter().filter(is_changed).collect();
                        if !changed.is_empty() && let Ok(event) = Event::default().event("parts").json_data(&changed) {
                            yield Ok::<_, Infallible>(event);
                        }
                    }
                    Err(problem) => yield Ok(Event::default().event("failed").data(problem.what)),
                }
                let next = async {
                    sleep(THROTTLE).await;
                    // The sender is dropped when the server stops.
                    let _ = timeout(REFRESH, changes.changed()).await;
                };
                tokio::select! {
                    () = next => {}
                    () = stop.cancelled() => break,
                    () = sleep_until(end) => break,
                }
            }
        };
        Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
    }
}

fn is_new(sent: &mut HashMap<&'static str, u64>, id: &'static str, html: &str) -> bool {
    let mut hasher = DefaultHasher::new();
    html.hash(&mut hasher);
    let hash = hasher.finish();
    sent.insert(id, hash) != Some(hash)
}

//! Live pages: a page names parts of itself, and is sent those that changed.
//!
//! A part is an element with an id. The page opens the URL that its [`Page::live`](crate::Page::live) names; the answer
//! is a stream of server-sent events `parts`, each with the new HTML of the parts that changed, which the script puts
//! in their place. Every part is sent at first, so nothing that happened in between is missed, and after a break the
//! browser opens the stream again by itself. A page that nobody sees closes its stream.

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

use crate::{Problem, Site};

/// Streams that may be open at once.
const STREAMS: usize = 1000;
/// Shortest time between two events of a stream.
const THROTTLE: Duration = Duration::from_millis(300);
/// Longest time without looking, for what changes by the clock alone.
const REFRESH: Duration = Duration::from_secs(10);
/// After which a stream ends, so that the browser comes again and its access is looked at anew.
const LASTS: Duration = Duration::from_secs(300);

/// Parts of a page by the id of their element.
pub type Parts = BTreeMap<&'static str, String>;

/// The streams of a site.
#[derive(Debug)]
pub(crate) struct Streams {
    room: Arc<Semaphore>,
    open: Gauge,
}

impl Streams {
    pub(crate) fn new(open: Gauge) -> Self {
        Self { room: Arc::new(Semaphore::new(STREAMS)), open }
    }

    pub(crate) fn open(&self) -> i64 {
        self.open.get()
    }
}

/// Counts an open stream until it is dropped.
struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Answers with the stream of a page. `render` makes its parts anew each time `changes` tells of a change, not more
/// often than a few times a second however often that is. An error of `render` is sent as the event `trouble`.
pub fn stream<F, Answer>(site: &Arc<Site>, mut changes: watch::Receiver<u64>, render: F) -> Response
where
    F: Fn() -> Answer + Send + 'static,
    Answer: Future<Output = Result<Parts, Problem>> + Send,
{
    let Ok(permit) = site.streams.room.clone().try_acquire_owned() else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-pages", "Too many live pages are open")
            .retry_after(10)
            .into_response();
    };
    site.streams.open.inc();
    let counted = Counted(site.streams.open.clone());
    let stop = site.stop.clone();
    let events = async_stream::stream! {
        let _held = (permit, counted);
        let end = Instant::now() + LASTS;
        let mut sent: HashMap<&'static str, u64> = HashMap::new();
        loop {
            changes.mark_unchanged();
            match render().await {
                Ok(parts) => {
                    let changed: Parts = parts.into_iter().filter(|(id, html)| is_new(&mut sent, id, html)).collect();
                    if !changed.is_empty() && let Ok(event) = Event::default().event("parts").json_data(&changed) {
                        yield Ok::<_, Infallible>(event);
                    }
                }
                Err(problem) => yield Ok(Event::default().event("trouble").data(problem.what)),
            }
            let next = async {
                sleep(THROTTLE).await;
                // A sender that is gone means that the server stops.
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

fn is_new(sent: &mut HashMap<&'static str, u64>, id: &'static str, html: &str) -> bool {
    let mut hasher = DefaultHasher::new();
    html.hash(&mut hasher);
    let hash = hasher.finish();
    sent.insert(id, hash) != Some(hash)
}

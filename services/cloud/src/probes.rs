//! `/healthz`, `/readyz` and `/metrics` of a service.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Time for which a service is not ready before its log says why.
const LOG_AFTER: Duration = Duration::from_secs(5);

/// The state that the probes report. Clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<HealthState>>,
}

#[derive(Debug)]
struct HealthState {
    last_tick: Instant,
    stale_after: Duration,
    /// Why the service is not ready; empty when it is.
    not_ready: Vec<(&'static str, String)>,
    /// Since when it is not ready.
    unready_since: Option<Instant>,
    /// The reasons in the log since then.
    logged: String,
}

/// A log entry about readiness.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// Not ready for this many seconds, for these reasons.
    NotReady(u64, String),
    /// Ready again, after a [`Entry::NotReady`].
    Ready,
}

impl HealthState {
    fn reasons(&self) -> String {
        let lines: Vec<String> = self.not_ready.iter().map(|(what, why)| format!("{what}: {why}")).collect();
        lines.join("\n")
    }

    /// The log entry to write now: one for each set of reasons that lasts.
    fn log_entry(&mut self, now: Instant) -> Option<Entry> {
        if self.not_ready.is_empty() {
            self.unready_since = None;
            return (!std::mem::take(&mut self.logged).is_empty()).then_some(Entry::Ready);
        }
        let lasts = now.duration_since(*self.unready_since.get_or_insert(now));
        let reasons = self.reasons();
        if lasts < LOG_AFTER || reasons == self.logged {
            return None;
        }
        self.logged.clone_from(&reasons);
        Some(Entry::NotReady(lasts.as_secs(), reasons))
    }
}

impl Health {
    /// Not ready for the reason `starting`. The loop counts as dead when it has not called [`Health::tick`] for
    /// `stale_after`.
    pub fn new(stale_after: Duration) -> Self {
        let not_ready = vec![("starting", "has not synced yet".to_owned())];
        let now = Instant::now();
        let state =
            HealthState { last_tick: now, stale_after, not_ready, unready_since: Some(now), logged: String::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main loop is alive. Logs why the service is not ready when that lasts.
    pub fn tick(&self) {
        let now = Instant::now();
        let entry = {
            let mut state = self.lock();
            state.last_tick = now;
            state.log_entry(now)
        };
        match entry {
            Some(Entry::NotReady(seconds, why)) => tracing::warn!(seconds, why, "not ready"),
            Some(Entry::Ready) => tracing::info!("ready again"),
            None => {}
        }
    }

    /// Not ready, for this reason, until [`Health::clear`] removes it.
    pub fn not_ready(&self, what: &'static str, why: impl Into<String>) {
        let mut state = self.lock();
        state.not_ready.retain(|(known, _)| *known != what);
        state.not_ready.push((what, why.into()));
    }

    /// Removes a reason. The service is ready when none is left.
    pub fn clear(&self, what: &'static str) {
        self.lock().not_ready.retain(|(known, _)| *known != what);
    }

    /// Why the service is not ready, one line a reason; empty when it is.
    pub fn reasons(&self) -> String {
        self.lock().reasons()
    }

    fn alive(&self) -> bool {
        let state = self.lock();
        state.last_tick.elapsed() < state.stale_after
    }
}

/// Serves the probes until `stop`.
///
/// `/healthz` (liveness): the main loop is alive; depends on no other service. `/readyz` (readiness): synced and able
/// to work, else 503 with the reasons. `/metrics`: Prometheus text.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Arc<Registry>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let router = router(health).route("/metrics", get(move || render(metrics.clone())));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

/// `/healthz` and `/readyz` alone, for a service that serves more on the same port.
pub fn router(health: Health) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health)
}

async fn healthz(State(health): State<Health>) -> impl IntoResponse {
    if health.alive() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the main loop has stopped\n")
    }
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let reasons = health.reasons();
    if reasons.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{reasons}\n"))
    }
}

/// Metrics as Prometheus text.
pub async fn render(metrics: Arc<Registry>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &metrics) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [("content-type", kind)], text)
        }
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [("content-type", "text/plain")],
            format!("encode the metrics: {error}\n"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_set_of_reasons_is_logged_once() {
        let health = Health::new(Duration::from_secs(60));
        let begun = health.lock().unready_since.unwrap();
        let at = |seconds| health.lock().log_entry(begun + Duration::from_secs(seconds));
        let not_ready = |seconds, why: &str| Some(Entry::NotReady(seconds, why.to_owned()));
        assert_eq!(at(4), None, "every service is not ready at first");
        assert_eq!(at(5), not_ready(5, "starting: has not synced yet"));
        assert_eq!(at(6), None, "it is logged once");
        health.not_ready("subscription", "permission denied");
        health.clear("starting");
        assert_eq!(at(7), not_ready(7, "subscription: permission denied"));
        health.clear("subscription");
        assert_eq!(at(8), Some(Entry::Ready));
        assert_eq!(at(9), None);
        // The time starts again, and a short time is not logged.
        health.not_ready("subscription", "permission denied");
        assert_eq!(at(20), None);
        health.clear("subscription");
        assert_eq!(at(26), None);
    }
}

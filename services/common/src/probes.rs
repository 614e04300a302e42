//! `/healthz`, `/readyz` and `/metrics` of a service.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the probes tell. Clones share it.
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
}

impl Health {
    /// Not ready for the reason `starting`. The loop counts as dead when it has not called [`Health::tick`] for
    /// `stale_after`.
    pub fn new(stale_after: Duration) -> Self {
        let not_ready = vec![("starting", "has not synced yet".to_owned())];
        Self { state: Arc::new(Mutex::new(HealthState { last_tick: Instant::now(), stale_after, not_ready })) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main loop is alive.
    pub fn tick(&self) {
        self.lock().last_tick = Instant::now();
    }

    /// Not ready, for this reason, until [`Health::clear`] takes it back.
    pub fn not_ready(&self, what: &'static str, why: impl Into<String>) {
        let mut state = self.lock();
        state.not_ready.retain(|(known, _)| *known != what);
        state.not_ready.push((what, why.into()));
    }

    /// Takes a reason back; ready when none is left.
    pub fn clear(&self, what: &'static str) {
        self.lock().not_ready.retain(|(known, _)| *known != what);
    }

    /// Why the service is not ready, one line a reason; empty when it is.
    pub fn reasons(&self) -> String {
        let lines: Vec<String> = self.lock().not_ready.iter().map(|(what, why)| format!("{what}: {why}")).collect();
        lines.join("\n")
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

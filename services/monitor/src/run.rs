//! The monitor from start to stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::bail;
use cloud::{clients::Connection, probes::Health, storage::Store};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use web::{Settings, Site};

use crate::{
    board::{self, Board},
    follow, routes,
    state::State,
};

/// Time after which the loop that computes the board counts as dead.
const STALE: Duration = Duration::from_secs(90);
/// Longest time between two boards: some values change with the clock alone.
const REFRESH: Duration = Duration::from_secs(5);
/// Longest wait for actions at the end.
const FINISH: Duration = Duration::from_secs(10);
/// Shortest time between two boards.
const THROTTLE: Duration = Duration::from_millis(150);

/// The clients of the monitor.
pub struct Clients {
    /// The cluster.
    pub kube: kube::Client,
    /// Where Pub/Sub and Cloud Storage are.
    pub connection: Connection,
    /// The bucket.
    pub store: Store,
    /// The listener for people and programs.
    pub listener: TcpListener,
}

/// Runs the monitor until `stop`.
///
/// # Errors
/// When it cannot start, or a part of it ends by itself.
pub async fn run(settings: Settings, clients: Clients, stop: CancellationToken) -> anyhow::Result<()> {
    let Clients { kube, connection, store, listener } = clients;
    let mut registry = Registry::default();
    let site = Arc::new(Site::new(routes::app(), &settings, &mut registry, Some(store.clone()), stop.clone())?);
    let state = Arc::new(State::new(site.clone(), kube, store, &connection).await?);
    let health = Health::new(STALE);
    let mut tasks = JoinSet::new();
    for of in state.followed.values() {
        let (state, of) = (state.clone(), of.clone());
        tasks.spawn(async move { follow::follow(state, of).await });
    }
    tasks.spawn({
        let state = state.clone();
        async move { follow::follow_nodes(&state).await }
    });
    tasks.spawn(update_board(state.clone(), health.clone()));
    let router = site.router(routes::routes(&state), health, Arc::new(registry));
    tracing::info!(address = %listener.local_addr()?, "the monitor serves");
    let serving = web::serve(listener, router, site.app.limits, stop.clone());
    tokio::select! {
        () = serving => {}
        ended = tasks.join_next() => {
            if !stop.is_cancelled() {
                bail!("a part of the monitor ended by itself: {ended:?}");
            }
        }
    }
    tasks.shutdown().await;
    if timeout(FINISH, state.operations.finish()).await.is_err() {
        tracing::warn!("actions of operators were in progress; they can be repeated");
    }
    Ok(())
}

/// Why the monitor is not ready yet.
fn not_ready_reason(board: &Board) -> String {
    let errors = board.values().flat_map(|view| {
        view.errors.iter().map(|(service, error)| format!("{service} of {}: {error}", view.business.name))
    });
    let errors: Vec<String> = errors.collect();
    if errors.is_empty() { "the first listing has not ended".to_owned() } else { errors.join("; ") }
}

/// Computes the board when something changed, and publishes it.
async fn update_board(state: Arc<State>, health: Health) {
    let mut board = Board::default();
    loop {
        let since = Instant::now();
        board = state
            .followed
            .iter()
            .map(|(name, of)| {
                let previous = board.get(name);
                let raw = of.raw();
                let view =
                    board::view(&of.business, &raw, previous.map(AsRef::as_ref), Timestamp::now(), Instant::now());
                (name.clone(), Arc::new(view))
            })
            .collect();
        state.publish(board.clone());
        health.tick();
        if state.is_synced() {
            health.clear("starting");
        } else {
            health.not_ready("starting", not_ready_reason(&board));
        }
        // A board of ten thousand Jobs takes a while to compute; it must not use all of the time.
        tokio::time::sleep(THROTTLE.max(since.elapsed() * 2)).await;
        let _ = timeout(REFRESH, state.dirty.notified()).await;
    }
}

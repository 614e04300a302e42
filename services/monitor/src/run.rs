//! Brings everything up, and down again.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::bail;
use common::{clients::Connection, probes::Health, storage::Store};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use web::{Settings, Site};

use crate::{
    board::{self, Board},
    follow, nodes, pages,
    state::{self, State},
};

/// The loop that makes the board counts as dead after this.
const STALE: Duration = Duration::from_secs(90);
/// The board is made anew at least this often, for what changes by the clock.
const REFRESH: Duration = Duration::from_secs(5);
/// Shortest time between two boards.
const THROTTLE: Duration = Duration::from_millis(150);

/// What the monitor works with.
pub struct Clients {
    /// The cluster.
    pub kube: kube::Client,
    /// Where Pub/Sub and Cloud Storage are.
    pub connection: Connection,
    /// The bucket.
    pub store: Store,
    /// Where people come.
    pub listener: TcpListener,
}

/// Runs the monitor until `stop`.
///
/// # Errors
/// When it cannot start, or a part of it ends by itself.
pub async fn run(settings: Settings, clients: Clients, stop: CancellationToken) -> anyhow::Result<()> {
    let Clients { kube, connection, store, listener } = clients;
    let mut registry = Registry::default();
    let site = Arc::new(Site::new(pages::app(), &settings, &mut registry, stop.clone())?);
    let clients = state::Clients {
        kube,
        store,
        publisher: connection.base_publisher().await?,
        topics: connection.topic_admin().await?,
        subscriptions: connection.subscription_admin().await?,
    };
    let state = Arc::new(State::new(site.clone(), clients));
    let health = Health::new(STALE);
    let mut tasks = JoinSet::new();
    for of in state.followed.values() {
        let (state, of) = (state.clone(), of.clone());
        tasks.spawn(async move { follow::follow(state, of).await });
    }
    tasks.spawn({
        let state = state.clone();
        async move { nodes::follow(&state).await }
    });
    tasks.spawn(make_boards(state.clone(), health.clone()));
    let router = site.router(pages::routes(&state), health, Arc::new(registry));
    tracing::info!(address = %listener.local_addr()?, "the monitor serves");
    let serving = web::serve(listener, router, site.app.limits, stop.clone());
    tokio::select! {
        served = serving => served?,
        ended = tasks.join_next() => {
            if !stop.is_cancelled() {
                bail!("a part of the monitor ended by itself: {ended:?}");
            }
        }
    }
    tasks.shutdown().await;
    Ok(())
}

/// What the first look at everything waits for.
fn why_not(board: &Board) -> String {
    let views = board.views.values();
    let troubles = views
        .flat_map(|view| view.troubles.iter().map(|(part, why)| format!("{} of {}: {why}", part, view.business.name)));
    let troubles: Vec<String> = troubles.collect();
    if troubles.is_empty() { "has not seen everything yet".to_owned() } else { troubles.join("; ") }
}

/// Makes the board anew when something changed, and shows it.
async fn make_boards(state: Arc<State>, health: Health) {
    let mut board = Board::default();
    loop {
        let since = Instant::now();
        let views: BTreeMap<_, _> = state
            .followed
            .iter()
            .map(|(name, of)| {
                let before = board.views.get(name);
                let raw = of.raw();
                let view = board::view(&of.business, &raw, before.map(AsRef::as_ref), Timestamp::now(), Instant::now());
                (name.clone(), Arc::new(view))
            })
            .collect();
        board = Board { views };
        state.show(board.clone());
        health.tick();
        if state.is_synced() {
            health.clear("starting");
        } else {
            health.not_ready("starting", why_not(&board));
        }
        // Ten thousand Jobs take their time; they must not take all of it.
        tokio::time::sleep(THROTTLE.max(since.elapsed() * 2)).await;
        let _ = timeout(REFRESH, state.dirty.notified()).await;
    }
}

//! The app from start to stop.

use std::{sync::Arc, time::Duration};

use cloud::{clients::Connection, probes::Health};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use web::{Limits, Settings, Site};

use crate::{
    app::{Client, Clients},
    route,
    settings::Uploads,
};

/// How often the program shows that it is alive, and how long without that until it counts as dead.
const TICK: Duration = Duration::from_secs(5);
const STALE_AFTER: Duration = Duration::from_secs(60);

/// Serves until `stop`.
///
/// # Errors
/// When the tokens or templates cannot be read, or a client cannot be built.
pub async fn run(
    settings: &Settings,
    uploads: Uploads,
    limits: Limits,
    connection: &Connection,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let clients = Clients::connect(connection, settings.config.businesses.values()).await?;
    let store = Some(clients.quick.clone());
    let site = Arc::new(Site::new(route::app(limits), settings, &mut registry, store, stop.clone())?);
    let (tasks, health) = (TaskTracker::new(), Health::new(STALE_AFTER));
    let client = Arc::new(Client::new(site.clone(), clients, uploads, &tasks));
    let router = site.router(route::routes(client), health.clone(), Arc::new(registry));
    // It is ready at once: pages show which service does not answer.
    health.clear("starting");
    let (ticking, until) = (health.clone(), stop.clone());
    tasks.spawn(async move {
        while !until.is_cancelled() {
            ticking.tick();
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = until.cancelled() => ticking.not_ready("stopping", "it received a signal to stop"),
            }
        }
    });
    web::serve(listener, router, limits, stop).await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

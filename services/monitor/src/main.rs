//! The monitor's program.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use cloud::{clients, clients::Connection, shutdown, storage::Store, telemetry};
use contract::config;
use monitor::Clients;

/// How long a call of Cloud Storage is tried again before a page says that it does not answer.
const PATIENCE: Duration = Duration::from_secs(8);

fn main() -> ExitCode {
    telemetry::program(start)
}

fn start() -> anyhow::Result<()> {
    clients::install_tls_provider()?;
    let variables = config::variables();
    let settings = web::Settings::read(std::env::args_os(), &variables).context("read the configuration")?;
    telemetry::init(&settings.log_filter);
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?.block_on(async {
        let stop = shutdown::on_signal()?;
        let connection = Connection::new(&settings.config.endpoints, &variables)?;
        let mut cluster = kube::Config::infer().await.context("find the Kubernetes API server")?;
        cluster.default_retry = false;
        let kube = kube::Client::try_from(cluster).context("build the Kubernetes client")?;
        let store = Store::connect_for(&connection, PATIENCE).await?;
        let listener = web::listen(settings.listen).await?;
        monitor::run(settings, Clients { kube, connection, store, listener }, stop).await.context("run the monitor")
    })
}

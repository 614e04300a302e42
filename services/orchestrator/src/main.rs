//! The orchestrator's program.

use std::process::ExitCode;

use anyhow::Context as _;
use cloud::{clients, clients::Connection, shutdown, telemetry};
use contract::config;
use orchestrator::{Clients, Config, Hooks, clock};

fn main() -> ExitCode {
    telemetry::program(start)
}

fn start() -> anyhow::Result<()> {
    clients::install_tls_provider()?;
    let variables = config::variables();
    let config = Config::from_variables(&variables).context("read the configuration")?;
    telemetry::init(&config.log_filter);
    // Two threads are plenty for one business, and every thread costs memory.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = shutdown::on_signal()?;
        let connection = Connection::new(&config.endpoints, &variables)?;
        let mut cluster = kube::Config::infer().await.context("find the Kubernetes API server")?;
        cluster.default_retry = false;
        let kube = kube::Client::try_from(cluster).context("build the Kubernetes client")?;
        let listener = orchestrator::listen(config.listen).await?;
        orchestrator::run(config, Clients { kube, connection, listener }, clock::system(), Hooks::none(), stop)
            .await
            .context("run the orchestrator")
    })
}

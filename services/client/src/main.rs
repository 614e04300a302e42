//! The client web app's program.

use std::process::ExitCode;

use anyhow::Context as _;
use client::Uploads;
use cloud::{clients, clients::Connection, shutdown, telemetry};
use contract::config;
use web::Settings;

fn main() -> ExitCode {
    telemetry::program(start)
}

fn start() -> anyhow::Result<()> {
    clients::install_tls_provider()?;
    let variables = config::variables();
    let settings = Settings::read(std::env::args_os(), &variables).context("read the settings")?;
    let uploads = Uploads::read(&variables).context("read the settings")?;
    telemetry::init(&settings.log_filter);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let stop = shutdown::on_signal()?;
        let connection = Connection::new(&settings.config.endpoints, &variables)?;
        let listener = web::listen(settings.listen).await?;
        let address = listener.local_addr().context("read the address that it listens on")?;
        tracing::info!(%address, environment = settings.config.environment, "serving");
        client::run(&settings, uploads, web::Limits::PRODUCTION, &connection, listener, stop)
            .await
            .context("run the client app")
    })
}

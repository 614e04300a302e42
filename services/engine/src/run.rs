//! `engine run` and `engine exec`: settings, clients, the run itself, and its termination message and exit code.

use std::{collections::BTreeMap, pin::pin};

use anyhow::Context as _;
use cloud::{
    clients::{Connection, install_tls_provider},
    storage::Store,
    telemetry,
};
use contract::{config::Config, exit};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    config::{self, Settings},
    failure::Failure,
    input::{self, Done},
    install, process,
    program::Program,
    range,
};

/// Runs `run`, or `exec` when there is a program, and returns the exit code.
pub fn main(program: Option<&Program>) -> u8 {
    block_on(async |variables| {
        if program.is_some() {
            install::use_authorities()?;
        }
        until_stopped(variables, program).await
    })
}

/// Runs a verb on one thread, given the environment variables, and returns the exit code.
pub(crate) fn block_on(run: impl AsyncFnOnce(&BTreeMap<String, String>) -> Result<Done, Failure>) -> u8 {
    let variables = config::variables();
    telemetry::init("info");
    let log = config::termination_log(&variables);
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")
        .map_err(Failure::from)
        .and_then(|runtime| {
            let ended = runtime.block_on(run(&variables));
            // Do not wait for a computation that nobody needs any more.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(done) => {
            tracing::info!("{}", done.message());
            process::write_termination(log.as_deref(), done.code(), done.message());
            exit::DONE
        }
        Err(failure) => {
            tracing::error!(code = failure.code, permanent = failure.permanent, "{}", failure.message);
            process::write_termination(log.as_deref(), failure.code, &failure.message);
            failure.exit_code()
        }
    }
}

/// Runs until the end or SIGTERM. SIGTERM does not end a container's first process unless that process handles it.
async fn until_stopped(variables: &BTreeMap<String, String>, program: Option<&Program>) -> Result<Done, Failure> {
    let settings =
        Settings::read(variables).map_err(|error| Failure::transient("configuration", format!("{error:#}")))?;
    let engine = &settings.config.business(&settings.work.business)?.engine;
    let program = program.map(|program| program.with_defaults(&engine.program));
    let program = program.as_ref();
    let connect = connect(&settings.config, variables);
    if program.is_some_and(|program| !program.resident) && settings.work.pack.is_none() {
        // `program::run` handles the signal: it forwards it to the program, which may still finish.
        return input::run(&settings, program, &connect.await?).await;
    }
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut stop = pin!(async {
        terminate.recv().await;
    });
    let objects = tokio::select! {
        connected = connect => connected?,
        () = &mut stop => return Err(Failure::stopped()),
    };
    if settings.work.pack.is_some() {
        return range::run(&settings, program, &objects, stop).await;
    }
    tokio::select! {
        ended = input::run(&settings, program, &objects) => ended,
        () = stop => Err(Failure::stopped()),
    }
}

/// Connects to Cloud Storage.
pub(crate) async fn connect(config: &Config, variables: &BTreeMap<String, String>) -> anyhow::Result<Store> {
    install_tls_provider()?;
    let connection = Connection::new(&config.endpoints, variables)?;
    Store::connect(&connection).await
}

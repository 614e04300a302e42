//! `bench`: cargo builds the program of this name, which takes the place of this one.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::Context as _;
use cli::output::Output;

use crate::{context, globals::Globals};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measure the programs that the demo runs, which are not optimised but built already
    #[arg(long)]
    dev: bool,
    #[command(flatten)]
    options: Options,
}

/// Options of a measurement.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Smaller loads: under two minutes after the build
    #[arg(long)]
    pub quick: bool,
    /// Measure latency, creation and memory also on the API server of this context of your kubeconfig, in namespaces
    /// that are deleted afterwards; Pub/Sub, storage and the orchestrator stay on this machine
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Only these measurements
    #[arg(long, value_delimiter = ',', value_enum)]
    pub only: Vec<Part>,
}

/// A group of rows that is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The Monte Carlo kernel beside QuantLib, and over cores.
    Kernel,
    /// From the start of an engine to its first request for data.
    EngineStart,
    /// From the start of an orchestrator to its readiness.
    OrchestratorStart,
    /// `provision` from nothing, and `plan` with nothing to do.
    #[value(alias = "provision")]
    Setup,
    /// From a published message to its Kubernetes Job.
    Latency,
    /// Jobs created from a backlog, beside bare creates.
    Creation,
    /// The orchestrator's memory with those Jobs in its namespace.
    Memory,
    /// Jobs from message to outcome, beside bare Jobs.
    Flow,
    /// Many small items in a pack.
    Packs,
    /// Small items in a pool of warm engines, beside Ray and Dask.
    Pool,
    /// Items lost or doubled while engines and orchestrators are killed, beside Ray and Dask.
    Kills,
    /// Calls of Python functions, beside Ray and Dask.
    Python,
}

/// Replaces this process by the bench, which handles signals and returns its own exit code.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let cargo = contract::config::variables().remove("CARGO").unwrap_or_else(|| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["run", "--package", "bench"]).current_dir(context::root());
    if !args.dev {
        output.note("building the bench, optimised (the first time takes many minutes; `--dev` needs no such build)");
        command.args(["--profile", "optimized"]);
    }
    if output.is_quiet() {
        command.arg("--quiet");
    }
    let error = command.arg("--").args(arguments(globals, &args.options)).exec();
    Err(error).context("run cargo")
}

/// The options as arguments of the program.
fn arguments(globals: &Globals, options: &Options) -> Vec<OsString> {
    let shared = &globals.shared;
    let flags =
        [(options.quick, "--quick"), (shared.json, "--json"), (shared.quiet, "--quiet"), (shared.verbose, "--verbose")];
    let mut arguments: Vec<OsString> =
        flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.into()).collect();
    if let Some(name) = &options.context {
        arguments.extend(["--context".into(), name.into()]);
    }
    for part in options.only.iter().filter_map(clap::ValueEnum::to_possible_value) {
        arguments.extend(["--only".into(), part.get_name().into()]);
    }
    arguments
}

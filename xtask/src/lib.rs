//! The command line of Deskgrid: parses it, runs one verb, and turns errors into messages and exit codes.

mod agree;
mod args;
mod binaries;
mod building;
mod codes;
mod context;
mod error;
mod inputs;
mod interrupt;
mod laptop;
mod locking;
mod network;
mod output;
mod program;
mod removing;
mod setup;
mod stage;
mod text;
mod verbs;

use std::process::ExitCode;

use args::{Cli, Deskgrid, Verb};
use clap::Parser as _;
use inspect::cluster;
use output::Output;

/// Runs `cargo xtask`: every verb. `package` is the folder of this package where it was compiled.
pub fn xtask(package: &'static str) -> ExitCode {
    context::remember_package(package);
    laptop::remember_program();
    parsed(Cli::try_parse())
}

/// Runs `deskgrid`: the daily verbs, for whoever has no Rust toolchain and no copy of the source.
pub fn deskgrid() -> ExitCode {
    program::be_deskgrid();
    parsed(Deskgrid::try_parse().map(Cli::from))
}

fn parsed(cli: Result<Cli, clap::Error>) -> ExitCode {
    match cli {
        Ok(cli) => start(&cli),
        Err(error) => {
            let code = if error.use_stderr() { contract::exit::USAGE } else { contract::exit::DONE };
            // A reader that went away is no reason to complain.
            let _ = error.print();
            code.into()
        }
    }
}

fn start(cli: &Cli) -> ExitCode {
    let output = Output::new(&cli.globals);
    output::start_logging(&cli.globals);
    let run = || -> anyhow::Result<u8> {
        cloud::clients::install_tls_provider()?;
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(interrupt::guard(cli.verb.as_ref(), run(cli, &output)))
    };
    match run() {
        Ok(code) => code.into(),
        Err(error) => error::report(&error, &output).into(),
    }
}

async fn run(cli: &Cli, output: &Output) -> anyhow::Result<u8> {
    let globals = &cli.globals;
    match &cli.verb {
        Some(Verb::Bench(args)) => verbs::bench::run(args, output).await,
        Some(Verb::Demo(args)) => verbs::demo::run(args, output).await,
        Some(Verb::Local(args)) => verbs::local::run(globals, args, output).await,
        Some(Verb::Test(args)) => verbs::test::run(globals, args, output).await,
        Some(Verb::Check) => verbs::test::check(output).await,
        Some(Verb::Plan(args)) => verbs::provision::plan(globals, args, output).await,
        Some(Verb::Provision(args)) => verbs::provision::run(globals, args, output).await,
        Some(Verb::AddBusiness(args)) => verbs::add_business::run(globals, args, output).await,
        Some(Verb::RemoveBusiness(args)) => verbs::remove_business::run(globals, args, output).await,
        Some(Verb::Teardown(args)) => verbs::teardown::run(globals, args, output).await,
        Some(Verb::Render(args)) => verbs::render::run(globals, args, output),
        Some(Verb::RotateKeys(args)) => verbs::rotate_keys::run(globals, args, output).await,
        Some(Verb::Build(args)) => verbs::build::run(globals, args, output).await,
        Some(Verb::Deploy(args)) => verbs::deploy::run(globals, args, output).await,
        Some(Verb::Submit(args)) => verbs::submit::run(globals, args, output).await,
        Some(Verb::Jobs(args)) => verbs::jobs::run(globals, args, output).await,
        Some(Verb::Job(args)) => verbs::job::run(globals, args, output).await,
        Some(Verb::Logs(args)) => verbs::logs::run(globals, args, output).await,
        Some(Verb::Results(args)) => verbs::results::run(globals, args, output).await,
        Some(Verb::Session(args)) => verbs::session::run(globals, args, output).await,
        Some(Verb::DeadLetters(args)) => verbs::dead_letters::run(globals, args, output).await,
        Some(Verb::Status(args)) => verbs::status::run(globals, args, output).await,
        Some(Verb::Doctor(args)) => verbs::doctor::run(globals, args, output).await,
        Some(Verb::Open(args)) => verbs::open::run(globals, args, output).await,
        Some(Verb::Clean(args)) => verbs::clean::run(globals, args, output).await,
        Some(Verb::Explain(args)) => verbs::explain::run(args, output),
        Some(Verb::Completions(args)) => verbs::completions::run(args, output),
        None => {
            let _ = args::command().print_help();
            Ok(contract::exit::DONE)
        }
    }
}

//! The command line of Deskgrid: parses it, runs one verb, and turns errors into messages and exit codes.

mod args;
pub mod binaries;
mod building;
pub mod context;
pub mod error;
mod globals;
mod image_notes;
mod laptop;
mod locking;
mod login;
mod network;
mod removing;
pub mod setup;
pub mod stage;
mod verbs;

use std::process::ExitCode;

use args::{Cli, Verb};
use clap::{CommandFactory as _, Parser as _};
use cli::{Opener, interrupt, output::Output};
pub use globals::Globals;
pub use laptop::remember_program;
pub use verbs::bench;

/// Runs `cargo xtask`: every verb. `package` is the folder of this package where it was compiled.
pub fn xtask(package: &'static str) -> ExitCode {
    context::remember_package(package);
    if let Ok(program) = std::env::current_exe() {
        remember_program(program);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::usage(&error),
    };
    let output = Output::new(&cli.globals.shared);
    cli::output::start_logging(&cli.globals.shared);
    let handles_interrupt = cli.verb.as_ref().is_some_and(Verb::handles_interrupt);
    cli::start(&output, error::explain, || interrupt::guard(handles_interrupt, run(&cli, &output)))
}

async fn run(cli: &Cli, output: &Output) -> anyhow::Result<u8> {
    cloud::proxy::exclude_loopback(&contract::config::variables())?;
    let globals = &cli.globals;
    match &cli.verb {
        Some(Verb::Bench(args)) => verbs::bench::run(globals, args, output),
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
        Some(Verb::Daily(verb)) => {
            let opener = Opener::new(|| Box::pin(context::open(globals)));
            verb.run(&opener, Cli::command, output).await
        }
        Some(Verb::Doctor(args)) => verbs::doctor::run(globals, args, output).await,
        Some(Verb::Open(args)) => verbs::open::run(globals, args, output).await,
        Some(Verb::Clean(args)) => verbs::clean::run(globals, args, output).await,
        Some(Verb::Smoke(args)) => verbs::smoke::run(args, output).await,
        None => {
            let _ = Cli::command().print_help();
            Ok(contract::exit::DONE)
        }
    }
}

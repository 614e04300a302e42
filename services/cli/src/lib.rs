//! The daily verbs: the program `deskgrid`, and what `cargo xtask` shares with it.

pub mod agree;
pub mod args;
mod codes;
pub mod context;
pub mod error;
mod inputs;
pub mod interrupt;
pub mod output;
pub mod program;
pub mod text;
mod verbs;
mod view;

use std::process::ExitCode;

use args::Deskgrid;
pub use args::{Globals, Verb};
use clap::{CommandFactory as _, Parser as _};
pub use context::{Context, Opener};
use error::Failure;
use output::Output;

/// Runs `deskgrid`, for people without a Rust toolchain and a copy of the source.
pub fn deskgrid() -> ExitCode {
    program::be_deskgrid();
    let Deskgrid { config, globals, verb } = match Deskgrid::try_parse() {
        Ok(deskgrid) => deskgrid,
        Err(error) => return usage(&error),
    };
    let output = Output::new(&globals);
    output::start_logging(&globals);
    let run = || async {
        let Some(verb) = &verb else {
            let _ = Deskgrid::command().print_help();
            return Ok(contract::exit::DONE);
        };
        let config = config.as_deref().filter(|path| !path.as_os_str().is_empty());
        let opener = Opener::new(|| {
            Box::pin(async {
                let Some(config) = config else {
                    return Err(Failure::usage("no environment is named")
                        .next(
                            "name its configuration with --config FILE or DESKGRID_CONFIG; the operators of the \
                             environment have it as infra/generated/NAME/config.json",
                        )
                        .into());
                };
                Context::by_config(config, globals.context()).await
            })
        });
        verb.run(&opener, Deskgrid::command, &output).await
    };
    let handles_interrupt = verb.as_ref().is_some_and(Verb::handles_interrupt);
    start(&output, error::explain, || interrupt::guard(handles_interrupt, run()))
}

/// Prints what is wrong with a command line, or the help, and returns the exit code.
pub fn usage(error: &clap::Error) -> ExitCode {
    let code = if error.use_stderr() { contract::exit::USAGE } else { contract::exit::DONE };
    // A reader that went away is no reason to complain.
    let _ = error.print();
    code.into()
}

/// Runs a verb on a new runtime, reports its error as `explain` explains it, and returns the exit code.
pub fn start<F: Future<Output = anyhow::Result<u8>>>(
    output: &Output,
    explain: fn(&anyhow::Error) -> Failure,
    verb: impl FnOnce() -> F,
) -> ExitCode {
    let run = || -> anyhow::Result<u8> {
        cloud::clients::install_tls_provider()?;
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(verb())
    };
    match run() {
        Ok(code) => code.into(),
        Err(error) => error::report(&error, explain, output).into(),
    }
}

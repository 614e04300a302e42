//! The daily verbs: the program `deskgrid`, and the parts that `cargo xtask` shares with it.

pub mod args;
mod attempts;
mod change;
mod codes;
pub mod confirm;
pub mod context;
pub mod destination;
pub mod error;
pub mod flight;
pub mod globals;
mod inputs;
pub mod interrupt;
mod limit;
pub mod output;
mod packing;
mod pipe;
pub mod program;
mod results;
mod tables;
pub mod text;
mod verbs;
mod view;

use std::process::ExitCode;

use args::Deskgrid;
pub use args::Verb;
use clap::{CommandFactory as _, Parser as _};
pub use context::{Context, Opener};
use contract::exit;
use error::Failure;
pub use globals::Globals;
use output::Output;

/// Runs `deskgrid`, for people without a Rust toolchain and a copy of the source.
pub fn deskgrid() -> ExitCode {
    program::set_deskgrid();
    let Deskgrid { config, globals, serve_pipe, verb } = match Deskgrid::try_parse() {
        Ok(deskgrid) => deskgrid,
        Err(error) => return usage(&error),
    };
    let output = Output::new(&globals);
    output::start_logging(&globals);
    let run = || async {
        cloud::proxy::exclude_loopback(&contract::config::variables())?;
        if verb.is_none() && !serve_pipe {
            let _ = Deskgrid::command().print_help();
            return Ok(exit::DONE);
        }
        let config = config.as_deref().filter(|path| !path.as_os_str().is_empty());
        let opener = Opener::new(|| {
            Box::pin(async {
                let Some(config) = config else {
                    return Err(Failure::usage("no environment is given")
                        .next(
                            "give its configuration file with --config FILE or DESKGRID_CONFIG; the operators of the \
                             environment have it as infra/generated/NAME/config.json",
                        )
                        .into());
                };
                Context::from_config(config, globals.context()).await
            })
        });
        match &verb {
            Some(verb) => verb.run(&opener, Deskgrid::command, &output).await,
            None => pipe::serve(&opener).await,
        }
    };
    let handles_interrupt = verb.as_ref().is_some_and(Verb::handles_interrupt);
    start(&output, error::explain, || interrupt::guard(handles_interrupt, run()))
}

/// Prints the error of a command line (as JSON when results are JSON), or the help, and returns the exit code.
pub fn usage(error: &clap::Error) -> ExitCode {
    let has_json = || std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "--json");
    if !error.use_stderr() || !has_json() {
        // A closed output is not an error.
        let _ = error.print();
        return if error.use_stderr() { exit::USAGE } else { exit::DONE }.into();
    }
    let failure = Failure::of_usage(error);
    Output::new(&Globals { json: true, ..Globals::default() }).failure(&failure);
    failure.exit.into()
}

/// Runs a verb on a new runtime, prints its error as `explain` returns it, and returns the exit code.
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
        Ok(exit::DONE) => exit::DONE.into(),
        // A signal stopped the verb early, so its exit code is that of the signal.
        Ok(code) => interrupt::exit_code().unwrap_or(code).into(),
        Err(error) if error.is::<output::Closed>() => exit::DONE.into(),
        Err(error) => {
            let mut failure = explain(&error);
            failure.exit = interrupt::exit_code().unwrap_or(failure.exit);
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

//! Entry point of the engine: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use contract::exit;
use engine::{
    arguments::{Arguments, Verb},
    host, install, local, run, serve,
};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors; if printing fails, the exit code still says which it was.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    let code = match arguments.verb.unwrap_or(Verb::Run) {
        Verb::Run => run::main(None),
        Verb::Exec(program) => run::main(Some(&program.into())),
        Verb::Serve => serve::main(),
        Verb::Program(program) => host::main(&program.into()),
        Verb::Try(program) => local::main(program.into()),
        Verb::Install { path } => install::main(&path),
    };
    ExitCode::from(code)
}

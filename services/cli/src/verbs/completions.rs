//! `completions SHELL`: a completion script for a shell.

use clap_complete::Shell;

use crate::output::Output;

/// To load them: `source <(cargo xtask completions bash)`, for a program called `xtask`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args, mut command: clap::Command, output: &Output) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    output.write(&script)?;
    Ok(contract::exit::DONE)
}

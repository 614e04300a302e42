//! The command line of `deskgrid`: its options and its verbs.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{context::Opener, globals::Globals, output::Output, verbs};

/// Deskgrid: submit jobs to a compute work queue, follow them, and fetch their results.
#[derive(Debug, Parser)]
#[command(name = "deskgrid", version, disable_help_subcommand = true)]
pub struct Deskgrid {
    /// Configuration file of the environment; `cargo xtask provision` writes it to infra/generated/NAME/config.json
    #[arg(long, global = true, value_name = "FILE", env = "DESKGRID_CONFIG")]
    pub config: Option<PathBuf>,
    /// Options that every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// Answer calls on standard input, as the Python package makes them.
    #[arg(long, hide = true)]
    pub serve_pipe: bool,
    /// The verb.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// The daily verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Submit Jobs: files, folders, or standard input
    Submit(verbs::submit::Args),
    /// List waiting, running and ended Jobs
    Jobs(verbs::jobs::Args),
    /// Show all details of one Job
    Job(verbs::job::Args),
    /// Show the logs of Jobs, or of the orchestrator
    Logs(verbs::logs::Args),
    /// Print results as one table
    Results(verbs::results::Args),
    /// Verify the results of a session by size and hash, and by a new computation
    Verify(verbs::verify::Args),
    /// List, wait for, pause, cancel, retry and close sessions
    Session(verbs::session::Args),
    /// List, replay and discard failed Jobs and refused messages
    DeadLetters(verbs::dead_letters::Args),
    /// Show an overview of the environment and its problems
    Status(verbs::status::Args),
    /// Explain an error code, a reason code or an exit code
    Explain(verbs::explain::Args),
    /// Print a completion script for a shell
    Completions(verbs::completions::Args),
}

impl Verb {
    /// Runs the verb and returns the exit code. `command` returns the command line of the program, for completions.
    ///
    /// # Errors
    /// When the verb fails.
    pub async fn run(
        &self,
        opener: &Opener<'_>,
        command: fn() -> clap::Command,
        output: &Output,
    ) -> anyhow::Result<u8> {
        match self {
            Self::Submit(args) => verbs::submit::run(opener, args, output).await,
            Self::Jobs(args) => verbs::jobs::run(opener, args, output).await,
            Self::Job(args) => verbs::job::run(opener, args, output).await,
            Self::Logs(args) => verbs::logs::run(opener, args, output).await,
            Self::Results(args) => verbs::results::run(opener, args, output).await,
            Self::Verify(args) => verbs::verify::run(opener, args, output).await,
            Self::Session(args) => verbs::session::run(opener, args, output).await,
            Self::DeadLetters(args) => verbs::dead_letters::run(opener, args, output).await,
            Self::Status(args) => verbs::status::run(opener, args, output).await,
            Self::Explain(args) => verbs::explain::run(args, output),
            Self::Completions(args) => verbs::completions::run(args, command(), output),
        }
    }

    /// Whether the verb handles Ctrl-C itself and finishes its work.
    pub fn handles_interrupt(&self) -> bool {
        matches!(self, Self::Submit(_) | Self::Logs(_))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        let command = Deskgrid::command();
        command.clone().debug_assert();
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, crate::program::DAILY_VERBS);
    }
}

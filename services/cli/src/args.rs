//! The shape of the daily command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{context::Opener, output::Output, verbs};

/// Deskgrid: submit jobs to a compute work queue, follow them, and fetch their results.
#[derive(Debug, Parser)]
#[command(name = "deskgrid", version, disable_help_subcommand = true)]
pub struct Deskgrid {
    /// The environment's configuration, which `cargo xtask provision` writes as infra/generated/NAME/config.json
    #[arg(long, global = true, value_name = "FILE", env = "DESKGRID_CONFIG")]
    pub config: Option<PathBuf>,
    /// What every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// The verb.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What every verb takes, in this program and in `cargo xtask`.
#[derive(Clone, Debug, Default, Args)]
pub struct Globals {
    /// Kubernetes cluster in the place of the environment's own: a context of your kubeconfig
    #[arg(long, global = true, value_name = "NAME", env = "DESKGRID_CONTEXT")]
    pub context: Option<String>,
    /// Print results as JSON on standard output, and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// No messages and no progress on standard error, only errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more on standard error
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

impl Globals {
    /// The Kubernetes context named on the command line.
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref().filter(|name| !name.is_empty())
    }
}

/// The daily verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Submit Jobs: files, folders, or standard input
    Submit(verbs::submit::Args),
    /// List Jobs: waiting, running and ended
    Jobs(verbs::jobs::Args),
    /// Show all details of one Job
    Job(verbs::job::Args),
    /// Show the logs of Jobs, or of the orchestrator
    Logs(verbs::logs::Args),
    /// Print results as one table
    Results(verbs::results::Args),
    /// List, wait for, pause, cancel, retry and close sessions
    Session(verbs::session::Args),
    /// List, replay and discard failed Jobs and refused messages
    DeadLetters(verbs::dead_letters::Args),
    /// Show an overview of the environment, and its problems
    Status(verbs::status::Args),
    /// Explain an error code: its cause, and what to do
    Explain(verbs::explain::Args),
    /// Print a completion script for a shell
    Completions(verbs::completions::Args),
}

impl Verb {
    /// Runs the verb and returns the exit code; `command` is the command line of the program, for completions.
    ///
    /// # Errors
    /// As the verb.
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
            Self::Session(args) => verbs::session::run(opener, args, output).await,
            Self::DeadLetters(args) => verbs::dead_letters::run(opener, args, output).await,
            Self::Status(args) => verbs::status::run(opener, args, output).await,
            Self::Explain(args) => verbs::explain::run(args, output),
            Self::Completions(args) => verbs::completions::run(args, command(), output),
        }
    }

    /// Whether the verb handles Ctrl-C itself and finishes what it has begun.
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
        assert_eq!(names, crate::program::DAILY);
    }
}

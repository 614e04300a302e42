//! The shape of the command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::{program, verbs};

/// Deskgrid: a compute work queue on Google Cloud, or on this laptop.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// Deskgrid: submit jobs to a compute work queue, follow them, and fetch their results.
#[derive(Debug, Parser)]
#[command(name = "deskgrid", version, disable_help_subcommand = true)]
pub(crate) struct Deskgrid {
    /// The environment's configuration, which `cargo xtask provision` writes as infra/generated/NAME/config.json
    /// [default: inside a copy of the source, the environment that --env names]
    #[arg(long, global = true, value_name = "FILE", env = "DESKGRID_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Option<Daily>,
}

/// The daily verbs.
#[derive(Debug, Subcommand)]
enum Daily {
    /// Submit Jobs: files, folders, or standard input
    Submit(verbs::submit::Args),
    /// List Jobs: what waits, what runs, how the others ended
    Jobs(verbs::jobs::Args),
    /// Show everything known of one Job
    Job(verbs::job::Args),
    /// Show the logs of Jobs, or of the orchestrator
    Logs(verbs::logs::Args),
    /// Print results as one tidy table
    Results(verbs::results::Args),
    /// See, wait for, stop and go on with all Jobs of a session
    Session(verbs::session::Args),
    /// See, try again and strike off what failed or was refused
    DeadLetters(verbs::dead_letters::Args),
    /// Show the environment at a glance, and what is wrong with it
    Status(verbs::status::Args),
    /// Explain an error code: its cause, and what to do
    Explain(verbs::explain::Args),
    /// Print a completion script for a shell
    Completions(verbs::completions::Args),
}

impl From<Deskgrid> for Cli {
    fn from(deskgrid: Deskgrid) -> Self {
        let Deskgrid { config, globals, verb } = deskgrid;
        let config = config.filter(|path| !path.as_os_str().is_empty());
        Self { globals: Globals { config, ..globals }, verb: verb.map(Verb::from) }
    }
}

impl From<Daily> for Verb {
    fn from(verb: Daily) -> Self {
        match verb {
            Daily::Submit(args) => Self::Submit(args),
            Daily::Jobs(args) => Self::Jobs(args),
            Daily::Job(args) => Self::Job(args),
            Daily::Logs(args) => Self::Logs(args),
            Daily::Results(args) => Self::Results(args),
            Daily::Session(args) => Self::Session(args),
            Daily::DeadLetters(args) => Self::DeadLetters(args),
            Daily::Status(args) => Self::Status(args),
            Daily::Explain(args) => Self::Explain(args),
            Daily::Completions(args) => Self::Completions(args),
        }
    }
}

/// The command line of the program that this is.
pub(crate) fn command() -> clap::Command {
    if program::is_deskgrid() { Deskgrid::command() } else { Cli::command() }
}

/// What every verb takes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Globals {
    /// The generated configuration to go by, instead of an environment file.
    #[arg(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Environment: a name in infra/environments, or a path that ends in .toml [default: the only one that is not
    /// `local`]
    #[arg(long, global = true, value_name = "NAME", env = "DESKGRID_ENV")]
    pub(crate) env: Option<String>,
    /// Kubernetes cluster in the place of the environment's own: a context of your kubeconfig
    #[arg(long, global = true, value_name = "NAME", env = "DESKGRID_CONTEXT")]
    pub(crate) context: Option<String>,
    /// Act as this service account; you need roles/iam.serviceAccountTokenCreator on it
    #[arg(long, global = true, value_name = "EMAIL")]
    pub(crate) impersonate_service_account: Option<String>,
    /// Print results as JSON on standard output, and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No messages and no progress on standard error, only errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on standard error
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

impl Globals {
    /// The Kubernetes context that the person named.
    pub(crate) fn context(&self) -> Option<&str> {
        self.context.as_deref().filter(|name| !name.is_empty())
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the whole system on this machine, from nothing to checked results, and back to nothing
    Demo(verbs::demo::Args),
    /// Start, stop and look at the laptop cloud
    Local(verbs::local::Args),
    /// Run every test
    Test(verbs::test::Args),
    /// Check format and lints, and run every test
    Check,
    /// Show what the cloud lacks of what the environment file says
    Plan(verbs::provision::PlanArgs),
    /// Bring the cloud to what the environment file says
    Provision(verbs::provision::Args),
    /// Add a business to the environment file and the cloud, and touch no other one
    AddBusiness(verbs::add_business::Args),
    /// Take a business out of the cloud and the environment file; its data stays unless asked
    RemoveBusiness(verbs::remove_business::Args),
    /// Take the whole environment out of the cloud; data stays unless asked
    Teardown(verbs::teardown::Args),
    /// Write the manifests into a folder, without credentials and without a cloud
    Render(verbs::render::Args),
    /// Give every account a new key, and delete the old one once nothing uses it (auth = "key")
    RotateKeys(verbs::rotate_keys::Args),
    /// Make the container images: with Cloud Build, or on this machine
    Build(verbs::build::Args),
    /// Build the services and bring them into the cluster
    Deploy(verbs::deploy::Args),
    /// Submit Jobs: files, folders, or standard input
    Submit(verbs::submit::Args),
    /// List Jobs: what waits, what runs, how the others ended
    Jobs(verbs::jobs::Args),
    /// Show everything known of one Job
    Job(verbs::job::Args),
    /// Show the logs of Jobs, or of the orchestrator
    Logs(verbs::logs::Args),
    /// Print results as one tidy table
    Results(verbs::results::Args),
    /// See, wait for, stop and go on with all Jobs of a session
    Session(verbs::session::Args),
    /// See, try again and strike off what failed or was refused
    DeadLetters(verbs::dead_letters::Args),
    /// Show the environment at a glance, and what is wrong with it
    Status(verbs::status::Args),
    /// Look at everything the environment needs, and say how to put right what is wrong
    Doctor(verbs::doctor::Args),
    /// Open a web app of the environment from this machine
    Open(verbs::open::Args),
    /// Remove what has ended of a business, or generated files that nothing uses
    Clean(verbs::clean::Args),
    /// Measure the queue and the kernel on this machine, each beside its yardstick
    Bench(verbs::bench::Args),
    /// Explain an error code: its cause, and what to do
    Explain(verbs::explain::Args),
    /// Print a completion script for a shell
    Completions(verbs::completions::Args),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_lines_are_consistent() {
        Cli::command().debug_assert();
        Deskgrid::command().debug_assert();
    }

    #[test]
    fn what_deskgrid_does_xtask_does_in_the_same_words() {
        let (all, daily) = (Cli::command(), Deskgrid::command());
        let names: Vec<&str> = daily.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, program::DAILY);
        for verb in daily.get_subcommands() {
            let same = all.find_subcommand(verb.get_name()).unwrap();
            assert_eq!(verb.get_about().unwrap().to_string(), same.get_about().unwrap().to_string());
        }
    }

    #[test]
    fn globals_are_taken_before_and_after_the_verb() {
        for line in [["x", "--env", "local", "--json", "jobs"], ["x", "jobs", "--json", "--env", "local"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.globals.json);
            assert_eq!(cli.globals.env.as_deref(), Some("local"));
        }
    }
}

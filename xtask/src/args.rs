//! The shape of the command line.

use clap::{Args, Parser, Subcommand};

use crate::verbs;

/// Deskgrid: a compute work queue on Google Cloud, or on this laptop.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What every verb takes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Globals {
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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
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

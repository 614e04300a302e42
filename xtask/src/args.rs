//! The shape of the command line.

use clap::{Parser, Subcommand};

use crate::{globals::Globals, verbs};

/// Deskgrid: a compute work queue on Google Cloud, or on this laptop.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the whole system on this machine up to checked results, and remove it again
    Demo(verbs::demo::Args),
    /// Start, stop and inspect the laptop cloud
    Local(verbs::local::Args),
    /// Run every test
    Test(verbs::test::Args),
    /// Check format and lints, and run every test
    Check,
    /// Show how the cloud differs from the environment file
    Plan(verbs::provision::PlanArgs),
    /// Change the cloud to match the environment file
    Provision(verbs::provision::Args),
    /// Add a business to the environment file and the cloud; other businesses stay as they are
    AddBusiness(verbs::add_business::Args),
    /// Remove a business from the cloud and the environment file; its data stays unless you ask to delete it
    RemoveBusiness(verbs::remove_business::Args),
    /// Remove the whole environment from the cloud; data stays unless you ask to delete it
    Teardown(verbs::teardown::Args),
    /// Write the manifests into a folder; needs no credentials and no cloud
    Render(verbs::render::Args),
    /// Create a new key for every account (auth = "key"), and delete the old one once nothing uses it; create a new
    /// certificate for every pool
    RotateKeys(verbs::rotate_keys::Args),
    /// Make the container images: with Cloud Build, or on this machine
    Build(verbs::build::Args),
    /// Build the services and deploy them into the cluster
    Deploy(verbs::deploy::Args),
    /// The daily verbs.
    #[command(flatten)]
    Daily(cli::Verb),
    /// Check everything the environment needs, and say how to fix each problem
    Doctor(verbs::doctor::Args),
    /// Open a web app of the environment from this machine
    Open(verbs::open::Args),
    /// Remove ended Jobs of a business, or generated files that nothing uses
    Clean(verbs::clean::Args),
    /// Run every command once in a temporary environment of your project, and write a report that can be sent
    Smoke(verbs::smoke::Args),
    /// Measure the queue and the kernel on this machine, each figure beside its yardstick
    Bench(verbs::bench::Args),
}

impl Verb {
    /// Whether the verb handles Ctrl-C itself and finishes what it has begun.
    pub(crate) fn handles_interrupt(&self) -> bool {
        match self {
            Self::Daily(verb) => verb.handles_interrupt(),
            verb => matches!(verb, Self::Build(_) | Self::Demo(_) | Self::Local(_) | Self::Open(_) | Self::Smoke(_)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_lines_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn globals_are_taken_before_and_after_the_verb() {
        for line in [["x", "--env", "local", "--json", "jobs"], ["x", "jobs", "--json", "--env", "local"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.globals.shared.json);
            assert_eq!(cli.globals.env.as_deref(), Some("local"));
        }
    }
}

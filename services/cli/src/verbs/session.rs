//! `session`: verbs for all Jobs of a session together.

use crate::{context::Opener, output::Output};

mod close;
mod cost;
mod decide;
mod failures;
mod list;
mod results;
mod retry;
mod target;
mod wait;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// List sessions with the states of their Jobs
    List(list::Args),
    /// Wait until every Job of a session has an outcome; exit code 1 unless all succeeded
    Wait(wait::Args),
    /// Cancel a session: stop its running Jobs and start no waiting ones; inputs are kept
    Cancel(decide::CancelArgs),
    /// Pause a session: start none of its waiting Jobs; running Jobs go on
    Pause(decide::PauseArgs),
    /// Resume a paused session
    Resume(decide::ResumeArgs),
    /// Retry the Jobs of a session that did not succeed
    Retry(retry::Args),
    /// Show why Jobs of a session did not succeed, grouped by cause
    Failures(failures::Args),
    /// Print the results of a session as one table
    Results(results::Args),
    /// Estimate what a session cost: CPU and memory of its pods, times list prices
    Cost(cost::Args),
    /// Delete the common data of a session without waiting or running Jobs
    Close(close::Args),
}

/// Runs a verb of `session`.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    match &args.verb {
        Verb::List(args) => list::run(opener, args, output).await,
        Verb::Wait(args) => wait::run(opener, args, output).await,
        Verb::Cancel(args) => decide::cancel(opener, args, output).await,
        Verb::Pause(args) => decide::pause(opener, args, output).await,
        Verb::Resume(args) => decide::resume(opener, args, output).await,
        Verb::Retry(args) => retry::run(opener, args, output).await,
        Verb::Failures(args) => failures::run(opener, args, output).await,
        Verb::Results(args) => results::run(opener, args, output).await,
        Verb::Cost(args) => cost::run(opener, args, output).await,
        Verb::Close(args) => close::run(opener, args, output).await,
    }
}

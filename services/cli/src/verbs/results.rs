//! `results`: the results of a session, or of all sessions of a business, as one table.

use crate::{
    context::Opener,
    output::Output,
    results::{self, TargetArgs},
};

/// Columns: session, job, row, measure, value, standard_error, error. A Job without a result is a row with its error.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only this session
    #[arg(long, short)]
    session: Option<String>,
    /// Business [default: the only one]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// Prints the results.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    results::print(opener, args.business.as_deref(), args.session.as_deref(), &args.target, output).await
}

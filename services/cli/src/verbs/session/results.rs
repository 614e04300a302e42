//! `session results`: the table that `results` prints, of one session.

use std::path::PathBuf;

use super::Of;
use crate::{
    context::Opener,
    output::Output,
    verbs::results::{self, Format},
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Form [default: by the extension of --output; a table on a terminal, else csv]
    #[arg(long, short, value_enum)]
    format: Option<Format>,
    /// Write to a file, which appears only when it is complete
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let wanted = results::Args {
        session: Some(args.of.session.clone()),
        business: args.of.business.clone(),
        format: args.format,
        output: args.output.clone(),
    };
    results::run(opener, &wanted, output).await
}

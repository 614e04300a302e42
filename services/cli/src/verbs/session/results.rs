//! `session results`: the table of `results` for one session.

use super::target::SessionArgs;
use crate::{
    context::Opener,
    output::Output,
    results::{self, TargetArgs},
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    target: TargetArgs,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let (session, business) = (&args.session.session, args.session.business.as_deref());
    results::print(opener, business, Some(session), &args.target, output).await
}

//! `session failures`: the Jobs that did not succeed, grouped by cause.

use cloud::outcomes;
use contract::{Outcome, exit};
use serde_json::json;
use sessions::{Counts, causes};

use super::target::SessionArgs;
use crate::{context::Opener, output::Output, text};

/// Outcomes read at a time.
const READS: usize = 32;

/// Jobs have the same cause when they have the same reason code and the same log line. That line is the first one that
/// differs between the Jobs of a code; numbers, ids and quoted names in it do not count.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let session = args.session.read(&context, output, false).await?;
    let names: Vec<String> = session.jobs.iter().flat_map(|job| &job.unsuccessful).cloned().collect();
    let outcomes = outcomes::read_all(&context.store, &session.business.bucket, names, READS).await?;
    let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
    let found = causes(&outcomes);
    if output.json {
        output.document(&json!({
            "business": session.business.name, "session": session.name, "total": Counts::of(&session.jobs).total(),
            "causes": found,
        }))?;
        return Ok(exit::DONE);
    }
    if found.is_empty() {
        output.note(format_args!("session {} has no failures", session.name));
        return Ok(exit::DONE);
    }
    for cause in &found {
        output.line(text::cause(cause))?;
    }
    let failed: usize = found.iter().map(|cause| cause.count).sum();
    output.note(format_args!(
        "{} in {} of {}\nnext: cargo xtask{} job JOB --session {}, or cargo xtask{} session retry {}",
        text::count(found.len(), "cause"),
        failed,
        text::count(Counts::of(&session.jobs).total(), text::unit(&session.jobs)),
        context.flag,
        text::shell(session.name),
        context.flag,
        session.scope,
    ));
    Ok(exit::DONE)
}

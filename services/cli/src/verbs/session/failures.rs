//! `session failures`: why Jobs did not succeed, grouped by cause.

use cloud::outcomes;
use contract::{Outcome, exit};
use serde_json::json;
use sessions::{Cause, causes};

use super::Of;
use crate::{context::Opener, output::Output, text};

/// Outcomes read at a time.
const READS: usize = 32;

/// Jobs have one cause when their reason code is the same, and so is the first line of their logs that differs among
/// the Jobs of that code, numbers, names in quotes and the like apart.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let seen = args.of.look(&context, output, false).await?;
    let bad = seen.jobs.iter().filter(|job| job.state != Some(sessions::jobs::State::Succeeded));
    let names: Vec<String> = bad.filter_map(|job| job.outcome.clone()).collect();
    let outcomes = outcomes::read_all(&context.store, &seen.business.bucket, names, READS).await?;
    let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
    let found = causes(&outcomes);
    if output.json {
        output.document(&json!({
            "business": seen.business.name, "session": seen.session, "total": seen.jobs.len(), "causes": found,
        }))?;
        return Ok(exit::DONE);
    }
    if found.is_empty() {
        output.note(format_args!("nothing of session {} failed", seen.session));
        return Ok(exit::DONE);
    }
    for cause in &found {
        output.line(page(cause))?;
    }
    output.note(format_args!(
        "{} in {} of {} Jobs\nnext: cargo xtask{} job JOB --session {}, or cargo xtask{} session retry {}",
        text::count(found.len(), "cause"),
        outcomes.len(),
        seen.jobs.len(),
        context.flag,
        text::shell(seen.session),
        context.flag,
        seen.scope,
    ));
    Ok(exit::DONE)
}

fn page(cause: &Cause) -> String {
    let Cause { state, code, count, message, line, examples } = cause;
    let mut page = format!("{count} {state}, {code}: {message}");
    if !line.is_empty() && line != message {
        page.push_str(&format!("\n  log: {line}"));
    }
    let more = count.saturating_sub(examples.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    page.push_str(&format!("\n  {}{more}", examples.join(", ")));
    page
}

//! `session close`: the data that all Jobs of a session read goes.

use contract::exit;
use serde_json::json;
use sessions::{Counts, common_data, delete};

use super::{Change, Of, operator, wait};
use crate::{context::Opener, error::Failure, output::Output, text};

/// Results, outcomes and inputs of what did not succeed stay. Retries of Jobs that read common data fail after this.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Cancel what waits or runs first, and wait for that
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    // Without the cluster it is not known what runs, and data that a Job reads would go.
    context.cluster()?;
    let seen = args.of.look(&context, output, true).await?;
    let (business, session) = (seen.business, seen.session);
    let counts = Counts::of(&seen.jobs);
    let common = common_data(&context.store, business, session).await?;
    if seen.jobs.is_empty() && common.objects == 0 {
        return Err(args.of.missing(&context, business).await?.into());
    }
    if counts.pending() > 0 && !args.cancel {
        return Err(Failure::new("pending", format!("work of session {session} is pending"))
            .why(format!("{} waiting, {} running", counts.waiting, counts.running))
            .next(format!(
                "wait for it (`cargo xtask{} session wait {}`), or cancel it with --cancel",
                context.flag, seen.scope
            ))
            .into());
    }
    output.note(format_args!(
        "session {session} of {}: {} deleted ({}){}",
        business.name,
        text::count(common.objects, "object"),
        text::bytes(u64::try_from(common.bytes).unwrap_or_default()),
        if counts.pending() > 0 { format!("; {} cancelled before", counts.pending()) } else { String::new() }
    ));
    if !args.change.dry_run {
        args.change.agree(&context, &format!("close session {session}?"))?;
    }
    let mut deleted = 0;
    if !args.change.dry_run {
        if counts.pending() > 0 {
            sessions::control::cancel(&context.store, business, session, None, &operator()).await?;
            wait::follow(&context, seen, None, output, false).await?;
        }
        // Looked at again: a cancel made a control object.
        let common = common_data(&context.store, business, session).await?;
        deleted = delete(&context.store, business, &common).await?;
    }
    if output.json {
        output.document(&json!({
            "business": business.name, "session": session, "counts": counts, "common": common, "deleted": deleted,
        }))?;
    }
    Ok(exit::DONE)
}

//! `session close`: deletes the common data of a session, and its control object.

use std::time::Duration;

use contract::exit;
use serde_json::json;
use sessions::{Counts, common_data, delete};

use super::{
    target::{SessionArgs, operator},
    wait,
};
use crate::{change::Change, context::Opener, error::Failure, output::Output, text};

/// How long cancelled Jobs may take to end: an orchestrator that runs needs seconds.
const CANCEL_LIMIT: Duration = Duration::from_secs(600);

/// Results, outcomes and remaining inputs are kept. Later retries of Jobs that read common data fail.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// First cancel waiting and running Jobs, and wait until they have ended
    #[arg(long)]
    cancel: bool,
    /// Wait at most this long for cancelled Jobs to end (`90s`, `10m`, `2h`) [default: 10m]
    #[arg(long, requires = "cancel", value_parser = text::parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    // Only the cluster knows which Jobs run; a running Job may still read the data.
    context.cluster()?;
    let target = args.session.read(&context, output, true).await?;
    let (business, session) = (target.business, target.name);
    let counts = Counts::of(&target.jobs);
    let common = common_data(&context.store, business, session).await?;
    if target.jobs.is_empty() && common.objects == 0 {
        return Err(args.session.missing(&context, business).await?.into());
    }
    if counts.pending() > 0 && !args.cancel {
        return Err(Failure::new("pending", format!("session {session} has pending Jobs"))
            .why(format!("{} waiting, {} running", counts.waiting, counts.running))
            .next(format!(
                "wait for them (`cargo xtask{} session wait {}`), or cancel them with --cancel",
                context.flag, target.scope
            ))
            .into());
    }
    output.note(format_args!(
        "session {session} of {}: deleting {} ({}){}",
        business.name,
        text::count(common.objects, "object"),
        text::bytes(u64::try_from(common.bytes).unwrap_or_default()),
        if counts.pending() > 0 {
            format!(", after cancelling {}", text::count(counts.pending(), "Job"))
        } else {
            String::new()
        }
    ));
    if !args.change.dry_run {
        args.change.confirm(&context, &format!("close session {session}?"))?;
    }
    let mut deleted = 0;
    if !args.change.dry_run {
        if counts.pending() > 0 {
            sessions::control::cancel(&context.store, business, session, None, &operator()).await?;
            let next = format!(
                "`cargo xtask{flag} status` shows whether the orchestrator runs; then `cargo xtask{flag} session close \
                 {} --cancel` again",
                target.scope,
                flag = context.flag
            );
            let limit = args.timeout.unwrap_or(CANCEL_LIMIT);
            wait::follow(&context, target, limit, output, false, &next).await?;
        }
        // Listed again: the cancel may have created a control object.
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

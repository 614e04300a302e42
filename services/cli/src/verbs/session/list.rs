//! `session list`: the sessions of a business, or of all.

use cloud::controls;
use contract::exit;
use jiff::Timestamp;
use sessions::Summary;

use crate::{context::Opener, limit::Limit, output::Output, text, view};

/// The session that changed last comes first.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Business [default: all]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
    /// Only sessions with waiting or running Jobs
    #[arg(long)]
    pending: bool,
    #[command(flatten)]
    limit: Limit,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let mut found: Vec<Summary> = Vec::new();
    for business in context.businesses(args.business.as_deref())? {
        let (jobs, controls) =
            tokio::try_join!(view::jobs(&context, business, None, output), controls::all(&context.store, business))?;
        found.extend(sessions::summaries(&business.name, jobs, &controls));
    }
    found.retain(|summary| !args.pending || summary.counts.pending() > 0);
    found.sort_by_key(|summary| std::cmp::Reverse(summary.changed));
    args.limit.cut(&mut found, output);
    if output.json {
        output.document(&found)?;
    } else if found.is_empty() {
        output.note("no sessions");
    } else {
        output.line(table(&found, Timestamp::now()))?;
    }
    Ok(exit::DONE)
}

fn table(sessions: &[Summary], now: Timestamp) -> String {
    let header = [
        "business",
        "session",
        "state",
        "done",
        "waiting",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "row errors",
        "oldest",
        "changed",
    ];
    text::table(
        &header,
        sessions.iter().map(|summary| {
            let counts = &summary.counts;
            let oldest = summary.oldest_pending.map(|time| text::age(Some(time), now)).unwrap_or_default();
            let done = (counts.done() * 100).checked_div(counts.total()).map(|percent| format!("{percent}%"));
            let mut row = vec![
                summary.business.clone(),
                summary.session.clone(),
                state(summary).to_owned(),
                done.unwrap_or_default(),
            ];
            // A line per session counts Jobs that the API server refused as failed.
            let failed = counts.failed + counts.refused;
            let counted = [counts.waiting, counts.running, counts.succeeded, failed, counts.cancelled];
            row.extend(counted.map(|count| count.to_string()));
            let row_errors = (counts.row_errors > 0).then(|| counts.row_errors.to_string());
            row.extend([row_errors.unwrap_or_default(), oldest, text::age(summary.changed, now)]);
            row
        }),
    )
}

/// One word for a session.
fn state(summary: &Summary) -> &'static str {
    let counts = &summary.counts;
    match () {
        () if summary.paused => "paused",
        () if counts.running > 0 => "running",
        () if counts.waiting > 0 => "waiting",
        () if counts.failed + counts.refused > 0 => "failed",
        () if counts.cancelled > 0 => "cancelled",
        () if counts.expired > 0 => "expired",
        () => "succeeded",
    }
}

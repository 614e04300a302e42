//! `session wait`: live counts, rate and time left, until every Job has its outcome.

use std::time::{Duration, Instant};

use cloud::controls;
use contract::exit;
use jiff::SignedDuration;
use serde::Serialize;
use sessions::{Counts, Progress, Rate, Watch};

use super::{Of, Seen};
use crate::{
    context::{Context, Opener},
    error::Failure,
    output::{self, Output},
    text, view,
};

/// Time between two looks at first, and after one that found something new.
const SHORTEST: Duration = Duration::from_millis(300);
/// Time between two looks when nothing happens.
const LONGEST: Duration = Duration::from_secs(3);

/// Looks at everything, which for 100,000 inputs are hundreds of pages, take at most one part in so many of the time.
/// Between them only awaited outcomes are looked for.
const FULL_LOOKS: u32 = 20;
/// Looks of any kind take at most one part in so many of the time.
const LOOKS: u32 = 3;

/// What has its outcome already counts. A session that a retry goes on in has to end anew.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Wait at most so long (`90s`, `10m`, `2h`)
    #[arg(long, value_parser = text::parse_duration)]
    timeout: Option<Duration>,
}

/// One look, as `--json` prints it.
#[derive(Serialize)]
struct Look<'a> {
    session: &'a str,
    #[serde(flatten)]
    progress: Progress,
    ended: bool,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let seen = args.of.look(&context, output, false).await?;
    until_settled(&context, seen, args.timeout, output).await
}

/// Waits, and gives the exit code.
///
/// # Errors
/// When the time is over, or the bucket cannot be asked.
pub(super) async fn until_settled(
    context: &Context,
    seen: Seen<'_>,
    limit: Option<Duration>,
    output: &Output,
) -> anyhow::Result<u8> {
    let started = Instant::now();
    let scope = seen.scope.clone();
    let counts = follow(context, seen, limit, output, output.json).await?;
    let took = SignedDuration::try_from(started.elapsed()).map(text::duration).unwrap_or_default();
    let unsuccessful = counts.unsuccessful();
    if !output.json {
        output.line(format_args!(
            "{} of {} succeeded{} ({took})",
            counts.succeeded,
            text::count(counts.total(), "Job"),
            ended_otherwise(&counts)
        ))?;
    }
    let next = if unsuccessful > 0 { "failures" } else { "results" };
    output.note(format_args!("next: cargo xtask{} session {next} {scope}", context.flag));
    Ok(if unsuccessful == 0 { exit::DONE } else { exit::FAILED })
}

/// Waits with progress on standard error, and a record for each look that tells something new when `records` are wanted.
///
/// # Errors
/// As [`until_settled`].
pub(super) async fn follow(
    context: &Context,
    seen: Seen<'_>,
    limit: Option<Duration>,
    output: &Output,
    records: bool,
) -> anyhow::Result<Counts> {
    let started = Instant::now();
    let Seen { business, session, jobs, control, scope } = seen;
    let mut watch = Watch::new(&jobs);
    drop(jobs);
    let mut counts = watch.counts();
    // When everything was last looked at, and how long that took. The first look in the loop is of that kind.
    let (mut looked, mut took) = (started, Duration::ZERO);
    let mut paused = control.is_some_and(|control| control.paused);
    let (mut rate, mut pause) = (Rate::default(), SHORTEST);
    let mut shown = None;
    let mut bar: Option<(usize, output::Progress)> = None;
    loop {
        let progress = rate.note(Instant::now(), counts, paused);
        let ended = counts.pending() == 0;
        if records {
            if shown != Some((counts, paused)) || ended {
                output.record(&Look { session, progress, ended })?;
            }
        } else {
            let total = counts.total();
            if bar.as_ref().is_none_or(|(of, _)| *of != total) {
                // The old one must be gone before the new one is drawn.
                drop(bar.take());
                bar = Some((total, output.progress(session, total)));
            }
            if let Some((_, bar)) = &mut bar {
                bar.set(counts.done(), &describe(&progress));
            }
        }
        shown = Some((counts, paused));
        if ended {
            break;
        }
        if let Some(limit) = limit.filter(|limit| started.elapsed() >= *limit) {
            drop(bar);
            return Err(Failure::new(
                "not-settled",
                format!("session {session} is not done after {} s", limit.as_secs()),
            )
            .why(format!("{} of {} Jobs have their outcome; {}", counts.done(), counts.total(), describe(&progress)))
            .next(format!("what is submitted goes on; cargo xtask{} session wait {scope}", context.flag))
            .into());
        }
        let left = limit.map_or(LONGEST, |limit| limit.saturating_sub(started.elapsed()));
        tokio::time::sleep(pause.min(left.max(Duration::from_millis(10)))).await;
        let before = counts;
        let quiet = output.only_errors();
        let began = Instant::now();
        paused = controls::read(&context.store, business, session).await?.0.is_some_and(|control| control.paused);
        let is_full = looked.elapsed() >= took * FULL_LOOKS;
        if !is_full {
            // The cluster first, as in a look at everything.
            let active = view::active(context, business, Some(session), &quiet).await;
            let found = context.store.find(&business.bucket, watch.awaited()).await?;
            watch.note(&business.name, &active, &found);
        }
        // The end is seen by a look at everything, since more may have been submitted, or tried again.
        if is_full || watch.counts().pending() == 0 {
            let asked = Instant::now();
            watch = Watch::new(&sessions::latest(view::jobs(context, business, Some(session), &quiet).await?));
            (looked, took) = (Instant::now(), asked.elapsed());
        }
        counts = watch.counts();
        pause = if counts == before { LONGEST.min(pause * 3 / 2) } else { SHORTEST };
        pause = pause.max(began.elapsed() * (LOOKS - 1));
    }
    Ok(counts)
}

/// `3 running, 2 failed, 4.1/s, 1m05s left`.
fn describe(progress: &Progress) -> String {
    let counts = &progress.counts;
    let mut parts = Vec::new();
    if progress.paused {
        parts.push("paused".to_owned());
    }
    let counted = [
        (counts.running, "running"),
        (counts.waiting, "waiting"),
        (counts.failed + counts.refused, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.expired, "expired"),
    ];
    parts.extend(counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    parts.extend(progress.rate.map(|rate| format!("{rate:.1}/s")));
    let left = progress.seconds_left.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
    parts.extend(left.map(|left| format!("{} left", text::duration(left))));
    parts.join(", ")
}

fn ended_otherwise(counts: &Counts) -> String {
    let counted = [
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.refused, "refused"),
        (counts.expired, "expired"),
    ];
    counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!(", {count} {how}")).collect()
}

//! `session wait`: shows counts, rate and time left until every Job has its outcome.

use std::time::{Duration, Instant};

use cloud::controls;
use contract::exit;
use jiff::SignedDuration;
use serde::Serialize;
use sessions::{Counts, Progress, Rate, Watch, jobs};

use super::target::{Session, SessionArgs};
use crate::{
    context::{Context, Opener},
    error::Failure,
    output::{self, Output},
    text,
    verbs::WAIT_LIMIT,
    view,
};

/// Time between two reads at first, and after a read that found a change.
const SHORTEST: Duration = Duration::from_millis(300);
/// Time between two reads when nothing changes.
const LONGEST: Duration = Duration::from_secs(3);

/// Full reads, which for 100,000 inputs are hundreds of pages, take at most this part (1 / N) of the time. Between them
/// only awaited outcomes are read.
const FULL_READS_PART: u32 = 20;
/// Reads of both kinds take at most this part (1 / N) of the time.
const READS_PART: u32 = 3;

/// Jobs that already have an outcome count. After a retry, the session has to end again.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    session: SessionArgs,
    /// Wait at most this long (`90s`, `10m`, `2h`) [default: 24h]
    #[arg(long, value_parser = text::parse_duration)]
    timeout: Option<Duration>,
}

/// The state of the session at one time, as `--json` prints it.
#[derive(Serialize)]
struct Snapshot<'a> {
    session: &'a str,
    #[serde(flatten)]
    progress: Progress,
    ended: bool,
}

pub(super) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let session = args.session.read(&context, output, false).await?;
    until_settled(&context, session, args.timeout.unwrap_or(WAIT_LIMIT), output).await
}

/// Waits until every Job has its outcome, and returns the exit code.
///
/// # Errors
/// When the time is over, or the bucket cannot be read.
pub(super) async fn until_settled(
    context: &Context,
    session: Session<'_>,
    limit: Duration,
    output: &Output,
) -> anyhow::Result<u8> {
    let started = Instant::now();
    let (scope, unit) = (session.scope.clone(), text::unit(&session.jobs));
    let next = format!("the Jobs continue; wait again with `cargo xtask{} session wait {scope}`", context.flag);
    let counts = follow(context, session, limit, output, output.json, &next).await?;
    let took = SignedDuration::try_from(started.elapsed()).map(text::duration).unwrap_or_default();
    let unsuccessful = counts.unsuccessful();
    if !output.json {
        output.line(format_args!(
            "{} of {} succeeded{} ({took})",
            counts.succeeded,
            text::count(counts.total(), unit),
            ended_otherwise(&counts)
        ))?;
    }
    let next = if unsuccessful > 0 { "failures" } else { "results" };
    output.note(format_args!("next: cargo xtask{} session {next} {scope}", context.flag));
    Ok(if unsuccessful == 0 { exit::DONE } else { exit::FAILED })
}

/// Waits with progress on standard error. With `records`, each change is a record on standard output instead. `next` is
/// what to do when the time is over.
///
/// # Errors
/// As [`until_settled`].
pub(super) async fn follow(
    context: &Context,
    session: Session<'_>,
    limit: Duration,
    output: &Output,
    records: bool,
    next: &str,
) -> anyhow::Result<Counts> {
    let started = Instant::now();
    let Session { business, name, jobs, control, .. } = session;
    let unit = text::unit(&jobs);
    let mut watch = Watch::new(&jobs);
    drop(jobs);
    let mut counts = watch.counts();
    // When the last full read was, and how long it took. The first read in the loop is a full one.
    let (mut read, mut took) = (started, Duration::ZERO);
    let mut paused = control.is_some_and(|control| control.paused);
    let (mut rate, mut pause) = (Rate::default(), SHORTEST);
    let mut shown = None;
    let mut bar: Option<(usize, output::Progress)> = None;
    loop {
        let progress = rate.add(Instant::now(), counts, paused);
        let ended = counts.pending() == 0;
        if records {
            if shown != Some((counts, paused)) || ended {
                output.record(&Snapshot { session: name, progress, ended })?;
            }
        } else {
            let total = counts.total();
            if bar.as_ref().is_none_or(|(of, _)| *of != total) {
                // The old bar must be removed before the new one is drawn.
                drop(bar.take());
                bar = Some((total, output.progress(name, total)));
            }
            if let Some((_, bar)) = &mut bar {
                bar.set(counts.done(), &describe(&progress));
            }
        }
        shown = Some((counts, paused));
        if ended {
            break;
        }
        if started.elapsed() >= limit {
            drop(bar);
            return Err(Failure::new("not-settled", format!("session {name} is not done after {} s", limit.as_secs()))
                .why(format!(
                    "{} of {} have an outcome; {}",
                    counts.done(),
                    text::count(counts.total(), unit),
                    describe(&progress)
                ))
                .next(next)
                .into());
        }
        let left = limit.saturating_sub(started.elapsed());
        tokio::time::sleep(pause.min(left.max(Duration::from_millis(10)))).await;
        let before = counts;
        let quiet = output.errors_only();
        let began = Instant::now();
        paused = controls::read(&context.store, business, name).await?.0.is_some_and(|control| control.paused);
        let is_full = watch.needs_full_read() || read.elapsed() >= took * FULL_READS_PART;
        if !is_full {
            // The cluster first, as in a full read.
            let active = view::active(context, business, Some(name), &quiet).await;
            let mut found = context.store.find(&business.bucket, watch.awaited()).await?;
            jobs::add_counts(&context.store, business, &mut found).await?;
            watch.update(&business.name, &active, &found);
        }
        // Only a full read ends the wait: Jobs may have been submitted or retried meanwhile.
        if is_full || watch.needs_full_read() {
            let started = Instant::now();
            watch = Watch::new(&sessions::latest(view::jobs(context, business, Some(name), &quiet).await?));
            (read, took) = (Instant::now(), started.elapsed());
        }
        counts = watch.counts();
        pause = if counts == before { LONGEST.min(pause * 3 / 2) } else { SHORTEST };
        pause = pause.max(began.elapsed() * (READS_PART - 1));
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
    parts.extend((counts.row_errors > 0).then(|| text::count(counts.row_errors, "row error")));
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
    let counted = counted.into_iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!(", {count} {how}"));
    counted.chain([text::row_errors(counts.row_errors)]).collect()
}

//! `session cancel`, `pause` and `resume`: they write the control object, which the orchestrator applies.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use cloud::controls;
use contract::{control::Control, exit};
use serde_json::json;
use sessions::{
    Counts,
    jobs::{Job, State},
};

use super::target::{Session, SessionArgs, operator};
use crate::{
    change::Change,
    context::{Context, Opener},
    error::Failure,
    output::Output,
    text, view,
};

/// How long a decision may take to take effect: orchestrators read decisions every few seconds.
const EFFECT_LIMIT: Duration = Duration::from_secs(30);
/// Time between two checks, at first and later.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(3);

/// How long to wait until a decision takes effect.
#[derive(Clone, Debug, clap::Args)]
struct Effect {
    /// Wait at most this long until the decision takes effect (`90s`, `10m`, `2h`) [default: 30s]
    #[arg(long, value_parser = text::parse_duration)]
    timeout: Option<Duration>,
}

impl Effect {
    /// Waits until a decision has taken effect, and returns whether it has.
    async fn wait(&self, mut is_applied: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
        let (started, limit) = (Instant::now(), self.timeout.unwrap_or(EFFECT_LIMIT));
        let mut pause = SHORTEST;
        while !is_applied().await? {
            let Some(left) = limit.checked_sub(started.elapsed()) else { return Ok(false) };
            tokio::time::sleep(pause.min(left)).await;
            pause = LONGEST.min(pause * 3 / 2);
        }
        Ok(true)
    }
}

/// Cancels Jobs that were submitted before now. Later submissions and retries run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// Cancel only this Job
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    effect: Effect,
    #[command(flatten)]
    change: Change,
}

/// Messages of the session are parked until it is resumed. A session can be paused before its first submission.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    effect: Effect,
    #[command(flatten)]
    change: Change,
}

/// Parked messages are published again.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    effect: Effect,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn cancel(opener: &Opener<'_>, args: &CancelArgs, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let session = args.session.read(&context, output, false).await?;
    if let Some(job) = &args.job {
        check_pending(&context, &session, job)?;
    }
    let mut pending: Vec<Job> = session.jobs.clone();
    pending.retain(|known| args.job.as_ref().is_none_or(|job| known.job == *job) && is_pending(known));
    let counts = Counts::of(&pending);
    let of_job = args.job.as_ref().map(|job| format!("Job {} of ", text::shell(job))).unwrap_or_default();
    output.note(format_args!(
        "{of_job}session {} of {}: {} running and {} waiting are to be cancelled; inputs are kept",
        session.name, session.business.name, counts.running, counts.waiting,
    ));
    if args.change.dry_run {
        return print(&session, None, None, &counts, output);
    }
    args.change.confirm(&context, &format!("cancel {of_job}session {}?", session.name))?;
    let (store, job) = (&context.store, args.job.as_deref());
    let control = sessions::control::cancel(store, session.business, session.name, job, &operator()).await?;
    let key = |job: &Job| (job.job.clone(), job.generation, job.attempt);
    let keys: BTreeSet<_> = pending.iter().map(key).collect();
    let applied = args.effect.wait(async || {
        if keys.is_empty() {
            return Ok(true);
        }
        let quiet = output.errors_only();
        pending = sessions::latest(view::jobs(&context, session.business, Some(session.name), &quiet).await?);
        pending.retain(|job| keys.contains(&key(job)));
        Ok(!pending.iter().any(is_pending))
    });
    let applied = applied.await?;
    let counts = Counts::of(&pending);
    let ended = counts.done() - counts.cancelled;
    let ended = if ended > 0 { format!("; {ended} had ended before") } else { String::new() };
    output.note(format_args!("{of_job}session {}: {} cancelled{ended}", session.name, counts.cancelled));
    if !applied {
        not_applied(&context, &session, &format!("{} not cancelled yet", counts.pending()), output);
    }
    print(&session, Some(&control), Some(applied), &counts, output)
}

fn is_pending(job: &Job) -> bool {
    matches!(job.state, Some(State::Waiting | State::Running))
}

/// Warns that a decision is recorded and has not taken effect.
fn not_applied(context: &Context, session: &Session<'_>, what: &str, output: &Output) {
    output.warn(format_args!(
        "the decision is recorded, and the orchestrator has not applied it yet ({what}); next: cargo xtask{} status, then \
         cargo xtask{} session list --business {}",
        context.flag, context.flag, session.business.name
    ));
}

/// Checks that a Job exists and has not ended.
fn check_pending(context: &Context, session: &Session<'_>, job: &str) -> anyhow::Result<()> {
    let Some(known) = session.jobs.iter().find(|known| known.job == job) else {
        return Err(Failure::new("no-such-job", format!("there is no Job {job:?} in session {}", session.name))
            .next(format!("cargo xtask{} jobs --session {}", context.flag, text::shell(session.name)))
            .into());
    };
    match known.state {
        Some(State::Waiting | State::Running) | None => Ok(()),
        Some(state) => Err(Failure::usage(format!("the Job {job:?} cannot be cancelled"))
            .why(format!("it has ended: {}", state.as_str()))
            .into()),
    }
}

pub(super) async fn pause(opener: &Opener<'_>, args: &PauseArgs, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let session = args.session.read(&context, output, true).await?;
    let counts = Counts::of(&session.jobs);
    if session.jobs.is_empty() {
        output.note(format_args!("session {} has no Jobs yet", session.name));
    } else {
        output.note(format_args!(
            "session {} of {} is to be paused: now {} waiting and {} running",
            session.name, session.business.name, counts.waiting, counts.running
        ));
    }
    if args.change.dry_run {
        return print(&session, None, None, &counts, output);
    }
    args.change.confirm(&context, &format!("pause session {}?", session.name))?;
    let by = operator();
    let control =
        sessions::control::change(&context.store, session.business, session.name, &by, |control| control.paused = true);
    let control = control.await?;
    let (store, business) = (&context.store, session.business);
    let applied = args.effect.wait(async || sessions::control::is_applied(store, business, session.name).await).await?;
    let quiet = output.errors_only();
    let jobs = sessions::latest(view::jobs(&context, business, Some(session.name), &quiet).await?);
    let counts = Counts::of(&jobs);
    if applied {
        output.note(format_args!(
            "session {} is paused: {} waiting Jobs do not start, {} running Jobs go on",
            session.name, counts.waiting, counts.running
        ));
    } else {
        not_applied(&context, &session, "its Jobs may still start", output);
    }
    output.note(format_args!("next: cargo xtask{} session resume {}", context.flag, session.scope));
    print(&session, Some(&control), Some(applied), &counts, output)
}

pub(super) async fn resume(opener: &Opener<'_>, args: &ResumeArgs, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let session = args.session.read(&context, output, false).await?;
    let counts = Counts::of(&session.jobs);
    let parked = controls::parked(&context.store, session.business, session.name).await?.len();
    match &session.control {
        Some(control) if control.paused => {
            output.note(format_args!(
                "session {} of {} is to be resumed: {} parked",
                session.name,
                session.business.name,
                text::count(parked, "message")
            ));
        }
        _ => output.note(format_args!("session {} of {} is not paused", session.name, session.business.name)),
    }
    if args.change.dry_run {
        return print(&session, None, None, &counts, output);
    }
    args.change.confirm(&context, &format!("resume session {}?", session.name))?;
    let by = operator();
    let control = sessions::control::change(&context.store, session.business, session.name, &by, |control| {
        control.paused = false
    });
    let control = control.await?;
    let mut left = parked;
    let applied = args.effect.wait(async || {
        left = controls::parked(&context.store, session.business, session.name).await?.len();
        Ok(left == 0)
    });
    let applied = applied.await?;
    if applied {
        output.note(format_args!("session {} is resumed", session.name));
    } else {
        not_applied(&context, &session, &format!("{left} of {} parked", text::count(parked, "message")), output);
    }
    print(&session, Some(&control), Some(applied), &counts, output)
}

fn print(
    session: &Session<'_>,
    control: Option<&Control>,
    applied: Option<bool>,
    counts: &Counts,
    output: &Output,
) -> anyhow::Result<u8> {
    if output.json {
        output.document(&json!({
            "business": session.business.name,
            "session": session.name,
            "changed": control.is_some() && control != session.control.as_ref(),
            "applied": applied,
            "control": control.or(session.control.as_ref()).filter(|control| !control.is_idle()),
            "counts": counts,
        }))?;
    }
    Ok(exit::DONE)
}

//! `session cancel`, `pause` and `resume`: what is decided is written to the control object, and the orchestrator
//! carries it out.

use cloud::controls;
use contract::{control::Control, exit};
use serde_json::json;
use sessions::{Counts, jobs::State};

use super::{Change, Of, Seen, operator};
use crate::{
    context::{Context, Opener},
    error::Failure,
    output::Output,
    text,
};

/// What was submitted until now does not run. What is submitted, or retried, after it does.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    of: Of,
    /// Only this Job
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// Messages of the session are put aside until it is resumed. It may be paused before anything is submitted.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    change: Change,
}

/// What was put aside is published again.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn cancel(opener: &Opener<'_>, args: &CancelArgs, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let seen = args.of.look(&context, output, false).await?;
    if let Some(job) = &args.job {
        only_pending(&context, &seen, job)?;
    }
    let meant = seen.jobs.iter().filter(|known| args.job.as_ref().is_none_or(|job| known.job == *job));
    let counts = Counts::of(&meant.cloned().collect::<Vec<_>>());
    let of_job = args.job.as_ref().map(|job| format!("Job {} of ", text::shell(job))).unwrap_or_default();
    output.note(format_args!(
        "{of_job}session {} of {}: {} running and {} waiting are cancelled; {} with an outcome stay as they are; inputs are kept",
        seen.session,
        seen.business.name,
        counts.running,
        counts.waiting,
        counts.done()
    ));
    if args.change.dry_run {
        return told(&seen, None, &counts, output);
    }
    args.change.agree(&context, &format!("cancel {of_job}session {}?", seen.session))?;
    let (store, job) = (&context.store, args.job.as_deref());
    let control = sessions::control::cancel(store, seen.business, seen.session, job, &operator()).await?;
    if counts.pending() > 0 {
        output.note(format_args!("next: cargo xtask{} session wait {}", context.flag, seen.scope));
    }
    told(&seen, Some(&control), &counts, output)
}

/// A Job that is not there, or has ended, cannot be cancelled; that is said instead of noted down.
fn only_pending(context: &Context, seen: &Seen<'_>, job: &str) -> anyhow::Result<()> {
    let Some(known) = seen.jobs.iter().find(|known| known.job == job) else {
        return Err(Failure::new("no-such-job", format!("there is no Job {job:?} in session {}", seen.session))
            .next(format!("cargo xtask{} jobs --session {}", context.flag, text::shell(seen.session)))
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
    let seen = args.of.look(&context, output, true).await?;
    let counts = Counts::of(&seen.jobs);
    if seen.jobs.is_empty() {
        output.note(format_args!("session {} has no Jobs yet; those that come will wait", seen.session));
    } else {
        output.note(format_args!(
            "session {} of {}: {} that wait are not started; {} that run go on",
            seen.session, seen.business.name, counts.waiting, counts.running
        ));
    }
    if args.change.dry_run {
        return told(&seen, None, &counts, output);
    }
    args.change.agree(&context, &format!("pause session {}?", seen.session))?;
    let by = operator();
    let control =
        sessions::control::change(&context.store, seen.business, seen.session, &by, |control| control.paused = true);
    let control = control.await?;
    output.note(format_args!("to go on: cargo xtask{} session resume {}", context.flag, seen.scope));
    told(&seen, Some(&control), &counts, output)
}

pub(super) async fn resume(opener: &Opener<'_>, args: &ResumeArgs, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let seen = args.of.look(&context, output, false).await?;
    let counts = Counts::of(&seen.jobs);
    let parked = controls::parked(&context.store, seen.business, seen.session).await?.len();
    match &seen.control {
        Some(control) if control.paused => {
            output.note(format_args!(
                "session {} of {} goes on; {} put aside",
                seen.session,
                seen.business.name,
                text::count(parked, "message")
            ));
        }
        _ => output.note(format_args!("session {} of {} is not paused", seen.session, seen.business.name)),
    }
    if args.change.dry_run {
        return told(&seen, None, &counts, output);
    }
    args.change.agree(&context, &format!("resume session {}?", seen.session))?;
    let by = operator();
    let control =
        sessions::control::change(&context.store, seen.business, seen.session, &by, |control| control.paused = false);
    told(&seen, Some(&control.await?), &counts, output)
}

fn told(seen: &Seen<'_>, control: Option<&Control>, counts: &Counts, output: &Output) -> anyhow::Result<u8> {
    if output.json {
        output.document(&json!({
            "business": seen.business.name,
            "session": seen.session,
            "changed": control.is_some() && control != seen.control.as_ref(),
            "control": control.or(seen.control.as_ref()).filter(|control| !control.is_idle()),
            "counts": counts,
        }))?;
    }
    Ok(exit::DONE)
}

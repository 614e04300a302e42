//! `session cancel`, `pause` and `resume`: they write the control object, which the orchestrator applies.

use cloud::controls;
use contract::{control::Control, exit};
use serde_json::json;
use sessions::{Counts, jobs::State};

use super::target::{Session, SessionArgs, operator};
use crate::{
    change::Change,
    context::{Context, Opener},
    error::Failure,
    output::Output,
    text,
};

/// Cancels Jobs that were submitted before now. Later submissions and retries run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// Cancel only this Job
    #[arg(long, value_name = "JOB")]
    job: Option<String>,
    #[command(flatten)]
    change: Change,
}

/// Messages of the session are parked until it is resumed. A session can be paused before its first submission.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    change: Change,
}

/// Parked messages are published again.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn cancel(opener: &Opener<'_>, args: &CancelArgs, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let session = args.session.read(&context, output, false).await?;
    if let Some(job) = &args.job {
        check_pending(&context, &session, job)?;
    }
    let selected = session.jobs.iter().filter(|known| args.job.as_ref().is_none_or(|job| known.job == *job));
    let counts = Counts::of(&selected.cloned().collect::<Vec<_>>());
    let of_job = args.job.as_ref().map(|job| format!("Job {} of ", text::shell(job))).unwrap_or_default();
    output.note(format_args!(
        "{of_job}session {} of {}: cancelling {} running and {} waiting; {} with an outcome do not change; inputs are kept",
        session.name,
        session.business.name,
        counts.running,
        counts.waiting,
        counts.done()
    ));
    if args.change.dry_run {
        return print(&session, None, &counts, output);
    }
    args.change.confirm(&context, &format!("cancel {of_job}session {}?", session.name))?;
    let (store, job) = (&context.store, args.job.as_deref());
    let control = sessions::control::cancel(store, session.business, session.name, job, &operator()).await?;
    if counts.pending() > 0 {
        output.note(format_args!("next: cargo xtask{} session wait {}", context.flag, session.scope));
    }
    print(&session, Some(&control), &counts, output)
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
        output.note(format_args!("session {} has no Jobs yet; later ones will wait", session.name));
    } else {
        output.note(format_args!(
            "session {} of {}: {} waiting Jobs are not started; {} running Jobs go on",
            session.name, session.business.name, counts.waiting, counts.running
        ));
    }
    if args.change.dry_run {
        return print(&session, None, &counts, output);
    }
    args.change.confirm(&context, &format!("pause session {}?", session.name))?;
    let by = operator();
    let control =
        sessions::control::change(&context.store, session.business, session.name, &by, |control| control.paused = true);
    let control = control.await?;
    output.note(format_args!("next: cargo xtask{} session resume {}", context.flag, session.scope));
    print(&session, Some(&control), &counts, output)
}

pub(super) async fn resume(opener: &Opener<'_>, args: &ResumeArgs, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let session = args.session.read(&context, output, false).await?;
    let counts = Counts::of(&session.jobs);
    let parked = controls::parked(&context.store, session.business, session.name).await?.len();
    match &session.control {
        Some(control) if control.paused => {
            output.note(format_args!(
                "session {} of {} is resumed; {} parked",
                session.name,
                session.business.name,
                text::count(parked, "message")
            ));
        }
        _ => output.note(format_args!("session {} of {} is not paused", session.name, session.business.name)),
    }
    if args.change.dry_run {
        return print(&session, None, &counts, output);
    }
    args.change.confirm(&context, &format!("resume session {}?", session.name))?;
    let by = operator();
    let control = sessions::control::change(&context.store, session.business, session.name, &by, |control| {
        control.paused = false
    });
    print(&session, Some(&control.await?), &counts, output)
}

fn print(session: &Session<'_>, control: Option<&Control>, counts: &Counts, output: &Output) -> anyhow::Result<u8> {
    if output.json {
        output.document(&json!({
            "business": session.business.name,
            "session": session.name,
            "changed": control.is_some() && control != session.control.as_ref(),
            "control": control.or(session.control.as_ref()).filter(|control| !control.is_idle()),
            "counts": counts,
        }))?;
    }
    Ok(exit::DONE)
}

//! What a person decided about sessions: read from the bucket every few seconds, heeded where work would start.
//!
//! Level-triggered as everything else: each pass compares what there is with what is decided, so a decision takes effect
//! whoever was down when it was made. Messages read a copy in memory; only sessions that somebody cancelled cost a look
//! at the bucket more.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use cloud::{outcomes, storage::Properties};
use contract::{
    Outcome,
    control::{Control, Parked, SCHEMA},
    message::Work,
    object,
    outcome::State,
};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, hooks::Step, job::Origin};

mod cancel;
mod release;

/// For how long after a change every pass looks at everything: another replica may act on what it read a moment ago.
const UNSETTLED_FOR: Duration = Duration::from_secs(60);
/// After so many passes in a row that failed we are not ready: what somebody decided does not take effect.
const FAILED_MAX: u32 = 5;
/// The readiness reason until the decisions were read once, and while they cannot be carried out.
const READINESS: &str = "controls";

/// What to do with work that would start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// Start it.
    Go,
    /// It was cancelled, or its session, after it was submitted.
    Cancelled,
    /// Its session is paused.
    Paused,
}

/// A decision as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    generation: i64,
    control: Control,
}

type Decisions = Arc<BTreeMap<String, Known>>;

/// What of a pass failed while the rest of it went on.
#[derive(Debug, Default)]
struct Failed {
    first: Option<anyhow::Error>,
    more: usize,
}

impl Failed {
    fn add(&mut self, error: anyhow::Error) {
        match &self.first {
            Some(first) => {
                tracing::debug!("as well as {first:#}: {error:#}");
                self.more += 1;
            }
            None => self.first = Some(error),
        }
    }

    /// The error that tells of all of them.
    fn into_result(self) -> anyhow::Result<()> {
        let Self { first, more } = self;
        match (first, more) {
            (None, _) => Ok(()),
            (Some(first), 0) => Err(first),
            (Some(first), more) => Err(first.context(format!("{} cannot be carried out, one of them", more + 1))),
        }
    }
}

/// The decisions as they were read last; nothing before they were read once.
#[derive(Debug)]
pub(crate) struct Controls {
    decisions: watch::Sender<Option<Decisions>>,
    wake: Notify,
}

impl Controls {
    pub(crate) fn new() -> Self {
        Self { decisions: watch::Sender::new(None), wake: Notify::new() }
    }

    /// Waits until the decisions were read once, or `stop`.
    pub(crate) async fn loaded(&self, stop: &CancellationToken) {
        let mut decisions = self.decisions.subscribe();
        tokio::select! {
            () = stop.cancelled() => {}
            _ = decisions.wait_for(Option::is_some) => {}
        }
    }

    /// What is decided about a session, if anything.
    pub(crate) fn of(&self, session: &str) -> Option<Control> {
        Some(self.decisions.borrow().as_ref()?.get(session)?.control.clone())
    }

    fn known(&self) -> Decisions {
        self.decisions.borrow().clone().unwrap_or_default()
    }
}

/// Tells whether work may start.
pub(crate) async fn stand(context: &Context, work: &Work, published: Option<Timestamp>) -> anyhow::Result<Stand> {
    let Some(control) = context.controls.of(&work.session) else { return Ok(Stand::Go) };
    let identity = &work.identity;
    if control.cancels(&work.job, identity.attempt, published, None) {
        return Ok(Stand::Cancelled);
    }
    if control.before(&work.job).is_some() && identity.attempt == 0 {
        let input = context.store.describe(&identity.bucket, &identity.object, Some(identity.generation)).await?;
        if control.cancels(&work.job, 0, published, input.and_then(|input| input.created)) {
            return Ok(Stand::Cancelled);
        }
    }
    Ok(if control.paused { Stand::Paused } else { Stand::Go })
}

/// The outcome of work that was cancelled before it had become a Job.
pub(crate) fn cancelled(work: &Work) -> Outcome {
    let why = format!("it, or its session {}, was cancelled before it had started", work.session);
    Outcome::new(&work.business, State::Cancelled, "cancelled", why)
}

/// Publishes the event of work that never became a Job once more when its message comes again: whoever wrote the outcome
/// may have died before. The event of a Job is told by whoever settles it, which goes on until its finalizer is gone.
pub(crate) async fn tell_again(context: &Context, work: &Work) -> anyhow::Result<()> {
    match outcomes::read(&context.store, &work.identity.bucket, &work.outcome()).await? {
        Some(Ok(outcome)) if outcome.kubernetes_job.is_none() => context.events.publish(&outcome).await,
        // Nobody knows what it said; that there is one is enough not to run the Job again.
        Some(Err(unreadable)) => tracing::error!("no event is published again: {unreadable}"),
        _ => {}
    }
    Ok(())
}

/// Puts a message aside until its session's pause ends.
pub(crate) async fn park(context: &Context, origin: &Origin, work: &Work) -> anyhow::Result<()> {
    let parked = Parked {
        schema: SCHEMA,
        work: work.clone(),
        message_id: origin.message_id.clone(),
        published: origin.published,
        parked: (context.clock)(),
    };
    let text = serde_json::to_vec_pretty(&parked).context("encode the parked message")?;
    // Also over a record that is there: another replica may have published that one, and be about to delete it. It
    // deletes the generation that it read, so this one stays.
    context.store.write(&work.identity.bucket, &parked.object(), text, Properties::json()).await?;
    context.metrics.parked.inc();
    tracing::info!(job = work.job, session = work.session, "put aside, since the session is paused");
    context.hooks.at(Step::Parked, Some(&origin.message_id), Some(&work.identity)).await;
    // Had the pause ended meanwhile, nothing else would look for it soon.
    context.controls.wake.notify_one();
    Ok(())
}

/// Follows the decisions and carries them out, until `stop`.
pub(crate) async fn run(context: &Context, stop: &CancellationToken) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut unsettled_until = started + UNSETTLED_FOR;
    let mut next_full = started;
    let mut failures = 0_u32;
    context.health.not_ready(READINESS, "what was decided about sessions was not read yet");
    loop {
        let now = Instant::now();
        let passed = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            passed = pass(context, now < unsettled_until || now >= next_full) => passed,
        };
        match passed {
            Ok(changed) => {
                context.health.clear(READINESS);
                failures = 0;
                if changed {
                    unsettled_until = Instant::now() + UNSETTLED_FOR;
                }
                if now >= next_full {
                    next_full = Instant::now() + context.timing.sweep_every;
                }
            }
            Err(error) => {
                tracing::warn!("failed to follow what was decided about sessions: {error:#}");
                failures = failures.saturating_add(1);
                if failures >= FAILED_MAX || context.controls.decisions.borrow().is_none() {
                    context.health.not_ready(READINESS, format!("{error:#}"));
                }
                unsettled_until = Instant::now() + UNSETTLED_FOR;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = context.controls.wake.notified() => unsettled_until = Instant::now() + UNSETTLED_FOR,
            () = tokio::time::sleep(context.timing.controls_every) => {}
        }
    }
}

/// Reads the decisions and, when they changed or `full`, carries them out. Tells whether they changed. What cannot be
/// carried out holds up nothing else, and is told in the end.
async fn pass(context: &Context, full: bool) -> anyhow::Result<bool> {
    let changed = read(context).await?;
    if !changed && !full {
        return Ok(false);
    }
    let decisions = context.controls.known();
    let mut failed = Failed::default();
    for (session, Known { control, .. }) in decisions.iter() {
        if control.has_cancelled() {
            cancel::jobs(context, session, control, &mut failed).await;
        }
    }
    let released = release::all(context, &decisions, &mut failed).await;
    let changed_again = released.unwrap_or_else(|error| {
        failed.add(error);
        false
    });
    failed.into_result()?;
    Ok(changed || changed_again)
}

/// Reads the decisions that are new. Tells whether there are any, or fewer than before.
async fn read(context: &Context) -> anyhow::Result<bool> {
    let business = &context.business;
    let before = context.controls.decisions.borrow().clone();
    let mut listed = context.store.list_stream(&business.bucket, &object::control_prefix(&business.name));
    let mut decisions = BTreeMap::new();
    while let Some(found) = listed.try_next().await? {
        let Some(session) = object::parse_control(&business.name, &found.name) else { continue };
        let known = before.as_ref().and_then(|known| known.get(session));
        let known = match known.filter(|known| known.generation == found.generation) {
            Some(known) => known.clone(),
            None => {
                let Some((described, body)) = context.store.read(&business.bucket, &found.name, None).await? else {
                    continue;
                };
                let (control, problem) = Control::parse(session, &body);
                match problem {
                    Some(problem) => {
                        tracing::error!(
                            object = found.name,
                            "held as paused, since it cannot be understood: {problem}"
                        );
                    }
                    None => tracing::info!(
                        session,
                        paused = control.paused,
                        cancelled_before = control.cancelled_before.map(|time| time.to_string()),
                        cancelled_jobs = control.cancelled_jobs.len(),
                        by = control.by,
                        "a decision about a session"
                    ),
                }
                Known { generation: described.generation, control }
            }
        };
        decisions.insert(session.to_owned(), known);
    }
    let changed = before.as_deref() != Some(&decisions);
    if changed {
        context.controls.decisions.send_replace(Some(Arc::new(decisions)));
    }
    Ok(changed)
}

//! Session control: decisions of people about sessions, read from the bucket every few seconds and applied before work
//! starts.
//!
//! Level-triggered: each pass compares the Jobs and parked messages with the decisions, so a decision takes effect also
//! when no orchestrator ran at that time. Messages read a copy in memory; only cancelled sessions cost one more
//! request.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use cloud::storage::{Object, Properties};
use contract::{
    Outcome,
    control::{Control, Parked, SCHEMA},
    labels,
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

use crate::{
    base::Base,
    execute::{Executor, job::Origin},
    hooks::Step,
    settle::record::Records,
};

mod cancel;
mod release;

/// For this long after a change every pass is full: another replica may still act on the decisions it read before.
const FULL_PASSES_FOR: Duration = Duration::from_secs(60);
/// After this many failed passes in a row the process is not ready: decisions do not take effect.
const FAILED_PASSES_MAX: u32 = 5;
/// The readiness reason until the decisions are read, and while they cannot be carried out.
const READINESS: &str = "controls";

/// The state of a session for one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// The work may start.
    Open,
    /// The work or its session was cancelled after the work was submitted.
    Cancelled,
    /// The session is paused.
    Paused,
}

/// A decision, with the generation of its object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decision {
    generation: i64,
    control: Control,
}

type Decisions = Arc<BTreeMap<String, Decision>>;

/// The errors of a pass whose other parts went on.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    first: Option<anyhow::Error>,
    more: usize,
}

impl Errors {
    pub(crate) fn add(&mut self, error: anyhow::Error) {
        match &self.first {
            Some(_) => self.more += 1,
            None => self.first = Some(error),
        }
    }

    /// One error for all of them.
    pub(crate) fn into_result(self) -> anyhow::Result<()> {
        let Self { first, more } = self;
        match (first, more) {
            (None, _) => Ok(()),
            (Some(first), 0) => Err(first),
            (Some(first), more) => Err(first.context(format!("{} cannot be carried out, one of them", more + 1))),
        }
    }
}

/// The decisions as read last; `None` before the first read.
pub(crate) struct Controls {
    base: Arc<Base>,
    decisions: watch::Sender<Option<Decisions>>,
    wake: Notify,
}

impl Controls {
    pub(crate) fn new(base: &Arc<Base>) -> Self {
        Self { base: base.clone(), decisions: watch::Sender::new(None), wake: Notify::new() }
    }

    /// Waits until the decisions are read, or `stop`.
    pub(crate) async fn loaded(&self, stop: &CancellationToken) {
        let mut decisions = self.decisions.subscribe();
        tokio::select! {
            () = stop.cancelled() => {}
            _ = decisions.wait_for(Option::is_some) => {}
        }
    }

    fn decisions(&self) -> Decisions {
        self.decisions.borrow().clone().unwrap_or_default()
    }

    /// Reads the decision about a session, if there is one.
    fn with_decision<T>(&self, session: &str, read: impl FnOnce(&Control) -> T) -> Option<T> {
        Some(read(&self.decisions.borrow().as_ref()?.get(session)?.control))
    }

    /// Whether there is a decision about a session.
    pub(crate) fn has_decision(&self, session: &str) -> bool {
        self.with_decision(session, |_| ()).is_some()
    }

    /// The state of the session for this work, which was published and whose input was written at these times, as far
    /// as they are known.
    pub(crate) fn state(&self, work: &Work, published: Option<Timestamp>, created: Option<Timestamp>) -> SessionState {
        let state = self.with_decision(&work.session, |control| {
            match control.cancels(&work.job, work.identity.attempt, published, created) {
                true => SessionState::Cancelled,
                false if control.paused => SessionState::Paused,
                false => SessionState::Open,
            }
        });
        state.unwrap_or(SessionState::Open)
    }

    /// The state of the session for this work. Reads its input only when the time of that decides.
    pub(crate) async fn state_of_session(
        &self,
        work: &Work,
        published: Option<Timestamp>,
    ) -> anyhow::Result<SessionState> {
        let state = self.state(work, published, None);
        let before = self.with_decision(&work.session, |control| control.before(&work.job)).flatten();
        if state == SessionState::Cancelled || before.is_none() || work.identity.attempt > 0 {
            return Ok(state);
        }
        let input = self.base.input(work).await?;
        Ok(self.state(work, published, input.and_then(|input| input.created)))
    }

    /// Parks a message: stores it until its session's pause ends.
    pub(crate) async fn park(&self, origin: &Origin, work: &Work) -> anyhow::Result<()> {
        let base = &self.base;
        let parked = Parked {
            schema: SCHEMA,
            work: work.clone(),
            message_id: origin.message_id.clone(),
            published: origin.published,
            parked: (base.clock)(),
        };
        let text = serde_json::to_vec_pretty(&parked).context("encode the parked message")?;
        // Also over an existing record: another replica may have requeued that one and be about to delete it. It
        // deletes the generation that it read, so this one stays.
        base.store.write(&work.identity.bucket, &parked.object(), text, Properties::json()).await?;
        base.metrics.parked.inc();
        tracing::info!(job = work.job, session = work.session, "parked the message, since its session is paused");
        base.hooks.reached(Step::Parked, Some(&origin.message_id), Some(&work.identity)).await;
        // If the pause ended meanwhile, only this wake-up makes the next pass release the message soon.
        self.wake.notify_one();
        Ok(())
    }
}

/// The outcome of work that was cancelled before it had become a Job.
pub(crate) fn cancelled_outcome(work: &Work) -> Outcome {
    let why = format!("it, or its session {}, was cancelled before it had started", work.session);
    Outcome::new(&work.business, State::Cancelled, "cancelled", why)
}

/// Reads the decisions regularly and carries them out, until `stop`.
pub(crate) async fn run(
    controls: Arc<Controls>,
    records: Arc<Records>,
    executor: Arc<Executor>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let base = &controls.base;
    let started = Instant::now();
    let (mut full_until, mut next_full) = (started + FULL_PASSES_FOR, started);
    let mut failures = 0_u32;
    base.health.not_ready(READINESS, "the decisions about sessions were not read yet");
    loop {
        let now = Instant::now();
        let is_synced = base.jobs.view().is_synced();
        let is_full = !is_synced || now < full_until || now >= next_full;
        let passed = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            passed = pass(&controls, &records, &executor, is_full) => passed,
        };
        let is_calm = is_synced && matches!(passed, Ok(false));
        match passed {
            Ok(_) => {
                base.health.clear(READINESS);
                failures = 0;
                if is_full {
                    next_full = Instant::now() + base.timing.sweep_interval;
                }
            }
            Err(error) => {
                tracing::warn!("failed to apply the decisions about sessions: {error:#}");
                failures = failures.saturating_add(1);
                if failures >= FAILED_PASSES_MAX || controls.decisions.borrow().is_none() {
                    base.health.not_ready(READINESS, format!("{error:#}"));
                }
            }
        }
        let is_woken = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = controls.wake.notified() => true,
            () = tokio::time::sleep(base.timing.controls_interval) => false,
        };
        if is_woken || !is_calm {
            full_until = Instant::now() + FULL_PASSES_FOR;
        }
    }
}

/// Reads the decisions and, when they changed or `full`, carries them out. Returns whether they changed. A decision
/// that fails does not block the others; the errors are returned at the end.
async fn pass(controls: &Controls, records: &Records, executor: &Executor, full: bool) -> anyhow::Result<bool> {
    let Read { changed, unapplied } = read(controls).await?;
    if !changed && !full && unapplied.is_empty() {
        return Ok(false);
    }
    let decisions = controls.decisions();
    let mut errors = Errors::default();
    cancel::jobs(&controls.base, &decisions, &mut errors).await;
    if let Some(pool) = &executor.pool {
        pool.cancel(|work, published| controls.state(work, published, None) == SessionState::Cancelled);
    }
    let released = release::all(controls, records, &decisions, &mut errors).await;
    let changed_meanwhile = released.unwrap_or_else(|error| {
        errors.add(error);
        false
    });
    // In the pass after the one that read them first: other replicas read them as often.
    if errors.first.is_none() && !changed && !changed_meanwhile {
        for (object, generation) in unapplied {
            if let Err(error) = mark_applied(&controls.base, &object, generation).await {
                errors.add(error);
            }
        }
    }
    errors.into_result()?;
    Ok(changed || changed_meanwhile)
}

/// Marks the decisions in a generation of a control object as applied.
async fn mark_applied(base: &Base, object: &str, generation: i64) -> anyhow::Result<()> {
    let mark = |found: &Object| {
        let is_marked = found.metadata.contains_key(labels::METADATA_APPLIED);
        (found.generation == generation && !is_marked).then(|| {
            let mut metadata = found.metadata.clone();
            metadata.insert(labels::METADATA_APPLIED.to_owned(), "true".to_owned());
            metadata
        })
    };
    base.store.amend(&base.business.bucket, object, mark).await.map(drop)
}

/// The result of reading the decisions.
struct Read {
    /// They changed since the last read.
    changed: bool,
    /// The control objects that are not marked as applied, with their generations.
    unapplied: Vec<(String, i64)>,
}

/// Reads the decisions; those with a known generation come from the cache.
async fn read(controls: &Controls) -> anyhow::Result<Read> {
    let (base, business) = (&controls.base, &controls.base.business);
    let before = controls.decisions.borrow().clone();
    let mut listed = base.store.list_stream(&business.bucket, &object::control_prefix(&business.name));
    let (mut decisions, mut unapplied) = (BTreeMap::new(), Vec::new());
    while let Some(found) = listed.try_next().await? {
        let Some(session) = object::parse_control(&business.name, &found.name) else { continue };
        let cached = before.as_ref().and_then(|decisions| decisions.get(session));
        let decision = match cached.filter(|cached| cached.generation == found.generation) {
            Some(cached) => cached.clone(),
            None => {
                let Some((described, body)) = base.store.read(&business.bucket, &found.name, None).await? else {
                    continue;
                };
                let (control, problem) = Control::parse(session, &body);
                match problem {
                    Some(problem) => {
                        tracing::error!(
                            object = found.name,
                            "treating a session as paused, since its control object is invalid: {problem}"
                        );
                    }
                    None => tracing::info!(
                        session,
                        paused = control.paused,
                        cancelled_before = control.cancelled_before.map(|time| time.to_string()),
                        cancelled_jobs = control.cancelled_jobs.len(),
                        by = control.by,
                        "read a decision about a session"
                    ),
                }
                Decision { generation: described.generation, control }
            }
        };
        decisions.insert(session.to_owned(), decision);
        if !found.metadata.contains_key(labels::METADATA_APPLIED) {
            unapplied.push((found.name, found.generation));
        }
    }
    let changed = before.as_deref() != Some(&decisions);
    if changed {
        controls.decisions.send_replace(Some(Arc::new(decisions)));
    }
    Ok(Read { changed, unapplied })
}

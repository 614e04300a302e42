//! What a person decided about sessions: read from the bucket every few seconds, heeded where work would start.
//!
//! Level-triggered as everything else: each pass compares what there is with what is decided, so a decision takes effect
//! whoever was down when it was made. Messages read a copy in memory; only sessions that somebody cancelled cost a look
//! at the bucket more.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use common::{
    Outcome,
    batch::{Batch, Entry, Manifest},
    control::{Control, Parked, SCHEMA},
    labels,
    message::Work,
    names, object,
    outcome::{self, State},
    storage::Properties,
};
use futures::TryStreamExt as _;
use google_cloud_pubsub::model::Message;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    batch_job::batch_of,
    batch_outcome::{Cut, is_spared},
    context::Context,
    hooks::Step,
    job::{self, Origin},
    outcome::{Standing, standing},
};

/// For how long after a change every pass looks at everything: another replica may act on what it read a moment ago.
const UNSETTLED_FOR: Duration = Duration::from_secs(60);
/// The readiness reason until the decisions were read once.
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

/// Publishes the event of a cancelled Job once more when its message comes again: whoever wrote the outcome may have died
/// before. Only sessions that somebody cancelled cost this look.
pub(crate) async fn tell_again(context: &Context, work: &Work) -> anyhow::Result<()> {
    if context.controls.of(&work.session).is_none_or(|control| control.before(&work.job).is_none()) {
        return Ok(());
    }
    match outcome::read(&context.store, &work.identity.bucket, &work.outcome()).await? {
        Some(Ok(outcome)) if outcome.state == State::Cancelled => context.events.publish(&outcome).await,
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
                if changed {
                    unsettled_until = Instant::now() + UNSETTLED_FOR;
                }
                if now >= next_full {
                    next_full = Instant::now() + context.timing.sweep_every;
                }
            }
            Err(error) => {
                tracing::warn!("failed to follow what was decided about sessions: {error:#}");
                if context.controls.decisions.borrow().is_none() {
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

/// Reads the decisions and, when they changed or `full`, carries them out. Tells whether they changed.
async fn pass(context: &Context, full: bool) -> anyhow::Result<bool> {
    let changed = read(context).await?;
    if !changed && !full {
        return Ok(false);
    }
    let decisions = context.controls.known();
    for (session, Known { control, .. }) in decisions.iter() {
        if control.has_cancelled() {
            cancel_jobs(context, session, control).await?;
        }
    }
    release(context, &decisions).await?;
    Ok(changed)
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

/// Deletes the cancelled Jobs of a session that have not ended; settling gives them their outcome.
async fn cancel_jobs(context: &Context, session: &str, control: &Control) -> anyhow::Result<()> {
    let selector = format!("{}={}", labels::SESSION, names::label_value(session));
    for job in context.cluster.jobs(&selector).await? {
        let (Some(name), Some(uid)) = (&job.metadata.name, &job.metadata.uid) else { continue };
        if standing(&job) != Standing::Running {
            continue;
        }
        match batch_of(&job)? {
            None if !is_cancelled(&job, control) => continue,
            None => {}
            Some(batch) => match cancelled_of(context, &batch, control).await? {
                Share::None => continue,
                Share::All => {}
                Share::Some(cut) => {
                    for (annotation, value) in cut.annotations() {
                        context.cluster.annotate(name, uid, annotation, &value).await?;
                    }
                }
            },
        }
        context.cluster.delete(name, uid).await?;
        tracing::info!(session, kubernetes_job = name, "deleted, since it was cancelled");
    }
    Ok(())
}

/// How much of a batch is cancelled.
enum Share {
    None,
    All,
    /// Only this. The others are published again, since one Job cannot end in part.
    Some(Cut),
}

/// How much of a running batch a decision cancels. It may have been made between the decision and the moment at which
/// this process read it, of messages from before and after.
async fn cancelled_of(context: &Context, batch: &Batch, control: &Control) -> anyhow::Result<Share> {
    let Some((_, text)) = context.store.read(&batch.bucket, &batch.manifest(), None).await? else {
        // Every input has its outcome.
        return Ok(Share::None);
    };
    let entries = Manifest::decode(&text, batch)?.entries;
    let is_older = |entry: &Entry, before: Option<Timestamp>| before.is_some_and(|before| !is_spared(entry, before));
    let with_session = entries.iter().filter(|entry| is_older(entry, control.cancelled_before)).count();
    let is_named = |entry: &Entry| {
        !is_older(entry, control.cancelled_before)
            && is_older(entry, control.cancelled_jobs.get(&entry.work.job).copied())
    };
    let inputs: Vec<u32> = (0..).zip(&entries).filter(|(_, entry)| is_named(entry)).map(|(input, _)| input).collect();
    Ok(match with_session + inputs.len() {
        0 => Share::None,
        all if all == entries.len() => Share::All,
        _ => Share::Some(Cut { before: control.cancelled_before.filter(|_| with_session > 0), inputs }),
    })
}

/// Whether a Job is of a message that came before it, or its session, was cancelled.
fn is_cancelled(job: &Job, control: &Control) -> bool {
    let (_, published, _) = job::origin_of(job);
    let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let name = job::work_of(job).map(|work| work.job).unwrap_or_default();
    control.cancels(&name, 1, published.or(created), None)
}

/// Publishes the parked messages of sessions that are not paused any more, and ends those of cancelled ones.
async fn release(context: &Context, decisions: &Decisions) -> anyhow::Result<()> {
    let business = &context.business;
    let mut parked = context.store.list_stream(&business.bucket, &object::parked_prefix(&business.name, None));
    let mut count = 0_u64;
    while let Some(found) = parked.try_next().await? {
        let Some(session) = object::parse_parked(&business.name, &found.name) else { continue };
        let control = decisions.get(session).map(|known| &known.control);
        let is_paused = control.is_some_and(|control| control.paused);
        if is_paused && control.is_some_and(|control| !control.has_cancelled()) {
            continue;
        }
        let Some((_, body)) = context.store.read(&business.bucket, &found.name, None).await? else { continue };
        let parked: Parked = match serde_json::from_slice(&body) {
            Ok(parked) => parked,
            Err(error) => {
                // Its input stays, so the sweep brings it back once the session is not paused.
                tracing::error!(object = found.name, "not a parked message: {error}");
                continue;
            }
        };
        match stand(context, &parked.work, parked.published).await? {
            Stand::Paused => continue,
            Stand::Cancelled => end(context, &parked).await?,
            Stand::Go => {
                let (data, attributes) = parked.work.encode();
                let message = Message::new().set_data(data).set_attributes(attributes);
                let sent = context.again.publish(message).await;
                sent.with_context(|| format!("publish {} again", parked.work.identity.object))?;
                context.hooks.at(Step::Released, None, Some(&parked.work.identity)).await;
            }
        }
        context.store.delete(&business.bucket, &found.name, found.generation).await?;
        count += 1;
    }
    if count > 0 {
        tracing::info!(count, "published or ended what had been put aside");
    }
    Ok(())
}

/// Writes the outcome of parked work that was cancelled.
async fn end(context: &Context, parked: &Parked) -> anyhow::Result<()> {
    let work = &parked.work;
    let mut outcome = cancelled(work);
    outcome.work = Some(work.clone());
    outcome.message_id = Some(parked.message_id.clone());
    outcome.timestamps.published = parked.published;
    outcome.timestamps.settled = Some((context.clock)());
    let text = serde_json::to_vec_pretty(&outcome).context("encode the outcome")?;
    let written = context.store.write_once(&work.identity.bucket, &work.outcome(), text, outcome.properties()).await?;
    if let common::storage::Written::New(_) = written {
        context.metrics.settled(State::Cancelled);
    }
    context.events.publish(&outcome).await;
    Ok(())
}

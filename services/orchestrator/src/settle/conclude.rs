//! Outcomes of messages that never become a Job.

use base64::Engine as _;
use cloud::{outcomes, storage::Written};
use contract::{
    Outcome,
    message::{Refusal, Work},
    object,
    outcome::State,
};

use tokio::sync::Semaphore;

use crate::{
    admit::error::AdmitError,
    base::Base,
    execute::job::Origin,
    hooks::Step,
    intake::received::Received,
    settle::{
        outcome::{completed, note_row_errors},
        ranges,
        record::read_result,
    },
};

/// Bytes from which a refused message is large. Its outcome holds all of it as text, several times while it is encoded.
const LARGE: usize = 1024 * 1024;
/// Large messages that are refused at the same time.
const LARGE_CONCURRENCY: usize = 2;
/// Size of most outcomes without the bytes of their message.
const OUTCOME_BYTES: usize = 4096;

/// Limits how many large messages are refused at the same time.
#[derive(Debug)]
pub(crate) struct LargeRefusals(Semaphore);

impl Default for LargeRefusals {
    fn default() -> Self {
        Self(Semaphore::new(LARGE_CONCURRENCY))
    }
}

/// Writes the outcome of work that never became a Job, or whose Job is gone: if it left its result, the work has
/// succeeded.
pub(crate) async fn conclude(base: &Base, origin: &Origin, work: &Work, mut outcome: Outcome) -> anyhow::Result<()> {
    let identity = &work.identity;
    // Without a generation, the object never existed.
    if work.range().is_some() {
        let parts = ranges::read_parts(base, work).await?;
        ranges::set_items(base, work, &parts, &mut outcome).await?;
    } else if identity.generation > 0 && work.pack.is_none() {
        let results = read_result(base, work).await?;
        if results.is_complete {
            let (state, code, message) = completed();
            outcome = Outcome::new(&work.business, state, &code, message);
            note_row_errors(&mut outcome, results.row_errors);
        }
    }
    outcome.work = Some(work.clone());
    let (code, state) = (outcome.reason.code.clone(), outcome.state);
    let object = work.outcome();
    if write(base, origin, &object, outcome).await? {
        let (job, session) = (&work.job, &work.session);
        match state {
            State::Cancelled => tracing::info!(code, job, session, "cancelled the work before it had a Job"),
            State::Succeeded => tracing::info!(code, job, session, "found the result of a Job that is gone"),
            State::Failed | State::Refused => tracing::warn!(code, job, session, "the work cannot become a Job"),
        }
        match state {
            State::Refused => base.metrics.refused("invalid-job"),
            state => base.metrics.settled(state),
        }
    }
    if state == State::Succeeded && work.pack.is_none() {
        base.store.delete(&identity.bucket, &identity.object, identity.generation).await?;
    }
    Ok(())
}

/// Publishes the event of work that never became a Job once more, when its message is redelivered: the process that
/// wrote the outcome may have died before it published the event. The event of a Job needs no such step: settling
/// repeats until the finalizer is removed. Returns the outcome, if it can be read.
pub(crate) async fn republish_event(base: &Base, work: &Work) -> anyhow::Result<Option<Outcome>> {
    publish_first(base, &work.outcome(), |outcome| outcome.kubernetes_job.is_none()).await
}

/// Publishes the event of the outcome in the bucket, if that fulfils a condition; returns the outcome.
async fn publish_first(
    base: &Base,
    object: &str,
    is_wanted: impl Fn(&Outcome) -> bool,
) -> anyhow::Result<Option<Outcome>> {
    match outcomes::read(&base.store, &base.business.bucket, object).await? {
        Some(Ok(outcome)) => {
            if is_wanted(&outcome) {
                base.events.publish(&outcome).await;
            }
            return Ok(Some(outcome));
        }
        // The outcome exists, which is enough not to run the work again.
        Some(Err(unreadable)) => tracing::error!("failed to publish the event of an outcome once more: {unreadable}"),
        None => {}
    }
    Ok(None)
}

/// Writes the outcome of an input whose options are refused: its session counts it, and it does not wait for ever.
pub(crate) async fn refuse_upload(base: &Base, origin: &Origin, work: &Work, refusal: &Refusal) -> anyhow::Result<()> {
    let mut outcome = Outcome::new(&work.business, State::Refused, refusal.code, &*refusal.message);
    outcome.work = Some(work.clone());
    if write(base, origin, &work.outcome(), outcome).await? {
        let (code, job, session) = (refusal.code, &work.job, &work.session);
        tracing::warn!(code, job, session, "refused the upload: {}", refusal.message);
        base.metrics.refused(refusal.code);
    }
    Ok(())
}

/// Writes the outcome of a message that cannot become a Job.
pub(crate) async fn refuse(
    base: &Base,
    large: &LargeRefusals,
    message: &Received,
    refusal: &Refusal,
) -> Result<(), AdmitError> {
    if let Some(work) = &refusal.work {
        return Ok(refuse_upload(base, &message.origin(), work, refusal).await?);
    }
    let data = &message.payload.data;
    let _permit = match data.len() > LARGE {
        true => Some(large.0.acquire().await.map_err(|error| AdmitError::Stuck(error.to_string()))?),
        false => None,
    };
    let mut outcome = Outcome::new(&base.business.name, State::Refused, refusal.code, &*refusal.message);
    outcome.message_data = Some(base64::engine::general_purpose::STANDARD.encode(data));
    outcome.message_attributes = Some(message.payload.attributes.clone());
    // Pub/Sub's ids are short numbers; any other id is hashed.
    let id = &message.id;
    let is_plain = !id.is_empty() && id.len() <= 100 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let id = if is_plain { id.clone() } else { contract::names::hash(&[id], 32) };
    if write(base, &message.origin(), &object::refused(&base.business.name, &id), outcome).await? {
        tracing::warn!(code = refusal.code, "refused the message: {}", refusal.message);
        base.metrics.refused(refusal.code);
    }
    Ok(())
}

/// Writes an outcome unless there is one, and publishes the event of the first one; returns whether this one is it.
async fn write(base: &Base, origin: &Origin, object: &str, mut outcome: Outcome) -> anyhow::Result<bool> {
    outcome.message_id = Some(origin.message_id.clone()).filter(|id| !id.is_empty());
    outcome.timestamps.published = origin.published;
    outcome.timestamps.received = Some(origin.received);
    outcome.timestamps.settled = Some((base.clock)());
    // Allocated once, and the message's bytes are not held twice while it is written.
    let mut text = Vec::with_capacity(outcome.message_data.as_ref().map_or(0, String::len) + OUTCOME_BYTES);
    serde_json::to_writer_pretty(&mut text, &outcome)?;
    outcome.message_data = None;
    let written = base.store.write_once(&base.business.bucket, object, text, (&outcome).into()).await?;
    base.hooks.reached(Step::RefusedWritten, Some(&origin.message_id), outcome.identity()).await;
    let is_new = matches!(written, Written::New(_));
    match is_new {
        true => base.events.publish(&outcome).await,
        false => drop(publish_first(base, object, |_| true).await?),
    }
    base.hooks.reached(Step::EventPublished, Some(&origin.message_id), outcome.identity()).await;
    Ok(is_new)
}

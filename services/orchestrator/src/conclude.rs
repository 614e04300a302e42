//! Outcomes of messages that never become a Job.

use base64::Engine as _;
use cloud::storage::Written;
use contract::{
    Outcome,
    message::{Refusal, Work},
    object,
    outcome::State,
};

use crate::{
    accept::{Obstacle, Received},
    context::Context,
    hooks::Step,
    job::Origin,
};

/// Bytes from which a refused message is large. Its outcome has all of it, as text, and that is in memory several times.
const LARGE: usize = 1024 * 1024;
/// Large messages that are refused at once.
pub(crate) const LARGE_AT_ONCE: usize = 2;
/// Bytes that most outcomes have without their message's.
const OTHERWISE: usize = 4096;

/// Writes the outcome of work that never became a Job.
pub(crate) async fn conclude(
    context: &Context,
    origin: &Origin,
    work: &Work,
    mut outcome: Outcome,
) -> Result<(), Obstacle> {
    outcome.work = Some(work.clone());
    let (code, state) = (outcome.reason.code.clone(), outcome.state);
    let object = work.outcome();
    if write(context, origin, &object, outcome).await? {
        tracing::warn!(code, job = work.job, session = work.session, "the work cannot become a Job");
        match state {
            State::Refused => context.metrics.refused("invalid-job"),
            state => context.metrics.settled(state),
        }
    }
    Ok(())
}

/// Writes the outcome of a message that cannot be a Job.
pub(crate) async fn refuse(context: &Context, message: &Received, refusal: &Refusal) -> Result<(), Obstacle> {
    let data = &message.payload.data;
    let _turn = match data.len() > LARGE {
        true => Some(context.large_refusals.acquire().await.map_err(|error| Obstacle::Stuck(error.to_string()))?),
        false => None,
    };
    let mut outcome = Outcome::new(&context.business.name, State::Refused, refusal.code, &*refusal.message);
    outcome.message_data = Some(base64::engine::general_purpose::STANDARD.encode(data));
    outcome.message_attributes = Some(message.payload.attributes.clone());
    // Ids that Pub/Sub gives are short numbers; anything else gets a name of its own.
    let id = &message.id;
    let plain = !id.is_empty() && id.len() <= 100 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let id = if plain { id.clone() } else { contract::names::hash(&[id], 32) };
    if write(context, &message.origin(), &object::refused(&context.business.name, &id), outcome).await? {
        tracing::warn!(code = refusal.code, "refused the message: {}", refusal.message);
        context.metrics.refused(refusal.code);
    }
    Ok(())
}

/// Writes an outcome and its event; `true` when it is new.
async fn write(context: &Context, origin: &Origin, object: &str, mut outcome: Outcome) -> Result<bool, Obstacle> {
    outcome.message_id = Some(origin.message_id.clone());
    outcome.timestamps.published = origin.published;
    outcome.timestamps.received = Some(origin.received);
    outcome.timestamps.settled = Some((context.clock)());
    // Of the right size from the start, and the message's bytes are not held twice while it is written.
    let mut text = Vec::with_capacity(outcome.message_data.as_ref().map_or(0, String::len) + OTHERWISE);
    serde_json::to_writer_pretty(&mut text, &outcome).map_err(anyhow::Error::from)?;
    outcome.message_data = None;
    let written = context.store.write_once(&context.business.bucket, object, text, (&outcome).into()).await?;
    context.hooks.at(Step::RefusedWritten, Some(&origin.message_id), outcome.identity()).await;
    context.events.publish(&outcome).await;
    context.hooks.at(Step::EventPublished, Some(&origin.message_id), outcome.identity()).await;
    Ok(matches!(written, Written::New(_)))
}

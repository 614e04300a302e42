//! Lets go of what was put aside: publishes the messages of sessions that are not paused any more, and ends those of
//! cancelled ones.
//!
//! Many at a time, since a session may have put aside very many. After some hundred it is looked whether somebody decided
//! something else meanwhile: that is not to wait for the rest.

use anyhow::Context as _;
use cloud::storage::{Object, Written};
use contract::{control::Parked, object, outcome::State};
use futures::StreamExt as _;
use google_cloud_pubsub::model::Message;

use super::{Decisions, Failed, Stand, cancelled, read, stand};
use crate::{context::Context, hooks::Step};

/// Records that are let go of at once.
const AT_ONCE: usize = 64;
/// Records after which it is looked for other decisions.
const BETWEEN_LOOKS: usize = 256;

/// Lets go of all that nothing holds any more. A record that cannot be let go of holds up no other. Tells whether other
/// decisions ended this before the end.
pub(super) async fn all(context: &Context, decisions: &Decisions, failed: &mut Failed) -> anyhow::Result<bool> {
    let business = &context.business;
    let prefix = object::parked_prefix(&business.name, None);
    let free = context.store.list_stream(&business.bucket, &prefix).filter(|found| {
        let is_free = found.as_ref().map_or(true, |found| is_free(&business.name, found, decisions));
        std::future::ready(is_free)
    });
    let mut free = free.chunks(BETWEEN_LOOKS);
    let mut count = 0_u64;
    let mut changed = false;
    while let Some(some) = free.next().await {
        let some = some.into_iter().collect::<anyhow::Result<Vec<Object>>>()?;
        let is_more = some.len() == BETWEEN_LOOKS;
        let mut tried = futures::stream::iter(some.iter().map(|found| one(context, found)).collect::<Vec<_>>())
            .buffer_unordered(AT_ONCE);
        while let Some(tried) = tried.next().await {
            match tried {
                Ok(gone) => count += u64::from(gone),
                Err(error) => failed.add(error),
            }
        }
        if is_more && read(context).await? {
            changed = true;
            break;
        }
    }
    if count > 0 {
        tracing::info!(count, "published or ended what had been put aside");
    }
    Ok(changed)
}

/// Whether what is decided does not hold a record. Of a paused session only what was cancelled is let go of, and that
/// shows in the record.
fn is_free(business: &str, found: &Object, decisions: &Decisions) -> bool {
    let Some(session) = object::parse_parked(business, &found.name) else { return false };
    let control = decisions.get(session).map(|known| &known.control);
    control.is_none_or(|control| !control.paused || control.has_cancelled())
}

/// Lets go of one record, unless it is held; tells whether it is gone then.
async fn one(context: &Context, found: &Object) -> anyhow::Result<bool> {
    let bucket = &context.business.bucket;
    let name = &found.name;
    let Some((_, body)) = context.store.read(bucket, name, None).await? else { return Ok(false) };
    let parked: Parked = match serde_json::from_slice(&body) {
        Ok(parked) => parked,
        Err(error) => {
            // Its input stays, so the sweep brings it back once the session is not paused.
            tracing::error!(object = name, "not a parked message: {error}");
            return Ok(false);
        }
    };
    let context_of = || format!("let go of {name}");
    match stand(context, &parked.work, parked.published).await.with_context(context_of)? {
        Stand::Paused => return Ok(false),
        Stand::Cancelled => end(context, &parked).await.with_context(context_of)?,
        Stand::Go => {
            let (data, attributes) = parked.work.encode();
            let message = Message::new().set_data(data).set_attributes(attributes);
            let sent = context.again.publish(message).await;
            sent.with_context(|| format!("publish {} again", parked.work.identity.object))?;
            context.hooks.at(Step::Released, None, Some(&parked.work.identity)).await;
        }
    }
    context.store.delete(bucket, name, found.generation).await?;
    Ok(true)
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
    let written = context.store.write_once(&work.identity.bucket, &work.outcome(), text, (&outcome).into()).await?;
    if let Written::New(_) = written {
        context.metrics.settled(State::Cancelled);
    }
    context.events.publish(&outcome).await;
    Ok(())
}

//! Which input a message asks for, when it does not say so in full: the live generation of an object, or the message's
//! own bytes, which are written as one.

use std::time::Duration;

use cloud::storage::{Properties, Written};
use contract::{Outcome, message::Work, object, outcome::State};
use futures::TryStreamExt as _;

use crate::{
    accept::{Obstacle, Received},
    conclude::conclude,
    context::Context,
    controls,
    hooks::Step,
    metrics::retry,
};

/// The work at the live generation of its input; `None` when it is done with.
pub(crate) async fn live(context: &Context, message: &Received, work: &Work) -> Result<Option<Work>, Obstacle> {
    let mut work = work.clone();
    if let Some(found) = context.store.describe(&work.identity.bucket, &work.identity.object, None).await? {
        work.identity.generation = found.generation;
        return Ok(Some(work));
    }
    if let Some(settled) = settled_generation(context, &work).await? {
        work.identity.generation = settled;
        controls::tell_again(context, &work).await?;
        return Ok(None);
    }
    // No generation was ever known, so the outcome is that of generation 0.
    let why = format!("there is no object {} in the bucket", work.identity.object);
    let outcome = Outcome::new(&work.business, State::Failed, "input-missing", why);
    conclude(context, &message.origin(), &work, outcome).await?;
    Ok(None)
}

/// The work whose input is the message's own bytes; `None` when it is done with.
pub(crate) async fn inline(context: &Context, message: &Received, work: &Work) -> Result<Option<Work>, Obstacle> {
    let mut work = work.clone();
    let (bucket, object) = (work.identity.bucket.clone(), work.identity.object.clone());
    // The input is deleted once it succeeded, so a redelivery could write it anew and with it make new work.
    if let Some(settled) = settled_generation(context, &work).await? {
        if let Some(left) = context.store.describe(&bucket, &object, None).await?.filter(|o| o.generation != settled) {
            context.store.delete(&bucket, &object, left.generation).await?;
        }
        return Ok(None);
    }
    let content_type = message.payload.attributes.get("content-type").map_or("text/plain", String::as_str).to_owned();
    let properties = Properties { content_type, metadata: work.metadata() };
    match context.store.write_once(&bucket, &object, message.payload.data.clone(), properties).await? {
        Written::New(generation) => {
            work.identity.generation = generation;
            context.hooks.at(Step::InlineWritten, Some(&message.id), Some(&work.identity)).await;
            // An outcome is written before its input is deleted: had there been an input until just now, its outcome
            // would show by now.
            if settled_generation(context, &work).await?.is_some() {
                context.store.delete(&bucket, &object, generation).await?;
                return Ok(None);
            }
        }
        Written::Exists => match context.store.describe(&bucket, &object, None).await? {
            Some(found) => work.identity.generation = found.generation,
            None => {
                return Err(Obstacle::Passing {
                    reason: retry::STORAGE,
                    after: Duration::ZERO,
                    why: format!("{object} was there and is gone"),
                });
            }
        },
    }
    Ok(Some(work))
}

/// The generation of the input that this attempt has an outcome for, if there is one.
async fn settled_generation(context: &Context, work: &Work) -> anyhow::Result<Option<i64>> {
    let prefix = format!("{}{}/", object::outcome_prefix(&work.business, Some(&work.session)), work.job);
    let mut outcomes = context.store.list_stream(&work.identity.bucket, &prefix);
    while let Some(found) = outcomes.try_next().await? {
        if let Some((session, job, generation, attempt)) = object::parse_outcome(&work.business, &found.name)
            && (session, job, attempt) == (work.session.clone(), work.job.clone(), work.identity.attempt)
        {
            return Ok(Some(generation));
        }
    }
    Ok(None)
}

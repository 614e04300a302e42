//! Publishes old inputs again that have neither Job nor outcome: their message was lost, or never sent.
//!
//! A duplicate is harmless, but a long backlog is old inputs too, so each is published again only every few hours.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use anyhow::Context as _;
use common::{batch, labels, message, object, storage::Object};
use futures::TryStreamExt as _;
use google_cloud_pubsub::model::Message;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// What is remembered of an old input, under a hash of its name and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It has an outcome, for good.
    Settled,
    /// It was published again then.
    Published(Timestamp),
}

/// Old inputs that were looked at. Holds only those that are still in the bucket.
#[derive(Debug, Default)]
struct Memory {
    hasher: RandomState,
    known: HashMap<u64, Known>,
}

/// Sweeps at start and then regularly, until `stop`.
pub(crate) async fn run(context: &Context, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut memory = Memory::default();
    let mut jobs = context.jobs.changes();
    while !context.jobs.look().is_synced() {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = jobs.changed() => changed?,
        }
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            swept = sweep(context, &mut memory) => match swept {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "published old inputs again"),
                Err(error) => tracing::warn!("failed to sweep: {error:#}"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(context.timing.sweep_every) => {}
        }
    }
}

async fn sweep(context: &Context, memory: &mut Memory) -> anyhow::Result<u64> {
    let business = &context.business;
    let now = (context.clock)();
    let age = SignedDuration::try_from(context.timing.sweep_age).context("read the age of old inputs")?;
    let again = SignedDuration::try_from(context.timing.sweep_again).context("read the time between publications")?;
    let mut inputs = context.store.list_stream(&business.bucket, &object::input_prefix(&business.name));
    let mut still = HashMap::new();
    let mut published = 0;
    while let Some(input) = inputs.try_next().await? {
        // A person's retry makes it as new as that.
        let retried = input.metadata.get(labels::METADATA_RETRIED);
        let since = retried.and_then(|text| text.parse().ok()).max(input.created);
        if since.is_none_or(|since| now.duration_since(since) < age) {
            continue;
        }
        let key = memory.hasher.hash_one((&input.name, input.generation, retried));
        let known = match memory.known.get(&key) {
            Some(Known::Published(at)) if now.duration_since(*at) >= again => None,
            known => known.copied(),
        };
        let known = match known {
            Some(known) => Some(known),
            None => look(context, &input, now).await?,
        };
        if let Some(known) = known {
            published += u64::from(known == Known::Published(now));
            still.insert(key, known);
        }
    }
    memory.known = still;
    forget_batches(context, now - age).await?;
    Ok(published)
}

/// Deletes manifests and reports from before `until` whose batch has no Job: it was never created, or its settling died
/// in between, or a pod outlived it.
async fn forget_batches(context: &Context, until: Timestamp) -> anyhow::Result<()> {
    let business = &context.business;
    for prefix in [object::manifest_prefix(&business.name), object::report_prefix(&business.name)] {
        let mut objects = context.store.list_stream(&business.bucket, &prefix);
        while let Some(found) = objects.try_next().await? {
            let job = batch::job_of_object(&business.name, &found.name);
            let old = found.created.is_some_and(|created| created < until);
            if old && job.is_some_and(|job| !context.jobs.look().has(&job)) {
                context.store.delete(&business.bucket, &found.name, found.generation).await?;
            }
        }
    }
    Ok(())
}

/// Looks at one old input, and publishes it if nothing else knows of it.
async fn look(context: &Context, input: &Object, now: Timestamp) -> anyhow::Result<Option<Known>> {
    let work = match message::stored(&input.name, input.generation, &input.metadata, &context.business) {
        Ok(work) => work,
        Err(refusal) => {
            tracing::warn!(object = input.name, code = refusal.code, "not a possible input: {}", refusal.message);
            return Ok(Some(Known::Settled));
        }
    };
    // What was put aside is published when the pause ends.
    let is_paused = context.controls.of(&work.session).is_some_and(|control| control.paused);
    if is_paused || context.jobs.look().has(&work.identity.job_name()) {
        return Ok(None);
    }
    // This attempt at this generation, or a later one.
    let folder = object::outcome_prefix(&work.business, Some(&work.session));
    let prefix = format!("{folder}{}/{}-", work.job, work.identity.generation);
    let mut outcomes = context.store.list_stream(&work.identity.bucket, &prefix);
    while let Some(outcome) = outcomes.try_next().await? {
        let attempt = object::parse_outcome(&work.business, &outcome.name).map(|(.., attempt)| attempt);
        if attempt.is_some_and(|attempt| attempt >= work.identity.attempt) {
            return Ok(Some(Known::Settled));
        }
    }
    let (data, attributes) = work.encode();
    let message = Message::new().set_data(data).set_attributes(attributes);
    context.again.publish(message).await.with_context(|| format!("publish {} again", input.name))?;
    context.metrics.swept.inc();
    tracing::info!(object = input.name, generation = input.generation, "published an old input again");
    Ok(Some(Known::Published(now)))
}

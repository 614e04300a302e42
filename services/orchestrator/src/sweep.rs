//! Publishes old inputs again that have neither Job nor outcome: their message was lost, or never sent.
//!
//! A duplicate is harmless, but a long backlog is old inputs too, so each is published again only every few hours, and
//! none that a batch has in hand. What is older than outcomes are kept is left alone: what failed then, or was cancelled,
//! has its input and no outcome any more, and would run again.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use anyhow::Context as _;
use cloud::storage::Object;
use contract::{message, object};
use futures::TryStreamExt as _;
use google_cloud_pubsub::model::Message;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use self::batches::InHand;
use crate::context::Context;

mod batches;

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
    /// How many are too old to tell whether they were settled, as it was said last.
    expired: usize,
}

/// What an input's age says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// Its message may well be on its way.
    Young,
    /// Its message should have become something by now.
    Old,
    /// Its outcome, if it had one, may be gone.
    Expired,
}

impl Age {
    /// Of an input that was asked for then. Inputs turn old at `old`, those from before `expired` have expired.
    fn of(asked: Option<Timestamp>, old: Timestamp, expired: Timestamp) -> Self {
        match asked {
            Some(asked) if asked < expired => Self::Expired,
            Some(asked) if asked <= old => Self::Old,
            _ => Self::Young,
        }
    }
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
    let expired_before = business.retention.expired_before(now);
    let again = SignedDuration::try_from(context.timing.sweep_again).context("read the time between publications")?;
    let mut inputs = context.store.list_stream(&business.bucket, &object::input_prefix(&business.name));
    let mut still = HashMap::new();
    let mut in_hand = InHand::default();
    let (mut published, mut expired) = (0, 0);
    while let Some(input) = inputs.try_next().await? {
        // A person's retry makes it as new as that.
        let asked = input.requested();
        match Age::of(asked, now - age, expired_before) {
            Age::Young => continue,
            Age::Expired => {
                expired += 1;
                continue;
            }
            Age::Old => {}
        }
        let key = memory.hasher.hash_one((&input.name, input.generation, asked));
        let known = match memory.known.get(&key) {
            Some(Known::Published(at)) if now.duration_since(*at) >= again => None,
            known => known.copied(),
        };
        let known = match known {
            Some(known) => Some(known),
            None => look(context, &mut in_hand, &input, now).await?,
        };
        if let Some(known) = known {
            published += u64::from(known == Known::Published(now));
            still.insert(key, known);
        }
    }
    memory.known = still;
    if expired != memory.expired {
        tracing::info!(
            count = expired,
            days = business.retention.outcome_days,
            "inputs are older than outcomes are kept and are left alone; a retry runs one, and nothing deletes them"
        );
        memory.expired = expired;
    }
    batches::tend(context, now, age).await?;
    Ok(published)
}

/// Looks at one old input, and publishes it if nothing else knows of it.
async fn look(
    context: &Context,
    in_hand: &mut InHand,
    input: &Object,
    now: Timestamp,
) -> anyhow::Result<Option<Known>> {
    let work = match message::stored(&input.name, input.generation, &input.metadata, &context.business) {
        Ok(work) => work,
        Err(refusal) => {
            tracing::warn!(object = input.name, code = refusal.code, "not a possible input: {}", refusal.message);
            return Ok(Some(Known::Settled));
        }
    };
    // What was put aside is published when the pause ends.
    let is_paused = context.controls.of(&work.session).is_some_and(|control| control.paused);
    if is_paused || context.jobs.look().has(&work.identity.job_name()) || in_hand.has(context, &work.identity).await? {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_outcomes_are_kept_is_not_published_again() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let hours = |hours| now - SignedDuration::from_hours(hours);
        let retention = contract::config::Retention { finished_jobs_secs: 1, output_days: 1, outcome_days: 90 };
        let age = |asked| Age::of(asked, hours(1), retention.expired_before(now));
        assert_eq!(
            [None, Some(now), Some(hours(1)), Some(hours(24 * 89))].map(age),
            [Age::Young, Age::Young, Age::Old, Age::Old]
        );
        // Its outcome goes at 90 days, and the clocks of all are not the same.
        assert_eq!(age(Some(hours(24 * 89 + 1))), Age::Expired);
        assert_eq!(age(Some(hours(24 * 91))), Age::Expired);
    }
}

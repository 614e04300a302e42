//! Requeues old inputs that have neither a Job nor an outcome: their message was lost, or never sent.
//!
//! A duplicate is harmless, but the inputs of a long backlog are old too, so each is requeued only every few hours.
//! Inputs older than the retention of outcomes are skipped: those that failed or were
//! cancelled still exist, their outcomes do not, and they would run once more.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use anyhow::Context as _;
use cloud::storage::Object;
use contract::{message, object};
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    base::Base,
    conclude::refuse_upload,
    controls::Controls,
    job::Origin,
    packs::{self, Ended, Packs},
};

/// The result of the last check of an old input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// It has an outcome, which never changes.
    Settled,
    /// It was requeued at this time.
    Requeued(Timestamp),
}

/// The old inputs that were checked, by a hash of name and generation. It holds only inputs that are still in the
/// bucket.
#[derive(Debug, Default)]
struct InputCache {
    hasher: RandomState,
    checked: HashMap<u64, Checked>,
    /// How many inputs had expired at the last sweep.
    expired: usize,
}

/// The age of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// Its message may still be in transit.
    Young,
    /// Its message should have become a Job or an outcome.
    Old,
    /// Its outcome, if it had one, may be deleted.
    Expired,
}

impl Age {
    /// The age of an input requested at this time: old from `old`, expired before `expired`.
    fn new(requested: Option<Timestamp>, old: Timestamp, expired: Timestamp) -> Self {
        match requested {
            Some(time) if time < expired => Self::Expired,
            Some(time) if time <= old => Self::Old,
            _ => Self::Young,
        }
    }
}

/// Sweeps at start and then regularly, until `stop`.
pub(crate) async fn run(
    base: &Base,
    controls: &Controls,
    layouts: &Packs,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut cache = InputCache::default();
    let mut jobs = base.jobs.changes();
    while !base.jobs.view().is_synced() {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = jobs.changed() => changed?,
        }
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            swept = sweep(base, controls, layouts, &mut cache) => match swept {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "requeued old inputs"),
                Err(error) => tracing::warn!("failed to sweep: {error:#}"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(base.timing.sweep_interval) => {}
        }
    }
}

async fn sweep(base: &Base, controls: &Controls, layouts: &Packs, cache: &mut InputCache) -> anyhow::Result<u64> {
    let business = &base.business;
    let now = (base.clock)();
    let age = SignedDuration::try_from(base.timing.sweep_age).context("read the age of old inputs")?;
    let expired_before = business.retention.expired_before(now);
    let interval = SignedDuration::try_from(base.timing.requeue_interval).context("read the requeue interval")?;
    let mut inputs = base.store.list_stream(&business.bucket, &object::input_prefix(&business.name));
    let mut still = HashMap::new();
    let (mut requeued, mut expired) = (0, 0);
    while let Some(input) = inputs.try_next().await? {
        // A person's retry counts as a new request.
        let requested = input.requested();
        match Age::new(requested, now - age, expired_before) {
            Age::Young => continue,
            Age::Expired => {
                expired += 1;
                continue;
            }
            Age::Old => {}
        }
        let key = cache.hasher.hash_one((&input.name, input.generation, requested));
        let cached = match cache.checked.get(&key) {
            Some(Checked::Requeued(at)) if now.duration_since(*at) >= interval => None,
            cached => cached.copied(),
        };
        let checked = match cached {
            Some(cached) => Some(cached),
            None => check(base, controls, layouts, &input, now).await?,
        };
        if let Some(checked) = checked {
            requeued += u64::from(checked == Checked::Requeued(now));
            still.insert(key, checked);
        }
    }
    cache.checked = still;
    if expired != cache.expired {
        tracing::info!(
            count = expired,
            days = business.retention.outcome_days,
            "skipping inputs that are older than the retention of outcomes; a retry runs one, and nothing deletes them"
        );
        cache.expired = expired;
    }
    Ok(requeued)
}

/// Checks one old input, and requeues it if it has neither a Job nor an outcome.
async fn check(
    base: &Base,
    controls: &Controls,
    layouts: &Packs,
    input: &Object,
    now: Timestamp,
) -> anyhow::Result<Option<Checked>> {
    let work = match message::stored(&input.name, input.generation, &input.metadata, &base.business) {
        Ok(work) => work,
        Err(message::Refusal { work: None, .. }) if object::is_folder_marker(&base.business.name, &input.name) => {
            return Ok(Some(Checked::Settled));
        }
        Err(refusal) => {
            if let Some(work) = &refusal.work {
                let origin = Origin { message_id: String::new(), published: input.created, received: now };
                refuse_upload(base, &origin, work, &refusal).await?;
                return Ok(Some(Checked::Settled));
            }
            tracing::warn!(
                object = input.name,
                code = refusal.code,
                "failed to read an object as an input: {}",
                refusal.message
            );
            return Ok(Some(Checked::Settled));
        }
    };
    // A parked message is requeued when the pause ends.
    let is_paused = controls.decision(&work.session).is_some_and(|control| control.paused);
    if is_paused || base.jobs.view().contains(&work.identity.job_name()) {
        return Ok(None);
    }
    // An outcome of this attempt at this generation, or of a later attempt.
    let ended = Ended::list(base, &work).await?;
    if ended.whole.is_some_and(|attempt| attempt >= work.identity.attempt) {
        return Ok(Some(Checked::Settled));
    }
    if let Some(pack) = &work.pack {
        let pack = layouts.layout(base, &work).await?.unwrap_or_else(|| pack.clone());
        if ended.has_succeeded(&pack) {
            // The process that settled the last range ended before it deleted the input.
            packs::delete_input(base, &work).await?;
            return Ok(Some(Checked::Settled));
        }
        let remaining = ended.remaining(&pack, work.identity.attempt);
        let view = base.jobs.view();
        let has_job = |(first, attempt): &(u32, u32)| {
            let mut range = work.of_range(*first);
            range.identity.attempt = *attempt;
            view.contains(&range.identity.job_name())
        };
        if remaining.iter().all(has_job) {
            return Ok(if remaining.is_empty() { Some(Checked::Settled) } else { None });
        }
    }
    base.requeue(&work, None).await?;
    base.metrics.swept.inc();
    tracing::info!(object = input.name, generation = input.generation, "requeued an old input");
    Ok(Some(Checked::Requeued(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_older_than_the_retention_of_outcomes_are_not_requeued() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let hours = |hours| now - SignedDuration::from_hours(hours);
        let retention = contract::config::Retention { finished_jobs_secs: 1, output_days: 1, outcome_days: 90 };
        let age = |requested| Age::new(requested, hours(1), retention.expired_before(now));
        assert_eq!(
            [None, Some(now), Some(hours(1)), Some(hours(24 * 89))].map(age),
            [Age::Young, Age::Young, Age::Old, Age::Old]
        );
        // Its outcome is deleted at 90 days, and clocks differ.
        assert_eq!(age(Some(hours(24 * 89 + 1))), Age::Expired);
        assert_eq!(age(Some(hours(24 * 91))), Age::Expired);
    }
}

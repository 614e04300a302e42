//! Requeues old inputs that have neither a Job nor an outcome: their message was lost, or never sent.
//!
//! A duplicate is harmless, but the inputs of a long backlog are old too, so each is requeued only every few hours. The
//! time of the last sweep is in the bucket, so that neither a restart nor a second orchestrator repeats it.
//! Inputs older than the retention of outcomes are skipped: those that failed or were cancelled still exist, their
//! outcomes do not, and they would run once more.
//!
//! The options of the message are in the metadata of the input. Without them it is requeued only when Pub/Sub has no
//! message of it any more: until then it would run with other options than those of a message that waits.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use anyhow::Context as _;
use cloud::storage::{Object, Properties};
use contract::{labels, message, object};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    base::Base,
    execute::{Executor, job::Origin},
    sessions::{Controls, Errors, SessionState, cancelled_outcome},
    settle::{ended::Ended, record::Records},
};

/// Inputs that are checked at the same time.
const CONCURRENCY: usize = 16;

/// The result of the last check of an old input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    /// It has an outcome, which never changes.
    Settled,
    /// It was requeued at this time.
    Requeued(Timestamp),
    /// Nothing was decided; the next sweep checks it again.
    Open,
}

/// When the last sweep began, and when the bucket recorded it. Both are of different clocks.
#[derive(Clone, Copy, Debug)]
struct Swept {
    began: Timestamp,
    recorded: Timestamp,
}

impl Swept {
    /// The last sweep of the business, by whichever orchestrator.
    async fn last(base: &Base) -> anyhow::Result<Option<Self>> {
        let business = &base.business;
        let marker = base.store.describe(&business.bucket, &object::swept(&business.name), None).await?;
        Ok(marker.and_then(|marker| {
            let began = marker.metadata.get(labels::METADATA_SWEPT)?.parse().ok()?;
            Some(Self { began, recorded: marker.created? })
        }))
    }

    /// Records a sweep that began then.
    async fn record(base: &Base, began: Timestamp) -> anyhow::Result<()> {
        let business = &base.business;
        let metadata = [(labels::METADATA_SWEPT.to_owned(), began.to_string())].into();
        let properties = Properties { content_type: "text/plain".to_owned(), metadata };
        base.store.write(&business.bucket, &object::swept(&business.name), "", properties).await?;
        Ok(())
    }
}

/// Whether an input comes due between two times: at `age` after it was requested, and every `interval` from then on.
fn comes_due(
    requested: Timestamp,
    age: SignedDuration,
    interval: SignedDuration,
    after: Option<Timestamp>,
    until: Timestamp,
) -> bool {
    let turns = |at: Timestamp| {
        let old_for = at.duration_since(requested) - age;
        if old_for.is_negative() { -1 } else { old_for.as_secs() / interval.as_secs().max(1) }
    };
    turns(until) > after.map_or(-1, turns)
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
    /// The age of an input requested at this time: old from `old` on, expired before `expired`.
    fn new(requested: Option<Timestamp>, old: Timestamp, expired: Timestamp) -> Self {
        match requested {
            Some(time) if time < expired => Self::Expired,
            Some(time) if time <= old => Self::Old,
            _ => Self::Young,
        }
    }
}

/// Sweeps the inputs of the business.
pub(crate) struct Sweeper {
    pub(crate) base: Arc<Base>,
    pub(crate) controls: Arc<Controls>,
    pub(crate) records: Arc<Records>,
    pub(crate) executor: Arc<Executor>,
}

/// Sweeps at start and then regularly, until `stop`.
pub(crate) async fn run(sweeper: Sweeper, stop: CancellationToken) -> anyhow::Result<()> {
    let base = &sweeper.base;
    let mut cache = InputCache::default();
    let mut jobs = base.jobs.changes();
    sweeper.controls.loaded(&stop).await;
    while !base.jobs.view().is_synced() {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = jobs.changed() => changed?,
        }
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            swept = sweep(&sweeper, &mut cache) => if let Err(error) = swept {
                tracing::warn!("failed to sweep: {error:#}");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(base.timing.sweep_interval) => {}
        }
    }
}

/// Sweeps once. An input that fails does not block the others; the errors are returned at the end.
async fn sweep(sweeper: &Sweeper, cache: &mut InputCache) -> anyhow::Result<()> {
    let base = &sweeper.base;
    let business = &base.business;
    let now = (base.clock)();
    let age = SignedDuration::try_from(base.timing.sweep_age).context("read the age of old inputs")?;
    let expired_before = business.retention.expired_before(now);
    let interval = SignedDuration::try_from(base.timing.requeue_interval).context("read the requeue interval")?;
    let last = Swept::last(base).await.context("read when the last sweep was")?;
    let mut still = HashMap::new();
    let (mut requeued, mut expired) = (0, 0);
    let mut errors = Errors::default();
    let mut is_complete = true;
    let inputs = base.store.list_stream(&business.bucket, &object::input_prefix(&business.name));
    // A person's retry counts as a new request.
    let old = inputs.try_filter_map(|input| {
        let age = Age::new(input.requested(), now - age, expired_before);
        expired += usize::from(age == Age::Expired);
        std::future::ready(Ok((age == Age::Old).then_some(input)))
    });
    let InputCache { hasher, checked: cached, .. } = &*cache;
    let checks = old.map(|input| async move {
        let input = input?;
        let requested = input.requested();
        let key = hasher.hash_one((&input.name, input.generation, requested));
        let comes_due = |after| requested.is_none_or(|requested| comes_due(requested, age, interval, after, now));
        let requeued = match cached.get(&key) {
            Some(Checked::Settled) => return Ok((key, Ok(Checked::Settled))),
            Some(Checked::Requeued(at)) if !comes_due(Some(*at)) => return Ok((key, Ok(Checked::Requeued(*at)))),
            Some(_) => None,
            // Of one that this process has not checked yet, the last sweep of another one counts.
            None => {
                let saw = |last: &Swept| requested.is_some_and(|requested| requested < last.recorded);
                last.filter(saw).map(|last| last.began).filter(|began| !comes_due(Some(*began)))
            }
        };
        let checked = check(sweeper, &input, requeued, now).await.with_context(|| format!("check {}", input.name));
        anyhow::Ok((key, checked))
    });
    let mut checks = Box::pin(checks.buffer_unordered(CONCURRENCY));
    while let Some(listed) = checks.next().await {
        match listed {
            Ok((key, Ok(checked))) => {
                requeued += u64::from(checked == Checked::Requeued(now));
                still.insert(key, checked);
            }
            Ok((key, Err(error))) => {
                still.insert(key, Checked::Open);
                errors.add(error);
            }
            Err(error) => {
                errors.add(error);
                is_complete = false;
                break;
            }
        }
    }
    drop(checks);
    match is_complete {
        true => {
            cache.checked = still;
            Swept::record(base, now).await.context("record the sweep").unwrap_or_else(|error| errors.add(error));
        }
        false => cache.checked.extend(still),
    }
    if requeued > 0 {
        tracing::info!(count = requeued, "requeued old inputs");
    }
    if is_complete && expired != cache.expired {
        tracing::info!(
            count = expired,
            days = business.retention.outcome_days,
            "skipping inputs that are older than the retention of outcomes; a retry runs one, and nothing deletes them"
        );
        cache.expired = expired;
    }
    errors.into_result()
}

/// Checks one old input, and requeues it if it has neither a Job nor an outcome, unless a sweep did at `requeued`.
async fn check(
    sweeper: &Sweeper,
    input: &Object,
    requeued: Option<Timestamp>,
    now: Timestamp,
) -> anyhow::Result<Checked> {
    let Sweeper { base, controls, records, executor } = sweeper;
    let origin = Origin { message_id: String::new(), published: input.created, received: now };
    let work = match message::stored(&input.name, input.generation, &input.metadata, &base.business) {
        Ok(work) => work,
        Err(message::Refusal { work: None, .. }) if object::is_folder_marker(&base.business.name, &input.name) => {
            return Ok(Checked::Settled);
        }
        Err(refusal) => {
            if let Some(work) = &refusal.work {
                records.refuse(&origin, work, &refusal).await?;
                return Ok(Checked::Settled);
            }
            tracing::warn!(
                object = input.name,
                code = refusal.code,
                "failed to read an object as an input: {}",
                refusal.message
            );
            return Ok(Checked::Settled);
        }
    };
    let identity = &work.identity;
    let state = controls.state(&work, None, input.created);
    let is_cancelled = state == SessionState::Cancelled;
    let retention = SignedDuration::from_hours(24 * message::RETENTION_DAYS);
    let may_wait = input.requested().is_none_or(|requested| now.duration_since(requested) <= retention);
    let is_unknown = !base.business.submit_on_upload && !message::has_options(&input.metadata);
    // A parked message is requeued when the pause ends.
    if state == SessionState::Paused || (is_unknown && may_wait && !is_cancelled) || executor.is_in_progress(identity) {
        return Ok(Checked::Open);
    }
    // An outcome of this attempt at this generation, or of a later attempt.
    let ended = Ended::list(base, &work).await?;
    if let Some(whole) = ended.whole.filter(|whole| whole.attempt >= identity.attempt) {
        // A crash between outcome and deletion may leave the input of a success.
        if whole.generation != identity.generation || whole.succeeded {
            records.delete_object(&work).await?;
        }
        return Ok(Checked::Settled);
    }
    if let Some(pack) = &work.pack {
        let layout = records.layouts.read(&work).await?;
        let is_split = layout.is_some();
        let pack = layout.as_ref().map_or(pack, |layout| &layout.pack);
        if ended.has_succeeded(pack) {
            records.delete_object(&work).await?;
            return Ok(Checked::Settled);
        }
        let remaining = ended.remaining(pack, identity.attempt);
        let range = |(first, attempt): &(u32, u32)| work.of_attempt(*first, *attempt).identity;
        if remaining.iter().all(|of| executor.is_in_progress(&range(of))) {
            return Ok(if remaining.is_empty() { Checked::Settled } else { Checked::Open });
        }
        if is_split && is_cancelled {
            // Each range is cancelled by itself.
            base.requeue(&work, input.created).await?;
            return Ok(Checked::Requeued(now));
        }
    }
    if is_cancelled {
        records.conclude(&origin, &work, cancelled_outcome(&work)).await?;
        return Ok(Checked::Settled);
    }
    if let Err(refusal) = work.check_message() {
        records.refuse(&origin, &work, &refusal).await?;
        return Ok(Checked::Settled);
    }
    if let Some(at) = requeued {
        return Ok(Checked::Requeued(at));
    }
    base.requeue(&work, None).await?;
    base.metrics.swept.inc();
    tracing::info!(object = input.name, generation = input.generation, "requeued an old input");
    Ok(Checked::Requeued(now))
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

    #[test]
    fn an_input_comes_due_when_it_is_old_and_every_few_hours_from_then_on() {
        let requested: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let hours = SignedDuration::from_hours;
        let is_due = |after: Option<i64>, until: i64| {
            let after = after.map(|after| requested + hours(after));
            comes_due(requested, hours(1), hours(6), after, requested + hours(until))
        };
        assert_eq!([(None, 0), (None, 1), (None, 99)].map(|(after, until)| is_due(after, until)), [false, true, true]);
        // A sweep that came too early for it, one that requeued it, and the next turn.
        assert_eq!(
            [(0, 1), (1, 1), (1, 6), (2, 7), (7, 12), (7, 13)].map(|(after, until)| is_due(Some(after), until)),
            [true, false, false, true, false, true]
        );
    }
}

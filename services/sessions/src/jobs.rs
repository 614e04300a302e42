//! The Jobs of a business, from its inputs, its outcomes and its Kubernetes Jobs.
//!
//! Callers pass in Kubernetes Jobs as plain values, so this module does not know Kubernetes types.

use std::collections::BTreeMap;

use cloud::{
    outcomes,
    storage::{Object, Store},
};
use contract::{
    Outcome,
    config::Business,
    labels, message,
    object::{self, OutcomeName},
    outcome::{Reason, Timestamps},
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

pub use crate::state::State;

use crate::ranges::{Items, RangeOutcomes};

/// Outcomes read at a time.
const READS: usize = 32;
/// Reason code of a Kubernetes Job that is suspended until its queue admits it.
pub const SUSPENDED: &str = "suspended";
/// Reason code of an input that no message may name any more, and whose options are not known.
pub const LOST: &str = "lost";
/// Age from which an input without known options counts as lost.
const LOST_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// Session under which refused messages are shown; no Job's session may be called so.
pub const REFUSED_SESSION: &str = "refused";

/// A Kubernetes Job of ours without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// Session.
    pub session: String,
    /// Job id.
    pub job: String,
    /// Generation of the input.
    pub generation: i64,
    /// First item, of a range of a pack.
    pub first: Option<u32>,
    /// How many items it computes.
    pub items: u32,
    /// Attempt.
    pub attempt: u32,
    /// Its progress.
    pub reason: Reason,
    /// Times known so far.
    pub timestamps: Timestamps,
    /// Name of the Kubernetes Job.
    pub kubernetes_job: String,
}

/// One Job: one generation of one input, in its latest attempt.
#[derive(Clone, Debug, PartialEq, schemars::JsonSchema, Serialize)]
pub struct Job {
    /// Business.
    pub business: String,
    /// Session.
    pub session: String,
    /// Job id.
    pub job: String,
    /// Generation of the input; 0 for a refused message.
    pub generation: i64,
    /// Attempt shown, 0 for the first.
    pub attempt: u32,
    /// Its state; absent while its outcome has not been read.
    pub state: Option<State>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When it changed last: outcome written, Kubernetes Job created, input written.
    pub changed: Option<Timestamp>,
    /// Times known.
    pub timestamps: Timestamps,
    /// Seconds from published to settled, once it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Rows that have an error in the result.
    pub row_errors: u32,
    /// Its items by state, of a pack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
    /// Name of the Kubernetes Job, when it is known; of a pack, that of a range that runs or of `outcome`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes_job: Option<String>,
    /// Name of the input object, if it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Name of the outcome object, when there is one; of a pack, that of the first range without success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The names of the latest outcomes: one for each range of a pack.
    #[serde(skip)]
    pub outcomes: Vec<String>,
    /// Those of them that are no success, as far as their metadata shows it.
    #[serde(skip)]
    pub unsuccessful: Vec<String>,
    /// Number of items of a range, of a pack that is split.
    #[serde(skip)]
    pub items_per_range: Option<u32>,
}

/// The objects of a business that describe its Jobs.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Objects under `B/input/`.
    pub inputs: Vec<Object>,
    /// Objects under `B/outcome/`.
    pub outcomes: Vec<Object>,
    /// Jobs that were requested before this time may have lost their outcome (see
    /// [`contract::config::Retention::expired_before`]).
    pub expired_before: Option<Timestamp>,
    /// Inputs without known options that were written before this time may be lost; `None` when an upload is a submission
    /// by itself.
    pub lost_before: Option<Timestamp>,
}

/// Lists a business's inputs and outcomes, of one session when it is given.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn list(store: &Store, business: &Business, session: Option<&str>) -> anyhow::Result<Objects> {
    let now = Timestamp::now();
    let expired_before = Some(business.retention.expired_before(now));
    let lost_before = (!business.submit_on_upload).then(|| now - LOST_AFTER);
    let of = business;
    let (bucket, business) = (&business.bucket, &business.name);
    let inputs = match session {
        // Objects directly under `B/input/` belong to the session for uploads.
        Some(session) if session != object::UPLOADS_SESSION => object::input(business, session, ""),
        _ => object::input_prefix(business),
    };
    let outcomes = object::outcome_prefix(business, session);
    let (inputs, mut outcomes) = tokio::try_join!(store.list(bucket, &inputs), store.list(bucket, &outcomes))?;
    add_counts(store, of, &mut outcomes).await?;
    Ok(Objects { inputs, outcomes, expired_before, lost_before })
}

/// Reads those outcomes of ranges whose metadata does not say how their items ended, and adds what it would say: another
/// program may have copied them without it.
///
/// # Errors
/// When the bucket cannot be read.
pub async fn add_counts(store: &Store, business: &Business, listed: &mut [Object]) -> anyhow::Result<()> {
    let is_range = |name: &str| object::parse_outcome(&business.name, name).is_some_and(|name| name.first.is_some());
    let lacks = |listed: &&mut Object| !listed.metadata.contains_key(labels::METADATA_ITEMS) && is_range(&listed.name);
    let lacking: Vec<&mut Object> = listed.iter_mut().filter(lacks).collect();
    let names: Vec<String> = lacking.iter().map(|listed| listed.name.clone()).collect();
    let read = outcomes::read_all(store, &business.bucket, names, READS).await?;
    for (listed, outcome) in lacking.into_iter().zip(read) {
        listed.metadata.extend(outcome.iter().flat_map(Outcome::metadata));
    }
    Ok(())
}

/// Merges objects and running Jobs into one list, the latest change first; with `session`, only of that session. A
/// running Job replaces only outcomes of earlier attempts: the orchestrator writes the outcome before it deletes the
/// Kubernetes Job.
pub fn merge(business: &str, session: Option<&str>, objects: &Objects, active: &[Active]) -> Vec<Job> {
    let wanted = |of: &str| session.is_none_or(|session| session == of);
    let mut jobs: BTreeMap<(String, String, i64), Job> = BTreeMap::new();
    let mut ended: BTreeMap<(String, String, i64), RangeOutcomes> = BTreeMap::new();
    for input in &objects.inputs {
        let Ok((of, job)) = object::parse_input(business, &input.name) else { continue };
        if !wanted(&of) {
            continue;
        }
        let mut entry = new(business, &of, &job, input.generation);
        // A requested retry waits until it has its own outcome.
        entry.attempt = attempt_of(&input.metadata);
        let is_before =
            |limit: Option<Timestamp>| input.requested().zip(limit).is_some_and(|(time, limit)| time < limit);
        let is_expired = is_before(objects.expired_before);
        entry.state = Some(if is_expired { State::Expired } else { State::Waiting });
        entry.reason = (!is_expired && is_before(objects.lost_before) && !message::has_options(&input.metadata))
            .then(|| Reason { code: LOST.to_owned(), message: lost(&of, &job) });
        entry.changed = input.created;
        entry.input = Some(input.name.clone());
        let key = (of, job, input.generation);
        ended.entry(key.clone()).or_default().set_items(&input.metadata);
        jobs.insert(key, entry);
    }
    for outcome in &objects.outcomes {
        if let Some((of, job, generation)) = object::parse_layout(business, &outcome.name).filter(|name| wanted(name.0))
        {
            let key = (of.to_owned(), job.to_owned(), generation);
            ended.entry(key.clone()).or_default().set_layout(&outcome.metadata);
            jobs.entry(key).or_insert_with(|| new(business, of, job, generation));
        }
        let parsed = match object::parse_outcome(business, &outcome.name) {
            Some(parts) => parts,
            None => match object::parse_refused(business, &outcome.name) {
                Some(id) => OutcomeName {
                    session: REFUSED_SESSION.to_owned(),
                    job: id.to_owned(),
                    generation: 0,
                    first: None,
                    attempt: 0,
                },
                None => continue,
            },
        };
        if !wanted(&parsed.session) {
            continue;
        }
        let OutcomeName { session: of, job, generation, .. } = &parsed;
        let key = (of.clone(), job.clone(), *generation);
        let outcomes = ended.entry(key.clone()).or_default();
        outcomes.add_created(&parsed, &outcome.name, &outcome.metadata, outcome.created);
        jobs.entry(key).or_insert_with(|| new(business, of, job, *generation));
    }
    let mut packs = BTreeMap::new();
    for (key, ended) in ended {
        let Some(entry) = jobs.get_mut(&key) else { continue };
        if ended.is_pack() {
            packs.insert(key, ended);
        } else if let Some(whole) = ended.whole().filter(|whole| whole.attempt >= entry.attempt) {
            entry.attempt = whole.attempt;
            entry.outcome = Some(whole.name.clone());
            entry.outcomes = vec![whole.name.clone()];
            entry.unsuccessful = entry.outcomes.clone();
            entry.unsuccessful.retain(|_| whole.state != Some(State::Succeeded));
            entry.changed = whole.created;
            // The state is in the object's metadata, or else in its body.
            entry.state = whole.state;
            entry.row_errors = whole.row_errors;
            entry.reason = whole.reason.clone();
        }
    }
    let mut running: BTreeMap<(String, String, i64), u32> = BTreeMap::new();
    for job in active.iter().filter(|job| wanted(&job.session)) {
        let entry = jobs
            .entry((job.session.clone(), job.job.clone(), job.generation))
            .or_insert_with(|| new(business, &job.session, &job.job, job.generation));
        if job.first.is_some() {
            let key = (job.session.clone(), job.job.clone(), job.generation);
            if packs.get(&key).is_none_or(|ended| !ended.has_outcome_of(job.first, job.attempt)) {
                entry.reason = Some(job.reason.clone());
                entry.timestamps = job.timestamps;
                entry.kubernetes_job = Some(job.kubernetes_job.clone());
                packs.entry(key.clone()).or_default();
                *running.entry(key).or_default() += if job.reason.code == SUSPENDED { 0 } else { job.items };
            }
            continue;
        }
        // A running Job of an attempt before the requested one does not count either.
        if entry.attempt > job.attempt || (entry.outcome.is_some() && entry.attempt == job.attempt) {
            continue;
        }
        entry.attempt = job.attempt;
        entry.outcome = None;
        entry.row_errors = 0;
        // A Job that its queue has not admitted, or has evicted, waits.
        entry.state = Some(if job.reason.code == SUSPENDED { State::Waiting } else { State::Running });
        entry.reason = Some(job.reason.clone());
        entry.timestamps = job.timestamps;
        entry.changed = job.timestamps.started.or(job.timestamps.created).or(entry.changed);
        entry.kubernetes_job = Some(job.kubernetes_job.clone());
    }
    for (key, ended) in packs {
        if let Some(entry) = jobs.get_mut(&key) {
            entry.set_pack(&ended, running.get(&key).copied().unwrap_or_default());
        }
    }
    let mut jobs: Vec<Job> = jobs.into_values().collect();
    // Stable: Jobs that changed at the same time stay in the order of their names.
    jobs.sort_by_key(|job| std::cmp::Reverse(job.changed));
    jobs
}

fn new(business: &str, session: &str, job: &str, generation: i64) -> Job {
    Job {
        business: business.to_owned(),
        session: session.to_owned(),
        job: job.to_owned(),
        generation,
        attempt: 0,
        state: None,
        reason: None,
        changed: None,
        timestamps: Timestamps::default(),
        seconds: None,
        row_errors: 0,
        items: None,
        kubernetes_job: None,
        input: None,
        outcome: None,
        outcomes: Vec::new(),
        unsuccessful: Vec::new(),
        items_per_range: None,
    }
}

impl Job {
    /// The latest outcome of the range of a pack that begins with this item.
    pub fn outcome_of_range(&self, first: u32) -> Option<&str> {
        let is_it =
            |name: &&String| object::parse_outcome(&self.business, name).is_some_and(|name| name.first == Some(first));
        self.outcomes.iter().find(is_it).map(String::as_str)
    }

    /// Sets what the outcomes of the ranges say of a pack, of which so many items run.
    fn set_pack(&mut self, ended: &RangeOutcomes, running: u32) {
        let items = ended.items(self.attempt, running);
        self.items_per_range = ended.items_per_range();
        self.outcomes = ended.outcomes().map(|listed| listed.name.clone()).collect();
        let unsuccessful = ended.outcomes().filter(|listed| listed.state != Some(State::Succeeded));
        self.unsuccessful = unsuccessful.map(|listed| listed.name.clone()).collect();
        self.row_errors = ended.outcomes().map(|listed| listed.row_errors).sum();
        self.changed = ended.outcomes().filter_map(|listed| listed.created).max().max(self.changed);
        self.items = Some(items);
        let is_expired = self.state == Some(State::Expired) && items.running == 0 && items.waiting > 0;
        self.state = Some(match () {
            () if is_expired => State::Expired,
            () if items.running > 0 => State::Running,
            () if items.waiting > 0 || items.done() == 0 => State::Waiting,
            () if items.failed > 0 => State::Failed,
            () if items.cancelled > 0 => State::Cancelled,
            () => State::Succeeded,
        });
        let has_ended = items.running + items.waiting == 0;
        if let Some(telling) = ended.telling().filter(|_| has_ended) {
            self.attempt = ended.outcomes().map(|listed| listed.attempt).max().unwrap_or_default();
            self.outcome = Some(telling.name.clone());
            self.reason = telling.reason.clone();
        }
    }

    /// Its state, its items if it is a pack, and the number of its row errors: `succeeded, 2 row errors`.
    pub fn state_line(&self) -> String {
        let state = self.state.map_or("ended", State::as_str);
        let state = match &self.items {
            None => state.to_owned(),
            Some(items) if items.failed > 0 => {
                format!("{state}, {} of {} items, {} failed", items.done(), items.total(), items.failed)
            }
            Some(items) => format!("{state}, {} of {} items", items.done(), items.total()),
        };
        match self.row_errors {
            0 => state,
            1 => format!("{state}, 1 row error"),
            errors => format!("{state}, {errors} row errors"),
        }
    }

    /// Sets its state, reason and times from its outcome.
    pub fn fill(&mut self, outcome: &Outcome) {
        self.reason = Some(outcome.reason.clone());
        // Of a pack, it is the outcome of one range.
        if self.items.is_none() {
            self.state = Some(outcome.state.into());
            self.row_errors = outcome.row_errors;
        }
        self.timestamps = outcome.timestamps;
        self.seconds = published_to_settled(&outcome.timestamps).map(|duration| duration.as_secs_f64());
        self.kubernetes_job = outcome.kubernetes_job.clone();
    }
}

/// Why an input is lost, and what to do.
fn lost(session: &str, job: &str) -> String {
    format!(
        "no Kubernetes Job was created from it within an hour, and its options are not known, so it is not published again \
         for {} days; if its message does not wait, `session retry {session} {job}` runs it without options, and \
         publishing a message for it runs it with those of the message",
        message::RETENTION_DAYS
    )
}

/// The attempt that an input's metadata requests.
pub(crate) fn attempt_of(metadata: &BTreeMap<String, String>) -> u32 {
    let key = format!("{}{}", labels::METADATA_PREFIX, labels::ATTRIBUTE_ATTEMPT);
    metadata.get(&key).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Time from published to settled, when both are known.
pub fn published_to_settled(timestamps: &Timestamps) -> Option<SignedDuration> {
    Some(timestamps.settled?.duration_since(timestamps.published?))
}

/// Reads the outcomes of the Jobs that have one, and fills in the Jobs. A Job whose outcome was deleted meanwhile stays
/// as it was; a Job with an unreadable outcome has failed ([`outcome::stored::UNREADABLE`]).
///
/// # Errors
/// When the bucket cannot be read.
pub async fn fill(store: &Store, bucket: &str, jobs: &mut [Job]) -> anyhow::Result<()> {
    let names: Vec<String> = jobs.iter().filter_map(|job| job.outcome.clone()).collect();
    let outcomes = outcomes::read_all(store, bucket, names, READS).await?;
    for (job, outcome) in jobs.iter_mut().filter(|job| job.outcome.is_some()).zip(outcomes) {
        if let Some(outcome) = outcome {
            job.fill(&outcome);
        }
    }
    Ok(())
}

/// The newest `limit` Jobs in these states (all when the list is empty), with their outcomes read. No other outcomes
/// are read, except where the state is only in the outcome.
///
/// # Errors
/// As [`fill`].
pub async fn select(
    store: &Store,
    bucket: &str,
    mut jobs: Vec<Job>,
    states: &[State],
    limit: usize,
) -> anyhow::Result<Vec<Job>> {
    let is_wanted = |job: &Job| states.is_empty() || job.state.is_none_or(|state| states.contains(&state));
    let mut selected = Vec::new();
    while selected.len() < limit {
        jobs.retain(is_wanted);
        if jobs.is_empty() {
            break;
        }
        let rest = jobs.split_off(jobs.len().min(limit - selected.len()));
        fill(store, bucket, &mut jobs).await?;
        selected.extend(jobs.into_iter().filter(is_wanted));
        jobs = rest;
    }
    Ok(selected)
}

#[cfg(test)]
mod tests;

//! The board: the state of each business, computed from its raw state. Pure.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use contract::{config::Business, control::Control, names, pool_report::Report};
use inspect::cluster::OrchestratorView;
use jiff::Timestamp;
use sessions::{
    Counts, Rate, Summary,
    dead_letters::{self, DeadLetter},
    jobs::{self, Job, State},
};

use crate::raw::{Pod, PubsubItem, Quota, Raw};

/// The state of a Job that waits while its session is paused.
pub(crate) const PAUSED: &str = "paused";
/// Minutes of the chart of ended Jobs.
pub(crate) const MINUTES: usize = 60;
/// Seconds of samples that are kept.
const HISTORY_SECS: i64 = 3600;
/// Seconds between two samples.
const SAMPLE_SECS: i64 = 5;

/// Jobs of a business without an outcome, at one time; of a pack, items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
pub(crate) struct Sample {
    pub(crate) time: Timestamp,
    pub(crate) pending: usize,
}

/// Jobs that ended in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
pub(crate) struct Minute {
    pub(crate) succeeded: usize,
    pub(crate) failed: usize,
    pub(crate) other: usize,
}

impl Minute {
    pub(crate) fn total(&self) -> usize {
        self.succeeded + self.failed + self.other
    }
}

/// A session with its progress.
#[derive(Clone, Debug, schemars::JsonSchema, serde::Serialize)]
#[schemars(rename = "Session")]
pub(crate) struct SessionView {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Jobs that ended per second, recently.
    pub(crate) rate: Option<f64>,
    /// Estimated seconds until the last Job ends.
    pub(crate) seconds_left: Option<f64>,
    /// Jobs that an operator cancelled and that have not ended.
    pub(crate) cancelling: usize,
}

/// The state of one business.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) business: Business,
    /// Every Job, latest change first.
    pub(crate) jobs: Arc<Vec<Job>>,
    /// Kubernetes Jobs without an outcome that may have pods.
    pub(crate) running: usize,
    /// Jobs by state, each id counted once; of a pack, each item.
    pub(crate) counts: Counts,
    pub(crate) sessions: Arc<Vec<SessionView>>,
    /// The decisions of operators, by session.
    pub(crate) controls: BTreeMap<String, Control>,
    /// Those of the waiting Jobs whose session is paused.
    pub(crate) paused_jobs: usize,
    pub(crate) letters: Arc<Vec<DeadLetter>>,
    /// When the oldest waiting Job was submitted, without those of paused sessions.
    pub(crate) oldest_waiting: Option<Timestamp>,
    /// Jobs that ended in the last minute.
    pub(crate) per_minute: usize,
    pub(crate) minutes: Vec<Minute>,
    pub(crate) history: VecDeque<Sample>,
    pub(crate) orchestrator: Option<OrchestratorView>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) quotas: Vec<Quota>,
    pub(crate) full_quotas: Vec<String>,
    /// What the orchestrators report of the pool.
    pub(crate) pool: Vec<Report>,
    pub(crate) pubsub: Vec<PubsubItem>,
    pub(crate) errors: BTreeMap<&'static str, String>,
    /// Its bucket was listed at least once.
    pub(crate) is_listed: bool,
    rates: HashMap<String, Rate>,
}

impl View {
    /// The state of a Job for people: an operator may have paused or cancelled what waits or runs.
    pub(crate) fn state(&self, job: &Job) -> &'static str {
        let is_cancelling = is_cancelling(self.controls.get(&job.session), job);
        if is_cancelling { "cancelling" } else { self.filter_state(job) }
    }

    /// The state by which people filter: what is paused does not wait.
    pub(crate) fn filter_state(&self, job: &Job) -> &'static str {
        let is_paused = self.controls.get(&job.session).is_some_and(|control| control.paused);
        match job.state {
            Some(State::Waiting) if is_paused => PAUSED,
            state => state.map_or("ended", State::as_str),
        }
    }

    /// The Jobs of this name in a session, the latest first. A name in another Unicode normal form is the same, unless
    /// there is one in this form.
    pub(crate) fn named(&self, session: &str, name: &str) -> Vec<&Job> {
        let find = |is_named: &dyn Fn(&str) -> bool| -> Vec<&Job> {
            self.jobs.iter().filter(|job| job.session == session && is_named(&job.job)).collect()
        };
        let exact = find(&|job| job == name);
        if exact.is_empty() { find(&|job| names::is_same(job, name)) } else { exact }
    }
}

/// Whether a Job that has not ended is cancelled.
fn is_cancelling(control: Option<&Control>, job: &Job) -> bool {
    let published = job.timestamps.published;
    !is_over(job)
        && control.is_some_and(|control| control.cancels(&job.job, job.attempt, published, published.or(job.changed)))
}

/// The state of all businesses, by name.
pub(crate) type Board = BTreeMap<String, Arc<View>>;

/// Computes the view of a business.
pub(crate) fn view(business: &Business, raw: &Raw, previous: Option<&View>, now: Timestamp, clock: Instant) -> View {
    let jobs = jobs::merge(&business.name, None, &raw.objects, &raw.active());
    let minutes = minutes(&jobs, now);
    let latest = sessions::latest(jobs.clone());
    let counts = Counts::of(&latest);
    let is_paused = |session: &str| raw.controls.get(session).is_some_and(|control| control.paused);
    let waits = |job: &&Job| job.state == Some(State::Waiting) && !is_paused(&job.session);
    let waiting = latest.iter().filter(waits);
    let oldest_waiting = waiting.filter_map(|job| job.timestamps.published.or(job.changed)).min();
    let mut cancelling: HashMap<String, usize> = HashMap::new();
    for job in latest.iter().filter(|job| is_cancelling(raw.controls.get(&job.session), job)) {
        let pending = Counts::of([job]).pending();
        *cancelling.entry(job.session.clone()).or_default() += pending;
    }
    let mut rates = previous.map(|view| view.rates.clone()).unwrap_or_default();
    let summaries = sessions::summaries(&business.name, latest, &raw.controls);
    let mut seen = HashMap::new();
    let sessions = summaries.into_iter().map(|summary| {
        if summary.counts.pending() == 0 {
            return SessionView { summary, rate: None, seconds_left: None, cancelling: 0 };
        }
        let cancelling = cancelling.get(&summary.session).copied().unwrap_or_default();
        let mut rate = rates.remove(&summary.session).unwrap_or_default();
        let progress = rate.add(clock, summary.counts, summary.paused);
        seen.insert(summary.session.clone(), rate);
        SessionView { rate: progress.rate, seconds_left: progress.seconds_left, cancelling, summary }
    });
    let sessions: Vec<SessionView> = sessions.collect();
    let of_paused = sessions.iter().map(|session| &session.summary).filter(|summary| summary.paused);
    let paused_jobs = of_paused.map(|summary| summary.counts.waiting).sum();
    let mut history = match previous {
        Some(view) if view.is_listed => view.history.clone(),
        _ if raw.listed.is_some() => past(&jobs, now),
        _ => VecDeque::new(),
    };
    let is_due = history.back().is_none_or(|last| now.duration_since(last.time).as_secs() >= SAMPLE_SECS);
    if is_due && raw.listed.is_some() {
        history.push_back(Sample { time: now, pending: counts.pending() });
        history.retain(|sample| now.duration_since(sample.time).as_secs() <= HISTORY_SECS);
    }
    View {
        business: business.clone(),
        running: raw.running(),
        counts,
        sessions: Arc::new(sessions),
        controls: raw.controls.clone(),
        paused_jobs,
        letters: Arc::new(dead_letters::among(&business.name, None, &raw.objects, false)),
        oldest_waiting,
        per_minute: ended_since(&jobs, now),
        minutes,
        history,
        orchestrator: raw.orchestrator.clone(),
        pods: raw.pods.clone(),
        quotas: raw.quotas.clone(),
        full_quotas: raw.full_quotas.clone(),
        pool: raw.pool.clone(),
        pubsub: raw.pubsub.clone(),
        errors: raw.errors.clone(),
        is_listed: raw.listed.is_some(),
        jobs: Arc::new(jobs),
        rates: seen,
    }
}

/// The hour before the monitor started, minute by minute, from the objects alone. Cloud Storage numbers generations by
/// the microsecond of the write; a Job whose number is no such time, or that was retried, is left out.
fn past(jobs: &[Job], now: Timestamp) -> VecDeque<Sample> {
    let start = now.as_second() - HISTORY_SECS;
    let slot = |time: Timestamp| ((time.as_second() - start).max(0) as usize).div_ceil(60).min(MINUTES);
    let mut changes = [0_i64; MINUTES + 1];
    for job in jobs.iter().filter(|job| job.attempt == 0) {
        let Ok(begin) = Timestamp::from_microsecond(job.generation) else { continue };
        let end = if is_over(job) { job.changed.unwrap_or(begin) } else { now };
        if begin.as_second() > 0 && begin <= end {
            let items = Counts::of([job]).total() as i64;
            changes[slot(begin)] += items;
            changes[slot(end)] -= items;
        }
    }
    let mut pending = 0;
    let samples = changes[..MINUTES].iter().zip(0..).filter_map(|(change, minute)| {
        pending += change;
        Some(Sample { time: Timestamp::from_second(start + minute * 60).ok()?, pending: pending.max(0) as usize })
    });
    samples.collect()
}

fn is_over(job: &Job) -> bool {
    !matches!(job.state, Some(State::Waiting | State::Running))
}

fn ended_since(jobs: &[Job], now: Timestamp) -> usize {
    let is_recent = |job: &&Job| job.changed.is_some_and(|changed| now.duration_since(changed).as_secs() < 60);
    jobs.iter().filter(|job| is_over(job)).filter(is_recent).count()
}

/// Jobs that ended in each of the last minutes, the current one last.
fn minutes(jobs: &[Job], now: Timestamp) -> Vec<Minute> {
    let mut minutes = vec![Minute::default(); MINUTES];
    let this = now.as_second().div_euclid(60);
    for job in jobs.iter().filter(|job| is_over(job)) {
        let Some(changed) = job.changed else { continue };
        let age = this - changed.as_second().div_euclid(60);
        let Some(slot) = usize::try_from(age).ok().filter(|age| *age < MINUTES) else { continue };
        let minute = &mut minutes[MINUTES - 1 - slot];
        match job.state {
            Some(State::Succeeded) => minute.succeeded += 1,
            Some(State::Cancelled) => minute.other += 1,
            _ => minute.failed += 1,
        }
    }
    minutes
}

#[cfg(test)]
mod tests;

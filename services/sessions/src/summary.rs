//! Summaries of sessions, from the objects in the bucket and the running Jobs.

use std::collections::{BTreeMap, HashMap};

use contract::control::Control;
use jiff::Timestamp;
use serde::Serialize;

use crate::jobs::{Job, State};

/// Number of Jobs in each state; of a pack, each item counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema, Serialize)]
pub struct Counts {
    /// See [`State::Waiting`].
    pub waiting: usize,
    /// See [`State::Running`].
    pub running: usize,
    /// See [`State::Succeeded`].
    pub succeeded: usize,
    /// See [`State::Failed`].
    pub failed: usize,
    /// See [`State::Cancelled`].
    pub cancelled: usize,
    /// See [`State::Refused`].
    pub refused: usize,
    /// See [`State::Expired`].
    pub expired: usize,
    /// Rows that have an error in the results of these Jobs.
    pub row_errors: usize,
}

impl Counts {
    /// Counts Jobs, and the items of packs. A Job without a known state counts as failed: our programs write the state to the metadata.
    pub fn of<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Self {
        let mut counts = Self::default();
        for job in jobs {
            counts.row_errors += job.row_errors as usize;
            let Some(items) = job.items.filter(|items| items.total() > 0) else {
                *counts.slot(job.state.unwrap_or(State::Failed)) += 1;
                continue;
            };
            let pending = if job.state == Some(State::Expired) { State::Expired } else { State::Waiting };
            for (state, number) in [
                (pending, items.waiting),
                (State::Running, items.running),
                (State::Succeeded, items.succeeded),
                (State::Failed, items.failed),
                (State::Cancelled, items.cancelled),
            ] {
                *counts.slot(state) += number as usize;
            }
        }
        counts
    }

    pub(crate) fn slot(&mut self, state: State) -> &mut usize {
        match state {
            State::Waiting => &mut self.waiting,
            State::Running => &mut self.running,
            State::Succeeded => &mut self.succeeded,
            State::Failed => &mut self.failed,
            State::Cancelled => &mut self.cancelled,
            State::Refused => &mut self.refused,
            State::Expired => &mut self.expired,
        }
    }

    /// All Jobs.
    pub fn total(&self) -> usize {
        self.pending() + self.done()
    }

    /// Jobs that wait or run.
    pub fn pending(&self) -> usize {
        self.waiting + self.running
    }

    /// Jobs that have ended.
    pub fn done(&self) -> usize {
        self.succeeded + self.unsuccessful()
    }

    /// Jobs that have ended and did not succeed.
    pub fn unsuccessful(&self) -> usize {
        self.failed + self.cancelled + self.refused + self.expired
    }
}

/// A summary of a session.
#[derive(Clone, Debug, PartialEq, schemars::JsonSchema, Serialize)]
pub struct Summary {
    /// Business.
    pub business: String,
    /// Session.
    pub session: String,
    /// Its Jobs by state.
    #[serde(flatten)]
    pub counts: Counts,
    /// When the oldest of its Jobs without an outcome was submitted, as far as it is known.
    pub oldest_pending: Option<Timestamp>,
    /// When one of its Jobs changed last.
    pub changed: Option<Timestamp>,
    /// No Job of it is started.
    pub paused: bool,
    /// Jobs that were submitted before this time do not run.
    pub cancelled_before: Option<Timestamp>,
}

/// The latest Jobs: of each name, the one of the latest input. Order is kept.
pub fn latest(jobs: Vec<Job>) -> Vec<Job> {
    let mut generations: HashMap<(String, String), i64> = HashMap::new();
    for job in &jobs {
        let generation = generations.entry((job.session.clone(), job.job.clone())).or_default();
        *generation = job.generation.max(*generation);
    }
    let is_latest = |job: &Job| generations.get(&(job.session.clone(), job.job.clone())) == Some(&job.generation);
    jobs.into_iter().filter(is_latest).collect()
}

/// A business's sessions, the one that changed last first. Refused messages are of no session.
pub fn summaries(business: &str, jobs: Vec<Job>, controls: &BTreeMap<String, Control>) -> Vec<Summary> {
    let mut sessions: BTreeMap<String, Vec<Job>> = BTreeMap::new();
    for job in latest(jobs) {
        if job.session != crate::jobs::REFUSED_SESSION {
            sessions.entry(job.session.clone()).or_default().push(job);
        }
    }
    // A session can be paused before its first submission.
    for (session, control) in controls {
        if control.paused {
            sessions.entry(session.clone()).or_default();
        }
    }
    let mut summaries: Vec<Summary> = sessions
        .into_iter()
        .map(|(session, jobs)| {
            let control = controls.get(&session);
            let is_pending = |job: &&Job| matches!(job.state, Some(State::Waiting | State::Running));
            Summary {
                business: business.to_owned(),
                counts: Counts::of(&jobs),
                oldest_pending: jobs.iter().filter(is_pending).filter_map(submitted).min(),
                changed: jobs.iter().filter_map(|job| job.changed).max(),
                paused: control.is_some_and(|control| control.paused),
                cancelled_before: control.and_then(|control| control.cancelled_before),
                session,
            }
        })
        .collect();
    summaries.sort_by_key(|summary| std::cmp::Reverse(summary.changed));
    summaries
}

fn submitted(job: &Job) -> Option<Timestamp> {
    job.timestamps.published.or(job.changed)
}

#[cfg(test)]
mod tests;

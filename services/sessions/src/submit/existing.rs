//! The existing objects of a session, and the next step for an input that is submitted again.

use std::collections::{BTreeMap, BTreeSet};

use contract::object;

/// The existing inputs and outcomes of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// Jobs whose input exists.
    inputs: BTreeSet<String>,
    /// Generations that have an outcome, by job, and whether it is that of the whole input.
    outcomes: BTreeMap<String, BTreeMap<i64, bool>>,
}

/// The next step for an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write it.
    Upload,
    /// An input of this name exists: it must have the same bytes.
    Compare,
    /// Its Job ended, and its input was deleted.
    Settled {
        /// Latest generation that has an outcome.
        generation: i64,
    },
}

impl Existing {
    /// From the names of a session's input and outcome objects.
    pub fn new<'a>(
        business: &str,
        inputs: impl IntoIterator<Item = &'a str>,
        outcomes: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut existing = Self::default();
        for name in inputs {
            if let Ok((_, job)) = object::parse_input(business, name) {
                existing.inputs.insert(job);
            }
        }
        for name in outcomes {
            if let Some(name) = object::parse_outcome(business, name) {
                let generations = existing.outcomes.entry(name.job).or_default();
                *generations.entry(name.generation).or_default() |= name.first.is_none();
            }
        }
        existing
    }

    /// The next step for the input of a job.
    pub fn step(&self, job: &str) -> Step {
        if self.inputs.contains(job) {
            return Step::Compare;
        }
        match self.latest(job) {
            Some(generation) => Step::Settled { generation },
            None => Step::Upload,
        }
    }

    /// The latest generation of a job that has an outcome.
    pub fn latest(&self, job: &str) -> Option<i64> {
        self.outcomes.get(job)?.keys().last().copied()
    }

    /// True when this generation of a job has an outcome. Of a pack, whose ranges may still run, it is not known.
    pub fn is_settled(&self, job: &str, generation: i64) -> bool {
        self.outcomes.get(job).is_some_and(|generations| generations.get(&generation) == Some(&true))
    }
}

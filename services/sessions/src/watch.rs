//! The state of a session over time. Between two full reads only awaited outcomes are read, so that waiting for a large
//! session costs little. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cloud::storage::Object;
use contract::{Identity, labels, object};

use super::Counts;
use crate::jobs::{Active, Job, SUSPENDED, State};

/// The state of a session at the last read.
#[derive(Clone, Debug)]
pub struct Watch {
    counts: Counts,
    /// State of the Jobs without an outcome, by the name of that outcome.
    pending: BTreeMap<String, State>,
    /// A pack has not ended: which outcomes it will have is not known here.
    has_packs: bool,
}

impl Watch {
    /// From a full read: each Job once, in its latest attempt.
    pub fn new(jobs: &[Job]) -> Self {
        let is_pending = |job: &&Job| matches!(job.state, Some(State::Waiting | State::Running));
        let pending = jobs
            .iter()
            .filter(is_pending)
            .filter(|job| job.items.is_none())
            .map(|job| (outcome(job, job.generation, job.attempt), job.state.unwrap_or(State::Waiting)));
        let has_packs = jobs.iter().any(|job| job.items.is_some() && is_pending(&job));
        Self { counts: Counts::of(jobs), pending: pending.collect(), has_packs }
    }

    /// Whether only a full read shows the progress.
    pub fn needs_full_read(&self) -> bool {
        self.has_packs
    }

    /// Its Jobs by state.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Names of the awaited outcomes.
    pub fn awaited(&self) -> BTreeSet<String> {
        self.pending.keys().cloned().collect()
    }

    /// Updates the counts with running Jobs and with awaited outcomes that exist.
    pub fn update(&mut self, business: &str, active: &[Active], found: &[Object]) {
        for job in active {
            let run = Identity {
                bucket: String::new(),
                object: String::new(),
                generation: job.generation,
                first: job.first,
                attempt: job.attempt,
            };
            let name = object::outcome(business, &job.session, &job.job, &run);
            let now = if job.reason.code == SUSPENDED { State::Waiting } else { State::Running };
            if let Some(state) = self.pending.get_mut(&name) {
                *self.counts.slot(*state) -= 1;
                *self.counts.slot(now) += 1;
                *state = now;
            }
        }
        for outcome in found {
            if let Some(before) = self.pending.remove(&outcome.name) {
                let state = outcome.metadata.get(labels::METADATA_STATE).and_then(|word| State::parse(word));
                *self.counts.slot(before) -= 1;
                *self.counts.slot(state.unwrap_or(State::Failed)) += 1;
                self.counts.row_errors += contract::outcome::row_errors(&outcome.metadata) as usize;
            }
        }
    }
}

fn outcome(job: &Job, generation: i64, attempt: u32) -> String {
    let run = Identity { bucket: String::new(), object: String::new(), generation, first: None, attempt };
    object::outcome(&job.business, &job.session, &job.job, &run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Objects, merge};
    use contract::outcome::{Reason, Timestamps};

    fn object(name: &str, generation: i64, state: Option<&str>) -> Object {
        let metadata = state.map(|state| (labels::METADATA_STATE.to_owned(), state.to_owned())).into_iter().collect();
        let mut metadata: BTreeMap<String, String> = metadata;
        metadata.extend(state.map(|_| (labels::METADATA_ROW_ERRORS.to_owned(), "2".to_owned())));
        Object { name: name.into(), generation, size: 1, created: None, content_type: String::new(), metadata }
    }

    #[test]
    fn updates_give_the_counts_of_a_full_read() {
        let inputs = vec![
            object("bu1/input/s/a", 1, None),
            object("bu1/input/s/b", 2, None),
            object("bu1/input/s/c", 3, None),
            object("bu1/input/s/failed", 4, None),
        ];
        let mut outcomes = vec![object("bu1/outcome/s/failed/4-0.json", 9, Some("failed"))];
        let active = |job: &str, generation, code: &str| Active {
            session: "s".into(),
            job: job.into(),
            generation,
            first: None,
            items: 1,
            attempt: 0,
            reason: Reason { code: code.into(), message: String::new() },
            timestamps: Timestamps::default(),
            kubernetes_job: String::new(),
        };
        let look = |inputs: &[Object], outcomes: &[Object], active: &[Active]| {
            let objects = Objects { inputs: inputs.to_vec(), outcomes: outcomes.to_vec(), ..Objects::default() };
            Watch::new(&merge("bu1", Some("s"), &objects, active))
        };
        let mut watch = look(&inputs, &outcomes, &[]);
        let awaited = ["bu1/outcome/s/a/1-0.json", "bu1/outcome/s/b/2-0.json", "bu1/outcome/s/c/3-0.json"];
        assert_eq!(watch.awaited(), awaited.map(str::to_owned).into());

        let runs = [active("a", 1, "running"), active("b", 2, SUSPENDED), active("unknown", 5, "running")];
        watch.update("bu1", &runs, &[]);
        assert_eq!(watch.counts(), look(&inputs, &outcomes, &runs[..2]).counts());

        let new = [object(awaited[0], 10, Some("succeeded")), object(awaited[2], 11, Some("cancelled"))];
        watch.update("bu1", &runs, &new);
        // Nothing is counted twice.
        watch.update("bu1", &runs, &new);
        outcomes.extend(new);
        assert_eq!(watch.counts(), look(&inputs[1..], &outcomes, &runs[1..2]).counts());
        assert_eq!(watch.awaited(), [awaited[1].to_owned()].into());
    }
}

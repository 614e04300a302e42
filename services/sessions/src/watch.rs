//! The state of a session over time. Between two full reads only awaited outcomes are read, so that waiting for a large
//! session costs little. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cloud::storage::Object;
use contract::{Identity, labels, object, pack};

use super::Counts;
use crate::{
    jobs::{Active, Job, SUSPENDED, State},
    ranges::counts_of_state,
};

/// The state of a session at the last read.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Without the items of `ranges`.
    counts: Counts,
    /// State of the Jobs without an outcome, by the name of that outcome.
    pending: BTreeMap<String, State>,
    /// Number of items of the ranges without an outcome, by the name of that outcome.
    ranges: BTreeMap<String, u32>,
    /// How many of these items run.
    running: usize,
    /// Objects of packs that are not split yet or are retried. Only a full read shows what they change.
    others: BTreeSet<String>,
}

impl Watch {
    /// From a full read: each Job once, in its latest attempt.
    pub fn new(jobs: &[Job]) -> Self {
        let (pending, ranges, others) = Default::default();
        let mut watch = Self { counts: Counts::of(jobs), pending, ranges, running: 0, others };
        for job in jobs.iter().filter(|job| matches!(job.state, Some(State::Waiting | State::Running))) {
            match (&job.items, job.items_per_range) {
                (None, _) => {
                    let state = job.state.unwrap_or(State::Waiting);
                    watch.pending.insert(outcome(job, None, job.attempt), state);
                }
                (Some(_), None) => {
                    let layout = object::layout(&job.business, &job.session, &job.job, job.generation);
                    watch.others.insert(layout);
                }
                (Some(items), Some(each)) => watch.add_pack(job, items.total(), items.running, each),
            }
        }
        watch
    }

    /// Adds the ranges of a pack that have no outcome of the requested attempt.
    fn add_pack(&mut self, job: &Job, items: u32, running: u32, each: u32) {
        let first_of = |name: &String| object::parse_outcome(&job.business, name)?.first;
        let ended: BTreeMap<u32, &String> =
            job.outcomes.iter().filter_map(|name| Some((first_of(name)?, name))).collect();
        let mut ranges = BTreeMap::new();
        let mut retried = BTreeSet::new();
        for first in (0..items).step_by(each as usize) {
            match ended.get(&first) {
                None => {
                    ranges.insert(outcome(job, Some(first), 0), each.min(items - first));
                }
                Some(name) if job.unsuccessful.contains(name) => {
                    let next = outcome(job, Some(first), job.attempt);
                    retried.extend((next != **name).then_some(next));
                }
                Some(_) => {}
            }
        }
        if !retried.is_empty() {
            self.others.extend(retried);
            self.others.extend(ranges.into_keys());
            return;
        }
        let pending: usize = ranges.values().map(|items| *items as usize).sum();
        let running = (running as usize).min(pending);
        self.counts.running = self.counts.running.saturating_sub(running);
        self.counts.waiting = self.counts.waiting.saturating_sub(pending - running);
        self.running += running;
        self.ranges.extend(ranges);
    }

    /// Whether nothing is awaited any more, so that only a full read shows the progress.
    pub fn needs_full_read(&self) -> bool {
        self.pending.is_empty() && self.ranges.is_empty() && self.others.is_empty()
    }

    /// Its Jobs by state.
    pub fn counts(&self) -> Counts {
        let pending: usize = self.ranges.values().map(|items| *items as usize).sum();
        let running = self.running.min(pending);
        let Counts { waiting, running: others, .. } = self.counts;
        Counts { waiting: waiting + pending - running, running: others + running, ..self.counts }
    }

    /// Names of the awaited objects.
    pub fn awaited(&self) -> BTreeSet<String> {
        self.pending.keys().chain(self.ranges.keys()).chain(&self.others).cloned().collect()
    }

    /// Updates the counts with running Jobs and with awaited objects that exist.
    pub fn update(&mut self, business: &str, active: &[Active], found: &[Object]) {
        self.running = 0;
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
            } else if now == State::Running && self.ranges.contains_key(&name) {
                self.running += job.items as usize;
            }
        }
        for found in found {
            self.others.remove(&found.name);
            let state = found.metadata.get(labels::METADATA_STATE).and_then(|word| State::parse(word));
            if let Some(before) = self.pending.remove(&found.name) {
                *self.counts.slot(before) -= 1;
                *self.counts.slot(state.unwrap_or(State::Failed)) += 1;
            } else if let Some(items) = self.ranges.remove(&found.name) {
                let counts = found.metadata.get(labels::METADATA_ITEMS).and_then(|text| pack::Counts::decode(text));
                let counts = counts.unwrap_or_else(|| counts_of_state(state, items));
                self.counts.succeeded += counts.succeeded as usize;
                self.counts.failed += counts.failed as usize;
                self.counts.cancelled += counts.cancelled as usize;
            } else {
                continue;
            }
            self.counts.row_errors += contract::outcome::row_errors(&found.metadata) as usize;
        }
    }
}

fn outcome(job: &Job, first: Option<u32>, attempt: u32) -> String {
    let run = Identity { bucket: String::new(), object: String::new(), generation: job.generation, first, attempt };
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

    #[test]
    fn updates_of_a_pack_read_only_the_outcomes_of_its_ranges() {
        let with = |name: &str, pairs: &[(&str, &str)]| {
            let metadata = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            Object { metadata, ..object(name, 5, None) }
        };
        let range = |name: &str, state: &str, ended: &str| {
            with(name, &[(labels::METADATA_STATE, state), (labels::METADATA_ITEMS, ended)])
        };
        let input = |attempt: &str| with("bu1/input/s/p", &[("deskgrid-items", "25"), ("deskgrid-attempt", attempt)]);
        let active = |first, items| Active {
            session: "s".into(),
            job: "p".into(),
            generation: 5,
            first: Some(first),
            items,
            attempt: 0,
            reason: Reason { code: "running".into(), message: String::new() },
            timestamps: Timestamps::default(),
            kubernetes_job: String::new(),
        };
        let read = |attempt: &str, outcomes: &[Object], active: &[Active]| {
            let objects = Objects { inputs: vec![input(attempt)], outcomes: outcomes.to_vec(), ..Objects::default() };
            Watch::new(&merge("bu1", Some("s"), &objects, active))
        };
        let names = |names: &[&str]| names.iter().map(|name| format!("bu1/outcome/s/p/5-{name}.json")).collect();
        assert_eq!(read("0", &[], &[]).awaited(), names(&["layout"]), "it is not split yet");
        let layout =
            with("bu1/outcome/s/p/5-layout.json", &[("deskgrid-items", "25"), ("deskgrid-items-per-range", "10")]);
        let runs = [active(0, 10), active(20, 5)];
        let mut watch = read("0", std::slice::from_ref(&layout), &runs);
        assert_eq!(watch.awaited(), names(&["0-0", "10-0", "20-0"]));
        assert_eq!((watch.counts().waiting, watch.counts().running), (10, 15));

        let first = range("bu1/outcome/s/p/5-0-0.json", "failed", "succeeded=8,failed=2,cancelled=0");
        watch.update("bu1", &runs[1..], std::slice::from_ref(&first));
        assert_eq!(watch.counts(), read("0", &[layout.clone(), first.clone()], &runs[1..]).counts());
        assert_eq!(watch.awaited(), names(&["10-0", "20-0"]));
        // One that cannot be read has failed.
        let rest = [
            range("bu1/outcome/s/p/5-10-0.json", "succeeded", "succeeded=10,failed=0,cancelled=0"),
            with("bu1/outcome/s/p/5-20-0.json", &[(labels::METADATA_STATE, "failed")]),
        ];
        watch.update("bu1", &[], &rest);
        let all = [&[layout, first][..], &rest].concat();
        let ended = read("0", &all, &[]);
        assert_eq!((watch.counts(), watch.needs_full_read()), (ended.counts(), true));
        assert_eq!((ended.counts().succeeded, ended.counts().failed, ended.needs_full_read()), (18, 7, true));
        // A retry repeats the ranges without success; a full read shows their items.
        let mut retried = read("1", &all, &[]);
        assert_eq!((retried.awaited(), retried.counts().waiting), (names(&["0-1", "20-1"]), 7));
        retried.update(
            "bu1",
            &[],
            &[range("bu1/outcome/s/p/5-0-1.json", "succeeded", "succeeded=10,failed=0,cancelled=0")],
        );
        assert_eq!((retried.awaited(), retried.counts().waiting), (names(&["20-1"]), 7));
    }
}

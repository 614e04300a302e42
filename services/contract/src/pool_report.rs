//! What an orchestrator says of its pool every few seconds. A ConfigMap of the namespace has the report of each
//! orchestrator, by the name of its pod. It is for people: nothing is decided by it.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Name of the ConfigMap. `deploy` makes it, without a report.
pub const CONFIG_MAP: &str = "deskgrid-pool";
/// Shortest time between two reports of an orchestrator.
pub const PERIOD: Duration = Duration::from_secs(3);
/// A report that has not changed is written again after this time.
pub const REPEATED_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// The orchestrator of an older report has ended.
pub const OLD_AFTER: SignedDuration = SignedDuration::from_secs(180);
/// Limit of the ranges in a report: a ConfigMap has at most 1 MiB.
pub const RANGES_MAX: usize = 500;

/// The pool as one orchestrator knows it.
#[derive(Clone, Debug, PartialEq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Report {
    /// When it was written.
    pub at: Timestamp,
    /// Items that wait for an engine.
    pub waiting: usize,
    /// Items that ended per second since the report before.
    pub items_per_second: f64,
    /// Mean time of an item in seconds, when some have ended.
    pub item_seconds: Option<f64>,
    /// The engines with a stream to this orchestrator.
    pub engines: Vec<Engine>,
    /// The ranges in progress.
    pub ranges: Vec<Range>,
    /// Number of further ranges in progress.
    pub ranges_left_out: usize,
}

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Engine {
    /// Its pod.
    pub pod: String,
    /// The node of its pod.
    pub node: String,
    /// Items that it computes at the same time.
    pub slots: usize,
    /// Items that it accepts from this orchestrator at the same time.
    pub credits: usize,
    /// Items that it has from this orchestrator.
    pub items: usize,
}

/// A range in progress, and where its items are. An item that is nowhere has ended.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Range {
    /// Session.
    pub session: String,
    /// Job id.
    pub job: String,
    /// Generation of the input object.
    pub generation: i64,
    /// Items that wait for an engine.
    #[serde(skip_serializing_if = "Spans::is_empty", default)]
    pub waiting: Spans,
    /// Items that are with engines, by the engine's pod.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub engines: BTreeMap<String, Spans>,
    /// Its items.
    pub items: Spans,
}

/// Ascending indexes of items, as the first and the last one of each run.
#[derive(Clone, Debug, Default, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spans(Vec<(u32, u32)>);

impl Spans {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of items.
    pub fn count(&self) -> usize {
        self.0.iter().map(|(first, last)| (last - first) as usize + 1).sum()
    }

    /// Whether an item is one of them.
    pub fn contains(&self, index: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&index))
    }
}

impl FromIterator<u32> for Spans {
    /// The indexes must be in ascending order.
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> Self {
        let mut spans: Vec<(u32, u32)> = Vec::new();
        for index in indexes {
            match spans.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
                _ => spans.push((index, index)),
            }
        }
        Self(spans)
    }
}

/// How busy a pool is, as all its orchestrators report it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Items that are with engines.
    pub assigned: usize,
    /// Items that wait for an engine.
    pub waiting: usize,
    /// Items that end per second.
    pub items_per_second: f64,
    /// Mean time of an item in seconds, when some have ended.
    pub item_seconds: Option<f64>,
}

impl Load {
    /// Adds up the reports; `None` when there is none.
    pub fn new(reports: &[Report]) -> Option<Self> {
        let sum = |of: fn(&Report) -> usize| reports.iter().map(of).sum();
        (!reports.is_empty()).then(|| Self {
            assigned: sum(|report| report.engines.iter().map(|engine| engine.items).sum()),
            waiting: sum(|report| report.waiting),
            items_per_second: reports.iter().map(|report| report.items_per_second).sum(),
            item_seconds: reports.iter().find_map(|report| report.item_seconds),
        })
    }
}

/// What the orchestrators say of one Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, schemars::JsonSchema, Serialize)]
pub struct InPool {
    /// Number of its items that wait for an engine.
    pub waiting: usize,
    /// Number of its items that are with engines, by the engine's pod.
    pub engines: BTreeMap<String, usize>,
    /// When that was reported.
    pub at: Option<Timestamp>,
}

impl InPool {
    /// Adds up the reports; `None` when no range of the Job is in progress.
    pub fn new(reports: &[Report], session: &str, job: &str, generation: i64) -> Option<Self> {
        let mut found: Option<Self> = None;
        for report in reports {
            for range in report.ranges_of(session, job, generation) {
                let found = found.get_or_insert_default();
                found.at = found.at.max(Some(report.at));
                found.waiting += range.waiting.count();
                for (pod, items) in &range.engines {
                    *found.engines.entry(pod.clone()).or_default() += items.count();
                }
            }
        }
        found
    }
}

/// Where one item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// With the engine of this pod.
    Engine(&'a str),
    /// It waits for an engine.
    Waiting,
    /// It has ended, and other items of its range have not.
    Ended,
}

impl Report {
    /// The ranges of a Job that are in progress.
    pub fn ranges_of(&self, session: &str, job: &str, generation: i64) -> impl Iterator<Item = &Range> {
        let is_of =
            move |range: &&Range| range.session == session && range.job == job && range.generation == generation;
        self.ranges.iter().filter(is_of)
    }

    /// Where an item of a Job is; `None` when its range is not in progress.
    pub fn place(&self, session: &str, job: &str, generation: i64, index: u32) -> Option<Place<'_>> {
        self.ranges_of(session, job, generation).find_map(|range| range.place(index))
    }

    /// Whether the report is the same but for its time.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { at: other.at, ..self.clone() } == *other
    }
}

impl Range {
    /// Where an item is; `None` when it is none of this range.
    pub fn place(&self, index: u32) -> Option<Place<'_>> {
        if !self.items.contains(index) {
            return None;
        }
        let engine = self.engines.iter().find(|(_, items)| items.contains(index));
        Some(match engine {
            Some((pod, _)) => Place::Engine(pod),
            None if self.waiting.contains(index) => Place::Waiting,
            None => Place::Ended,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_in_one_place() {
        let range = Range {
            session: "s".into(),
            job: "j".into(),
            generation: 1,
            waiting: [4, 5, 7].into_iter().collect(),
            engines: [("pool-0-a".to_owned(), [2, 3].into_iter().collect())].into(),
            items: (1..=7).collect(),
        };
        assert_eq!(serde_json::to_value(&range).unwrap()["waiting"], serde_json::json!([[4, 5], [7, 7]]));
        assert_eq!((range.waiting.count(), range.items.count(), Spans::default().count()), (3, 7, 0));
        let places: Vec<Option<Place<'_>>> = (0..=8).map(|index| range.place(index)).collect();
        let engine = Some(Place::Engine("pool-0-a"));
        let (waiting, ended) = (Some(Place::Waiting), Some(Place::Ended));
        assert_eq!(places, [None, ended, engine, engine, waiting, waiting, ended, waiting, None]);
        assert!([u32::MAX].into_iter().collect::<Spans>().contains(u32::MAX));
    }
}

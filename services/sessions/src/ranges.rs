//! The outcomes of a Job as a listing shows them: one of a single input, or one for each range of a pack. Pure.

use std::collections::BTreeMap;

use contract::{
    labels,
    object::OutcomeName,
    outcome::{self, Reason},
    pack::Counts,
};
use jiff::Timestamp;
use serde::Serialize;

use crate::state::State;

/// The number of items of a pack in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema, Serialize)]
#[schemars(rename = "PackItems")]
pub struct Items {
    /// Items of ranges without a Kubernetes Job.
    pub waiting: u32,
    /// Items of ranges with a Kubernetes Job.
    pub running: u32,
    /// Items with a result.
    pub succeeded: u32,
    /// Items without one.
    pub failed: u32,
    /// Cancelled items.
    pub cancelled: u32,
}

impl Items {
    /// All items, as far as they are known.
    pub fn total(&self) -> u32 {
        self.waiting + self.running + self.done()
    }

    /// Items that have ended.
    pub fn done(&self) -> u32 {
        self.succeeded + self.failed + self.cancelled
    }
}

/// The latest outcome of a range, or of a whole input, as its object's name and metadata show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) attempt: u32,
    /// Absent when only the contents of the object show it.
    pub(crate) state: Option<State>,
    pub(crate) reason: Option<Reason>,
    pub(crate) counts: Counts,
    pub(crate) row_errors: u32,
    pub(crate) created: Option<Timestamp>,
}

impl Listed {
    /// Whether a retry at this attempt repeats it.
    fn is_repeated(&self, attempt: u32) -> bool {
        self.attempt < attempt && self.state != Some(State::Succeeded)
    }
}

/// The latest outcomes of one generation of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeOutcomes {
    /// Number of items, of a pack.
    items: Option<u32>,
    /// Number of items of a range, of a pack that has a layout.
    items_per_range: Option<u32>,
    whole: Option<Listed>,
    ranges: BTreeMap<u32, Listed>,
}

impl RangeOutcomes {
    /// Reads the number of items from the metadata of an input.
    pub(crate) fn set_items(&mut self, metadata: &BTreeMap<String, String>) {
        self.items = number(metadata, labels::ATTRIBUTE_ITEMS).or(self.items);
    }

    /// Reads the numbers of items from the metadata of a layout.
    pub(crate) fn set_layout(&mut self, metadata: &BTreeMap<String, String>) {
        self.set_items(metadata);
        self.items_per_range = number(metadata, labels::ATTRIBUTE_ITEMS_PER_RANGE).filter(|number| *number > 0);
    }

    /// Number of items of a range, when it is known.
    pub(crate) fn items_per_range(&self) -> Option<u32> {
        self.items_per_range
    }

    /// Adds an outcome.
    pub(crate) fn add(&mut self, parsed: &OutcomeName, name: &str, metadata: &BTreeMap<String, String>) {
        self.add_created(parsed, name, metadata, None);
    }

    pub(crate) fn add_created(
        &mut self,
        parsed: &OutcomeName,
        name: &str,
        metadata: &BTreeMap<String, String>,
        created: Option<Timestamp>,
    ) {
        let code = metadata.get(labels::METADATA_REASON);
        let listed = Listed {
            name: name.to_owned(),
            attempt: parsed.attempt,
            state: metadata.get(labels::METADATA_STATE).and_then(|word| State::parse(word)),
            reason: code.map(|code| Reason { code: code.clone(), message: String::new() }),
            counts: metadata.get(labels::METADATA_ITEMS).and_then(|text| Counts::decode(text)).unwrap_or_default(),
            row_errors: outcome::row_errors(metadata),
            created,
        };
        match parsed.first {
            None if self.whole.as_ref().is_none_or(|latest| latest.attempt <= listed.attempt) => {
                self.whole = Some(listed);
            }
            Some(first) if self.ranges.get(&first).is_none_or(|latest| latest.attempt <= listed.attempt) => {
                self.ranges.insert(first, listed);
            }
            _ => {}
        }
    }

    /// Whether it is a pack that was split.
    pub(crate) fn is_pack(&self) -> bool {
        self.items.is_some() && (self.whole.is_none() || !self.ranges.is_empty())
    }

    /// Removes the outcomes that a retry at this attempt repeats.
    pub(crate) fn remove_repeated(&mut self, attempt: u32) {
        self.whole.take_if(|listed| listed.is_repeated(attempt));
        self.ranges.retain(|_, listed| !listed.is_repeated(attempt));
    }

    /// The latest outcome of the whole input.
    pub(crate) fn whole(&self) -> Option<&Listed> {
        self.whole.as_ref()
    }

    /// Whether the range that begins with this item has the outcome of this attempt, or of a later one.
    pub(crate) fn has_outcome_of(&self, first: Option<u32>, attempt: u32) -> bool {
        let latest = first.and_then(|first| self.ranges.get(&first));
        latest.is_some_and(|latest| latest.attempt >= attempt)
    }

    /// The latest outcomes.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = &Listed> {
        // A whole input whose ranges ended was split after all.
        self.whole.iter().filter(|_| self.ranges.is_empty()).chain(self.ranges.values())
    }

    /// Whether every item has ended.
    pub(crate) fn is_complete(&self) -> bool {
        if self.ranges.is_empty() {
            return self.whole.is_some();
        }
        self.items.is_some_and(|items| self.counts().total() >= items)
    }

    /// How many items ended in each state.
    pub(crate) fn counts(&self) -> Counts {
        let add = |sum: Counts, counts: Counts| Counts {
            succeeded: sum.succeeded + counts.succeeded,
            failed: sum.failed + counts.failed,
            cancelled: sum.cancelled + counts.cancelled,
        };
        self.ranges.iter().map(|(first, listed)| self.counts_of(*first, listed)).fold(Counts::default(), add)
    }

    /// How many items of a range ended in each state: all of them as the range, when its outcome cannot be read.
    fn counts_of(&self, first: u32, listed: &Listed) -> Counts {
        let Some((items, each)) = self.items.zip(self.items_per_range).filter(|_| listed.counts.total() == 0) else {
            return listed.counts;
        };
        counts_of_state(listed.state, items.saturating_sub(first).min(each))
    }

    /// The items by state, of which so many run: of a range that a retry at this attempt repeats, those without a
    /// result wait.
    pub(crate) fn items(&self, attempt: u32, running: u32) -> Items {
        let mut items = Items::default();
        for (first, listed) in &self.ranges {
            let counts = self.counts_of(*first, listed);
            items.succeeded += counts.succeeded;
            if !listed.is_repeated(attempt) {
                items.failed += counts.failed;
                items.cancelled += counts.cancelled;
            }
        }
        let pending = self.items.map_or(running, |all| all.saturating_sub(items.done()));
        items.running = running.min(pending);
        items.waiting = pending - items.running;
        items
    }

    /// The outcome that says most of a pack: the first one that is no success, or the first one.
    pub(crate) fn telling(&self) -> Option<&Listed> {
        let is_failed = |listed: &&Listed| listed.state == Some(State::Failed);
        let is_unsuccessful = |listed: &&Listed| listed.state != Some(State::Succeeded);
        let all = || self.ranges.values();
        all().find(is_failed).or_else(|| all().find(is_unsuccessful)).or_else(|| all().next())
    }
}

/// A number in the metadata of an object.
fn number(metadata: &BTreeMap<String, String>, attribute: &str) -> Option<u32> {
    metadata.get(&format!("{}{attribute}", labels::METADATA_PREFIX))?.parse().ok()
}

/// So many items that ended as their range.
pub(crate) fn counts_of_state(state: Option<State>, items: u32) -> Counts {
    match state {
        Some(State::Succeeded) => Counts { succeeded: items, ..Counts::default() },
        Some(State::Cancelled) => Counts { cancelled: items, ..Counts::default() },
        _ => Counts { failed: items, ..Counts::default() },
    }
}

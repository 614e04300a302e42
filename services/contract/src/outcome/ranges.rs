//! The outcome of a range: how each of its items ended, and what that makes of the range.

use std::{collections::BTreeMap, ops::Range};

use super::{Outcome, Reason, State};
use crate::pack::{Counts, Item, SCHEMA};

impl Outcome {
    /// Gives the outcome of a range its items. Those without a record end as the range did: failed or cancelled.
    /// State and reason become those of the items.
    pub fn set_items(&mut self, range: &Range<u32>, items: impl IntoIterator<Item = Item>) {
        let mut found: BTreeMap<u32, Item> =
            items.into_iter().filter(|item| range.contains(&item.index)).map(|item| (item.index, item)).collect();
        let rest = match self.state {
            State::Succeeded => (
                State::Failed,
                Reason {
                    code: "result-missing".to_owned(),
                    message: "the engine ended well, but recorded nothing for this item".to_owned(),
                },
            ),
            state => (state, self.reason.clone()),
        };
        for index in range.clone() {
            found.entry(index).or_insert_with(|| Item::without_result(index, rest.0, rest.1.clone()));
        }
        self.schema = SCHEMA;
        self.items = found.into_values().collect();
        self.row_errors = self.items.iter().map(|item| item.row_errors).sum();
        let counts = Counts::of(&self.items);
        let total = counts.total();
        let unsuccessful = self.items.iter().filter(|item| item.state != State::Succeeded);
        let first = unsuccessful.filter_map(|item| Some((item.label(), item.reason.as_ref()?))).next();
        (self.state, self.reason) = match first {
            None => (
                State::Succeeded,
                Reason { code: "completed".to_owned(), message: format!("all {total} items have a result") },
            ),
            // A range is cancelled when nothing worse happened to one of its items.
            Some((item, reason)) if counts.failed == 0 => (
                State::Cancelled,
                Reason {
                    code: reason.code.clone(),
                    message: format!(
                        "{} of {total} items are cancelled, first item {item}: {}",
                        counts.cancelled, reason.message
                    ),
                },
            ),
            Some(_) => {
                let failed = self.items.iter().find(|item| !matches!(item.state, State::Succeeded | State::Cancelled));
                let (item, reason) =
                    failed.and_then(|item| Some((item.label(), item.reason.clone()?))).unwrap_or_default();
                let message =
                    format!("{} of {total} items failed, first item {item}: {}", counts.failed, reason.message);
                (State::Failed, Reason { code: reason.code, message })
            }
        };
    }

    /// As an outcome for each item of a range, whose job has the name of [`Item::path`]; of a single input, itself.
    pub fn by_item(&self) -> Vec<Self> {
        let mut this = self.clone();
        let items = std::mem::take(&mut this.items);
        if items.is_empty() {
            return vec![this];
        }
        let of_item = |item: Item| {
            let mut outcome = Self { state: item.state, ..this.clone() };
            if let Some(work) = &mut outcome.work {
                work.job = item.path(&work.job);
            }
            outcome.reason = item.reason.unwrap_or_default();
            (outcome.log_tail, outcome.row_errors) = (item.log_tail.or(outcome.log_tail), item.row_errors);
            outcome
        };
        items.into_iter().map(of_item).collect()
    }

    /// How many items ended in each state: one for the outcome of a single input.
    pub fn counts(&self) -> Counts {
        match (self.items.is_empty(), self.state) {
            (false, _) => Counts::of(&self.items),
            (true, State::Succeeded) => Counts { succeeded: 1, ..Counts::default() },
            (true, State::Failed | State::Refused) => Counts { failed: 1, ..Counts::default() },
            (true, State::Cancelled) => Counts { cancelled: 1, ..Counts::default() },
        }
    }
}

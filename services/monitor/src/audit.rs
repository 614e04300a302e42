//! The latest actions of operators since this program started. Its log has all of them.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

/// Actions that are kept.
const MAX_KEPT: usize = 500;

/// An action of an operator.
#[derive(Clone, Debug)]
pub(crate) struct Acted {
    pub(crate) time: Timestamp,
    pub(crate) who: String,
    pub(crate) action: String,
    pub(crate) business: String,
    pub(crate) session: String,
    /// The one Job that it was on, if it was one.
    pub(crate) job: Option<String>,
    pub(crate) is_done: bool,
    /// The result in a sentence.
    pub(crate) result: String,
}

/// The latest actions, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Audit(Mutex<VecDeque<Acted>>);

impl Audit {
    /// Adds an action.
    pub(crate) fn add(&self, acted: Acted) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.pop_front();
        }
        kept.push_back(acted);
    }

    /// Those on businesses that match, the latest first.
    pub(crate) fn latest(&self, is_visible: impl Fn(&str) -> bool) -> Vec<Acted> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().filter(|acted| is_visible(&acted.business)).cloned().collect()
    }
}

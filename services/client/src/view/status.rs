//! The status of a session, as a sentence and figures.

use serde::Serialize;
use sessions::{jobs::State, results::number};

use super::parts::{COUNTED, Segment, bar, duration};
use crate::{
    check::counted,
    session::{Session, is_pending},
};

/// The status of a session.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) sentence: String,
    pub(crate) is_done: bool,
    pub(crate) is_good: bool,
    pub(crate) figures: Vec<Figure>,
    pub(crate) bar: Vec<Segment>,
    pub(crate) pace: String,
    pub(crate) shared: Vec<String>,
    pub(crate) is_controlled: bool,
    pub(crate) is_empty: bool,
    /// Inputs of the person who looks that are pending, and that did not succeed.
    pub(crate) cancellable: usize,
    pub(crate) retryable: usize,
}

/// A count of Jobs in one state.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) state: &'static str,
    pub(crate) label: &'static str,
    pub(crate) count: usize,
}

/// The status of a session, for the page of this client.
pub(crate) fn status(session: &Session, client: &str) -> Status {
    let counts = &session.counts;
    let (total, done) = (counts.total(), counts.done());
    let is_done = total > 0 && done == total && session.unread == 0;
    let has_packs = session.jobs.iter().any(|entry| entry.items.is_some());
    let (one, many) = if has_packs { ("item", "items") } else { ("input", "inputs") };
    let inputs = counted(total, one, many);
    let sentence = match (total, counts.unsuccessful()) {
        (0, _) => "No inputs yet.".to_owned(),
        (_, 0) if done == total => format!("All done: {inputs} succeeded."),
        (_, bad) if done == total => {
            format!("All done: {} of {inputs} succeeded, {bad} did not.", counts.succeeded)
        }
        (_, 0) => format!("{done} of {inputs} done."),
        (_, bad) => format!("{done} of {inputs} done, {bad} of them without success."),
    };
    let sentence = match counts.row_errors {
        0 => sentence,
        errors => format!("{sentence} {} in the results.", counted(errors, "row has an error", "rows have an error")),
    };
    let pace = session.progress.as_ref().and_then(|progress| {
        let rate = progress.rate?;
        let left = progress.seconds_left.map(|left| format!(", about {} left", duration(left)));
        Some(format!("{} per second{}", number(rate, if rate < 10.0 { 1 } else { 0 }), left.unwrap_or_default()))
    });
    let own = || session.jobs.iter().filter(|entry| entry.client.as_deref() == Some(client));
    let figures = COUNTED.into_iter().map(|(state, label, count)| Figure { state, label, count: count(counts) });
    Status {
        sentence,
        is_done,
        is_good: counts.unsuccessful() + counts.row_errors == 0,
        figures: figures
            .filter(|figure| figure.count > 0 || matches!(figure.label, "succeeded" | "failed" | "pending"))
            .collect(),
        bar: bar(counts),
        pace: pace.unwrap_or_default(),
        shared: session.shared.clone(),
        is_controlled: session.is_controlled,
        is_empty: total == 0,
        cancellable: own().filter(|entry| is_pending(entry.state)).count(),
        retryable: own().filter(|entry| matches!(entry.state, State::Failed | State::Cancelled)).count(),
    }
}

//! What the pages show of a session: figures, Jobs, results and their chart. Pure.

use serde::Serialize;
use sessions::{Counts, jobs::State};
use web::Query;

use crate::{chart, check::counted, session::Session};

mod jobs;
mod results;

pub(crate) use jobs::jobs;
pub(crate) use results::results;

/// How a session stands.
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
}

/// A count of Jobs in one state.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) state: &'static str,
    pub(crate) label: &'static str,
    pub(crate) count: usize,
}

/// A part of a bar, in percent.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Segment {
    pub(crate) state: &'static str,
    pub(crate) from: f64,
    pub(crate) width: f64,
}

/// The word and the colour of a state. A client cannot tell what waits from what runs.
fn shown(state: State) -> (&'static str, &'static str) {
    match state {
        State::Waiting | State::Running => ("pending", "waiting"),
        other => (other.as_str(), other.as_str()),
    }
}

/// Class and word of a state, and how many Jobs are in it.
type Counted = (&'static str, &'static str, fn(&Counts) -> usize);

const COUNTED: [Counted; 6] = [
    ("succeeded", "succeeded", |counts| counts.succeeded),
    ("failed", "failed", |counts| counts.failed),
    ("cancelled", "cancelled", |counts| counts.cancelled),
    ("refused", "refused", |counts| counts.refused),
    ("expired", "expired", |counts| counts.expired),
    ("waiting", "pending", |counts| counts.pending()),
];

/// The counts of a session as a bar.
pub(crate) fn bar(counts: &Counts) -> Vec<Segment> {
    let total = counts.total().max(1) as f64;
    let mut from = 0.0;
    let mut bar = Vec::new();
    for (state, _, count) in COUNTED {
        let width = count(counts) as f64 / total * 100.0;
        if width > 0.0 {
            bar.push(Segment { state, from, width });
        }
        from += width;
    }
    bar
}

/// How a session stands, for its page.
pub(crate) fn status(session: &Session) -> Status {
    let counts = &session.counts;
    let (total, done) = (counts.total(), counts.done());
    let is_done = total > 0 && done == total && session.unread == 0;
    let inputs = counted(total, "input", "inputs");
    let sentence = match (total, counts.unsuccessful()) {
        (0, _) => "No inputs yet.".to_owned(),
        (_, 0) if done == total => format!("All done: {inputs} succeeded."),
        (_, bad) if done == total => {
            format!("All done: {} of {inputs} succeeded, {bad} did not.", counts.succeeded)
        }
        (_, 0) => format!("{done} of {inputs} done."),
        (_, bad) => format!("{done} of {inputs} done, {bad} of them without success."),
    };
    let pace = session.progress.as_ref().and_then(|progress| {
        let rate = progress.rate?;
        let left = progress.seconds_left.map(|left| format!(", about {} left", duration(left)));
        Some(format!("{} a second{}", chart::number(rate, if rate < 10.0 { 1 } else { 0 }), left.unwrap_or_default()))
    });
    let figures = COUNTED.into_iter().map(|(state, label, count)| Figure { state, label, count: count(counts) });
    Status {
        sentence,
        is_done,
        is_good: counts.unsuccessful() == 0,
        figures: figures
            .filter(|figure| figure.count > 0 || matches!(figure.label, "succeeded" | "failed" | "pending"))
            .collect(),
        bar: bar(counts),
        pace: pace.unwrap_or_default(),
        shared: session.shared.clone(),
        is_controlled: session.is_controlled,
        is_empty: total == 0,
    }
}

/// Seconds for people.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..=9 => format!("{seconds:.1} s"),
        10..=119 => format!("{whole} s"),
        120..=7199 => format!("{} min", whole / 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A page of a list.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Pages {
    pub(crate) page: usize,
    pub(crate) pages: usize,
    pub(crate) total: usize,
    pub(crate) previous: Option<String>,
    pub(crate) next: Option<String>,
}

/// The page that the parameter `name` asks for, and the range of its items.
fn paged(total: usize, size: usize, query: &Query, name: &str) -> (Pages, std::ops::Range<usize>) {
    let pages = total.div_ceil(size).max(1);
    let page = query.get(name).and_then(|page| page.parse().ok()).unwrap_or(1).clamp(1, pages);
    let link = |page: usize| query.with(name, &if page > 1 { page.to_string() } else { String::new() });
    let pages = Pages {
        page,
        pages,
        total,
        previous: (page > 1).then(|| link(page - 1)),
        next: (page < pages).then(|| link(page + 1)),
    };
    let from = (pages.page - 1) * size;
    (pages, from..(from + size).min(total))
}

/// Something to choose by a link.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Choice {
    pub(crate) label: String,
    pub(crate) link: String,
    pub(crate) is_current: bool,
    pub(crate) count: usize,
}

#[cfg(test)]
mod tests;

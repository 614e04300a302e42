//! What several parts of a page are made of: bars, counts, choices, pages of a list.

use serde::Serialize;
use sessions::{Counts, jobs::State};
use web::Query;

/// A part of a bar, in percent.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Segment {
    pub(crate) state: &'static str,
    pub(crate) from: f64,
    pub(crate) width: f64,
}

/// The word and the class of a state. A client cannot distinguish waiting from running Jobs.
pub(super) fn shown(state: State) -> (&'static str, &'static str) {
    match state {
        State::Waiting | State::Running => ("pending", "waiting"),
        other => (other.as_str(), other.as_str()),
    }
}

/// Class and word of a state, and how many Jobs are in it.
pub(super) type Counted = (&'static str, &'static str, fn(&Counts) -> usize);

pub(super) const COUNTED: [Counted; 6] = [
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

/// Seconds for people.
pub(super) fn duration(seconds: f64) -> String {
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

/// The page in the parameter `name`, and the range of its items.
pub(super) fn paged(total: usize, size: usize, query: &Query, name: &str) -> (Pages, std::ops::Range<usize>) {
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

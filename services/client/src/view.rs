//! What the pages show of a session: figures, Jobs, results and their chart. Pure.

use common::{
    jobs::State,
    results::{PORTFOLIO, Row},
    sessions::Counts,
};
use serde::Serialize;
use serde_json::Value;
use web::Query;

use crate::{
    chart::{self, Chart, Point},
    check::counted,
    session::{Entry, Session},
};

/// Rows of results on a page; the chart shows the same.
const RESULTS_PAGE: usize = 25;
/// Jobs on a page.
const JOBS_PAGE: usize = 50;
/// Measures to choose from, at most.
const MEASURES_MAX: usize = 14;

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

const COUNTED: [Counted; 5] = [
    ("succeeded", "succeeded", |counts| counts.succeeded),
    ("failed", "failed", |counts| counts.failed),
    ("cancelled", "cancelled", |counts| counts.cancelled),
    ("refused", "refused", |counts| counts.refused),
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

/// The Jobs of a session, for its page.
#[derive(Debug, Serialize)]
pub(crate) struct Jobs {
    pub(crate) rows: Vec<JobRow>,
    pub(crate) pages: Pages,
    pub(crate) states: Vec<Choice>,
    pub(crate) q: String,
}

/// One Job.
#[derive(Debug, Serialize)]
pub(crate) struct JobRow {
    pub(crate) job: String,
    pub(crate) state: &'static str,
    pub(crate) class: &'static str,
    pub(crate) attempt: u32,
    pub(crate) changed: String,
    pub(crate) took: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) tail: String,
    pub(crate) raw: Option<String>,
}

/// Something to choose by a link.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Choice {
    pub(crate) label: String,
    pub(crate) link: String,
    pub(crate) is_current: bool,
    pub(crate) count: usize,
}

/// The Jobs that a query asks for; those that did not succeed first.
pub(crate) fn jobs(session: &Session, business: &str, name: &str, query: &Query) -> Jobs {
    let q = query.get("jobs-q").unwrap_or_default().to_lowercase();
    let state = query.get("state");
    let states = std::iter::once(("", "all", session.jobs.len()))
        .chain(COUNTED.map(|(_, label, count)| (label, label, count(&session.counts))))
        .filter(|(_, _, count)| *count > 0)
        .map(|(value, label, count)| Choice {
            label: label.to_owned(),
            link: Query::parse(&query.with("jobs-page", "")).with("state", value),
            is_current: state.unwrap_or_default() == value,
            count,
        })
        .collect();
    let is_wanted = |entry: &&Entry| {
        state.is_none_or(|state| shown(entry.state).0 == state)
            && (q.is_empty() || entry.job.to_lowercase().contains(&q))
    };
    let mut found: Vec<&Entry> = session.jobs.iter().filter(is_wanted).collect();
    found.sort_by_key(|entry| matches!(entry.state, State::Succeeded | State::Waiting | State::Running));
    let (pages, range) = paged(found.len(), JOBS_PAGE, query, "jobs-page");
    let rows = found[range].iter().map(|entry| job_row(entry, business, name)).collect();
    Jobs { rows, pages, states, q: query.get("jobs-q").unwrap_or_default().to_owned() }
}

fn job_row(entry: &Entry, business: &str, session: &str) -> JobRow {
    let (state, class) = shown(entry.state);
    let settled = entry.settled.as_deref();
    let outputs = settled.map(|settled| settled.outputs.len()).unwrap_or_default();
    let raw = (outputs == 1)
        .then(|| web::encode([("business", business), ("session", session), ("job", entry.job.as_str())]));
    JobRow {
        job: entry.job.clone(),
        state,
        class,
        attempt: entry.attempt,
        changed: entry.changed.map(|time| time.to_string()).unwrap_or_default(),
        took: settled.and_then(|settled| settled.seconds).map(duration).unwrap_or_default(),
        code: if entry.state == State::Succeeded { String::new() } else { entry.code.clone() },
        message: settled
            .filter(|_| entry.state != State::Succeeded)
            .map(|settled| settled.message.clone())
            .unwrap_or_default(),
        tail: settled.map(|settled| settled.tail.clone()).unwrap_or_default(),
        raw,
    }
}

/// The results of a session, for its page.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) rows: Vec<ResultRow>,
    pub(crate) chart: Option<Chart>,
    pub(crate) measure: String,
    pub(crate) measures: Vec<Choice>,
    pub(crate) levels: Vec<Choice>,
    pub(crate) sorts: Vec<Choice>,
    pub(crate) pages: Pages,
    pub(crate) q: String,
    pub(crate) left_out: usize,
    pub(crate) unread: usize,
    pub(crate) has_any: bool,
}

/// One row of results.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct ResultRow {
    pub(crate) job: String,
    pub(crate) row: String,
    pub(crate) measure: String,
    pub(crate) value: String,
    pub(crate) error: String,
    pub(crate) standard_error: String,
    pub(crate) is_number: bool,
}

/// Whether a row is of a Job as a whole.
fn is_total(row: &Row) -> bool {
    row.row == PORTFOLIO || row.row.is_empty()
}

/// The results that a query asks for: one measure, of the Jobs or of all their rows.
pub(crate) fn results(session: &Session, query: &Query) -> Results {
    let all = || session.results.settled.iter().flat_map(|settled| &settled.rows);
    let has_totals = all().any(|row| is_total(row) && row.value.is_some());
    let totals = has_totals && query.get("rows") != Some("all");
    let in_level = |row: &&Row| !totals || is_total(row) || row.value.is_none();

    let mut counts: Vec<(&str, usize)> = Vec::new();
    for row in all().filter(in_level).filter(|row| row.value.is_some()) {
        match counts.iter().position(|(name, _)| *name == row.measure) {
            Some(at) => counts[at].1 += 1,
            None if counts.len() < MEASURES_MAX => counts.push((&row.measure, 1)),
            None => {}
        }
    }
    // A measure that is named but not there (yet) stays chosen; otherwise that of the position, or the most common.
    let common = || counts.iter().max_by_key(|(name, count)| (*name == "value", *count)).map(|(name, _)| *name);
    let measure = query.get("measure").or_else(common).unwrap_or_default().to_owned();
    let first_page = Query::parse(&query.with("page", ""));
    let measures = counts
        .iter()
        .map(|(name, count)| Choice {
            label: (*name).to_owned(),
            link: first_page.with("measure", name),
            is_current: *name == measure,
            count: *count,
        })
        .collect();
    let level = |label: &str, value: &str, is_current: bool| Choice {
        label: label.to_owned(),
        link: Query::parse(&first_page.with("measure", "")).with("rows", value),
        is_current,
        count: 0,
    };
    let levels = if has_totals {
        vec![level("one for each input", "", totals), level("every row", "all", !totals)]
    } else {
        Vec::new()
    };

    let q = query.get("q").unwrap_or_default().to_lowercase();
    let is_wanted = |row: &&Row| {
        let is_found = q.is_empty() || row.job.to_lowercase().contains(&q) || row.row.to_lowercase().contains(&q);
        is_found && (row.measure == measure || row.error.is_some())
    };
    let mut found: Vec<&Row> = all().filter(in_level).filter(is_wanted).collect();
    let sort = query.get("sort").unwrap_or_default();
    let value = |row: &Row| row.value.as_ref().and_then(Value::as_f64);
    let error = |row: &Row| row.standard_error.as_ref().and_then(serde_json::Number::as_f64);
    let descending =
        |one: Option<f64>, another: Option<f64>| another.partial_cmp(&one).unwrap_or(std::cmp::Ordering::Equal);
    match sort {
        "value" => found.sort_by(|one, another| descending(value(one), value(another))),
        "error" => found.sort_by(|one, another| descending(error(one), error(another))),
        _ => {}
    }
    let sorts = [("by name", ""), ("largest first", "value"), ("least certain first", "error")]
        .map(|(label, name)| Choice {
            label: label.to_owned(),
            link: first_page.with("sort", name),
            is_current: sort == name,
            count: 0,
        })
        .into();
    let (pages, range) = paged(found.len(), RESULTS_PAGE, query, "page");
    let page = &found[range];
    let points: Vec<Point> = page
        .iter()
        .filter_map(|row| Some(Point { label: label(row), value: value(row)?, error: error(row) }))
        .collect();
    Results {
        rows: page.iter().map(|row| result_row(row)).collect(),
        chart: chart::chart(&points),
        measure,
        measures,
        levels,
        sorts,
        pages,
        q: query.get("q").unwrap_or_default().to_owned(),
        left_out: session.results.left_out,
        unread: session.unread,
        has_any: all().next().is_some(),
    }
}

fn label(row: &Row) -> String {
    if is_total(row) { row.job.clone() } else { format!("{} · {}", row.job, row.row) }
}

fn result_row(row: &Row) -> ResultRow {
    let standard_error = row.standard_error.as_ref().and_then(serde_json::Number::as_f64);
    let number = row.value.as_ref().and_then(Value::as_f64);
    let (value, error) = match number {
        Some(number) => {
            let spelled = chart::spelled(number, standard_error);
            match spelled.split_once(" ± ") {
                Some((value, error)) => (value.to_owned(), error.to_owned()),
                None => (spelled, standard_error.map(|error| chart::number(error, 0)).unwrap_or_default()),
            }
        }
        None => {
            let text = row.value.as_ref().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            (text.unwrap_or_default(), String::new())
        }
    };
    ResultRow {
        job: row.job.clone(),
        row: row.row.clone(),
        measure: row.measure.clone(),
        value,
        error: row.error.clone().unwrap_or_default(),
        standard_error: error,
        is_number: number.is_some(),
    }
}

#[cfg(test)]
mod tests;

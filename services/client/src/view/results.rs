//! The results of a session as a table and a chart of the same rows.

use serde::Serialize;
use serde_json::Value;
use sessions::results::{PORTFOLIO, Row};
use web::Query;

use super::parts::{Choice, Pages, paged};
use crate::{
    chart::{self, Chart, Point},
    session::Session,
};

/// Rows of results on a page; the chart shows the same.
const RESULTS_PAGE: usize = 25;
/// Measures to choose from.
const MAX_MEASURES: usize = 14;

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
    /// Which rows are not in the order yet, when the order is by value.
    pub(crate) missing: String,
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

/// The results that match a query: one measure, of the Jobs or of all their rows.
pub(crate) fn results(session: &Session, query: &Query) -> Results {
    let all = || session.results.settled.iter().flat_map(|settled| &settled.rows);
    let has_totals = all().any(|row| is_total(row) && row.value.is_some());
    let totals = has_totals && query.get("rows") != Some("all");
    let in_level = |row: &&Row| !totals || is_total(row) || row.value.is_none();

    let mut counts: Vec<(&str, usize)> = Vec::new();
    for row in all().filter(in_level).filter(|row| row.value.is_some()) {
        match counts.iter().position(|(name, _)| *name == row.measure) {
            Some(at) => counts[at].1 += 1,
            None if counts.len() < MAX_MEASURES => counts.push((&row.measure, 1)),
            None => {}
        }
    }
    // A measure that the query names stays chosen, even without rows; the default is `value`, or the most common.
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
    let matches = |row: &&Row| {
        let is_found = q.is_empty() || row.job.to_lowercase().contains(&q) || row.row.to_lowercase().contains(&q);
        is_found && (row.measure == measure || row.error.is_some())
    };
    let mut found: Vec<&Row> = all().filter(in_level).filter(matches).collect();
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
        missing: if sort.is_empty() { String::new() } else { missing(session) },
        has_any: all().next().is_some(),
    }
}

/// Which rows are missing so far.
fn missing(session: &Session) -> String {
    let parts = [
        (session.counts.pending(), "pending"),
        (session.unread, "being read"),
        (session.results.left_out, "only in the download"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    parts.join(", ")
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

//! The results of a session as a table and a chart of the same lines, alone or beside those of another session.

use serde::Serialize;
use serde_json::Value;
use sessions::results::{self, Measured, PORTFOLIO, Row, SUMMED, combined_error, measured};
use web::Query;

use super::parts::{Choice, Pages, paged};
use crate::{
    chart::{self, Chart, Point, Scale},
    check::counted,
    session::Session,
};

/// Lines of results on a page; the chart shows the same.
const RESULTS_PAGE: usize = 25;
/// Measures to choose from, and columns of the table.
const MAX_MEASURES: usize = 14;

/// The results of a session, for its page.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) columns: Vec<String>,
    /// The column that the chart shows and that lines are ordered by.
    pub(crate) key: usize,
    pub(crate) lines: Vec<Line>,
    /// The sums over all lines, not only those of the page.
    pub(crate) total: Option<Line>,
    pub(crate) chart: Option<Chart>,
    pub(crate) measure: String,
    pub(crate) measures: Vec<Choice>,
    pub(crate) levels: Vec<Choice>,
    pub(crate) sorts: Vec<Choice>,
    pub(crate) scales: Vec<Choice>,
    pub(crate) scale: Scale,
    pub(crate) pages: Pages,
    pub(crate) q: String,
    pub(crate) left_out: usize,
    pub(crate) unread: usize,
    /// Which rows are not in the order or the sums yet.
    pub(crate) missing: String,
    pub(crate) has_any: bool,
    /// The session beside this one.
    pub(crate) against: String,
    /// What differs from it.
    pub(crate) changes: String,
    /// Where to see this session alone.
    pub(crate) alone: String,
}

/// One line of results.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) job: String,
    pub(crate) row: String,
    pub(crate) cells: Vec<Cell>,
    pub(crate) error: String,
    /// It has an error in the place of values.
    pub(crate) is_empty: bool,
}

/// A value of a line.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Cell {
    pub(crate) value: String,
    /// Half of the 95 % confidence interval.
    pub(crate) half: String,
    /// All digits.
    pub(crate) exact: String,
    pub(crate) is_text: bool,
}

/// A line before it is spelled.
struct Found<'a> {
    row: &'a Row,
    numbers: Vec<Option<Measured>>,
    /// Values that are no numbers, by column.
    texts: Vec<(usize, &'a Value)>,
    errors: Vec<&'a str>,
    /// `new` or `gone`, by column.
    mark: Option<(usize, &'static str)>,
}

/// Whether a row is of a Job as a whole.
fn is_total(row: &Row) -> bool {
    row.row == PORTFOLIO || row.row.is_empty()
}

/// The results that match a query: of the Jobs or of all their rows; with `other`, one measure of both sessions.
pub(crate) fn results(session: &Session, name: &str, other: Option<(&str, &Session)>, query: &Query) -> Results {
    let all = || rows(session).chain(other.into_iter().flat_map(|(_, other)| rows(other)));
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
    counts.sort_by_key(|(name, _)| match *name {
        "price" => 0,
        SUMMED => 1,
        _ => 2,
    });
    // A measure that the query names stays chosen, even without rows; the default is `value`, or the most common.
    let common = || counts.iter().max_by_key(|(name, count)| (*name == SUMMED, *count)).map(|(name, _)| *name);
    let measure = query.get("measure").or_else(common).unwrap_or_default().to_owned();
    let first_page = Query::parse(&query.with("page", ""));
    let choice = |label: &str, link: String, is_current| Choice { label: label.to_owned(), link, is_current, count: 0 };
    let measures =
        counts.iter().map(|(name, _)| choice(name, first_page.with("measure", name), *name == measure)).collect();
    let level = |label: &str, value: &str, is_current: bool| {
        choice(label, Query::parse(&first_page.with("measure", "")).with("rows", value), is_current)
    };
    let levels = if has_totals {
        vec![level("one for each input", "", totals), level("every row", "all", !totals)]
    } else {
        Vec::new()
    };

    let q = query.get("q").unwrap_or_default().to_lowercase();
    let is_found =
        |row: &&Row| q.is_empty() || row.job.to_lowercase().contains(&q) || row.row.to_lowercase().contains(&q);
    let of = |session| rows(session).filter(in_level).filter(is_found);
    let (columns, key, mut found) = match other {
        None => {
            let columns: Vec<String> = counts.iter().map(|(name, _)| (*name).to_owned()).collect();
            let key = columns.iter().position(|name| *name == measure).unwrap_or(0);
            let found = lines(of(session).collect(), &columns);
            (columns, key, found)
        }
        Some((other_name, other)) => {
            let columns = vec![other_name.to_owned(), name.to_owned(), "Difference".to_owned()];
            let is_chosen = |row: &&Row| row.measure == measure;
            let compared = results::compare(of(other).filter(is_chosen), of(session).filter(is_chosen));
            (columns, 2, compared.iter().map(beside).collect())
        }
    };
    let changes = other.map(|_| changes(&found)).unwrap_or_default();
    let total = total(&found, &columns, other.is_some() && measure == SUMMED);

    let sort = query.get("sort").unwrap_or_default();
    let number = |line: &Found<'_>| line.numbers.get(key).copied().flatten();
    let value = |line: &Found<'_>| number(line).map(|number| number.0);
    let error = |line: &Found<'_>| number(line).and_then(|number| number.1);
    let descending =
        |one: Option<f64>, another: Option<f64>| another.partial_cmp(&one).unwrap_or(std::cmp::Ordering::Equal);
    match sort {
        // Of differences, the size matters.
        "value" if other.is_some() => {
            found.sort_by(|one, another| descending(value(one).map(f64::abs), value(another).map(f64::abs)))
        }
        "value" => found.sort_by(|one, another| descending(value(one), value(another))),
        "error" => found.sort_by(|one, another| descending(error(one), error(another))),
        _ => {}
    }
    let sorts = [("by name", ""), ("largest first", "value"), ("least certain first", "error")]
        .map(|(label, name)| choice(label, first_page.with("sort", name), sort == name))
        .into();
    let scale = match query.get("scale") {
        Some("row") => Scale::Row,
        Some("log") => Scale::Logarithmic,
        _ => Scale::Shared,
    };
    let scales = [("one scale", ""), ("a scale for each row", "row"), ("logarithmic", "log")]
        .map(|(label, name)| choice(label, query.with("scale", name), query.get("scale").unwrap_or_default() == name))
        .into();
    let (pages, range) = paged(found.len(), RESULTS_PAGE, query, "page");
    let page = &found[range];
    let points: Vec<Point> = page
        .iter()
        .filter_map(|line| Some(Point { label: label(line.row), value: value(line)?, error: error(line) }))
        .collect();
    let is_final = sort.is_empty() && total.is_none() && other.is_none();
    Results {
        lines: page.iter().map(spelled).collect(),
        chart: chart::chart(&points, scale),
        key,
        total,
        measure,
        measures,
        levels,
        sorts,
        scale,
        scales,
        pages,
        q: query.get("q").unwrap_or_default().to_owned(),
        left_out: session.results.left_out,
        unread: session.unread,
        missing: if is_final { String::new() } else { missing(session, other) },
        has_any: all().next().is_some(),
        against: other.map(|(name, _)| name.to_owned()).unwrap_or_default(),
        changes,
        alone: first_page.with("against", ""),
        columns,
    }
}

fn rows(session: &Session) -> impl Iterator<Item = &Row> {
    session.results.settled.iter().flat_map(|settled| &settled.rows)
}

/// The measures of a trade are one line: its rows follow each other.
fn lines<'a>(rows: Vec<&'a Row>, columns: &[String]) -> Vec<Found<'a>> {
    let groups = rows.chunk_by(|one, another| one.job == another.job && one.row == another.row);
    groups
        .map(|group| {
            let mut line = Found {
                row: group[0],
                numbers: vec![None; columns.len()],
                texts: Vec::new(),
                errors: group.iter().filter_map(|row| row.error.as_deref()).collect(),
                mark: None,
            };
            for row in group {
                let Some(at) = columns.iter().position(|name| *name == row.measure) else { continue };
                match (measured(row), &row.value) {
                    (None, Some(text)) => line.texts.push((at, text)),
                    (number, _) => line.numbers[at] = number,
                }
            }
            line
        })
        .collect()
}

fn beside<'a>(compared: &results::Compared<'a>) -> Found<'a> {
    let mark = match (compared.before, compared.after) {
        (None, _) => Some((2, "new")),
        (_, None) => Some((2, "gone")),
        _ => None,
    };
    let numbers = vec![compared.before, compared.after, compared.difference()];
    Found { row: compared.row, numbers, texts: Vec::new(), errors: Vec::new(), mark }
}

/// What differs between two sessions, as a sentence.
fn changes(found: &[Found<'_>]) -> String {
    let count = |mark: &str| found.iter().filter(|line| line.mark.is_some_and(|(_, found)| found == mark)).count();
    let beyond = |line: &&Found<'_>| {
        line.numbers[2].is_some_and(|(value, error)| value.abs() > results::SPAN * error.unwrap_or_default())
    };
    let (new, gone) = (count("new"), count("gone"));
    let both = found.len() - new - gone;
    let differ = found.iter().filter(beyond).count();
    format!(
        "{} in both sessions, {differ} of them with a difference beyond its error; {new} new, {gone} gone.",
        counted(both, "number", "numbers")
    )
}

/// The sums over the lines. A sum of a Job is left out where its trades are lines too.
fn total(found: &[Found<'_>], columns: &[String], is_compared: bool) -> Option<Line> {
    let has_trades = found.iter().any(|line| !is_total(line.row));
    let summed: Vec<&Found<'_>> = found.iter().filter(|line| !(has_trades && line.row.row == PORTFOLIO)).collect();
    let sum = |(at, name): (usize, &String)| {
        let numbers: Vec<Measured> = summed.iter().filter_map(|line| line.numbers[at]).collect();
        let is_summed = (is_compared || name == SUMMED) && numbers.len() > 1;
        is_summed.then(|| {
            (numbers.iter().map(|number| number.0).sum(), combined_error(numbers.iter().map(|number| number.1)))
        })
    };
    let sums: Vec<Option<Measured>> = columns.iter().enumerate().map(sum).collect();
    let errors = summed.iter().filter(|line| !line.errors.is_empty()).count();
    let error = match errors {
        0 => String::new(),
        1 => "1 line with an error is not complete in this sum".to_owned(),
        many => format!("{} with an error are not complete in this sum", counted(many, "line", "lines")),
    };
    let cells = sums.iter().map(|sum| sum.map(cell).unwrap_or_default()).collect();
    sums.iter().any(Option::is_some).then(|| Line {
        job: "Total".to_owned(),
        row: counted(summed.len(), "line", "lines"),
        cells,
        error,
        is_empty: false,
    })
}

/// Which rows are missing so far.
fn missing(session: &Session, other: Option<(&str, &Session)>) -> String {
    let parts = |session: &Session| {
        let parts = [
            (session.counts.pending(), "pending"),
            (session.unread, "being read"),
            (session.results.left_out, "only in the download"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        parts.collect::<Vec<_>>().join(", ")
    };
    let of_other = other.map(|(name, other)| (name, parts(other))).filter(|(_, parts)| !parts.is_empty());
    let of_other = of_other.map(|(name, parts)| format!("{parts} in {name}"));
    [parts(session), of_other.unwrap_or_default()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

fn label(row: &Row) -> String {
    if is_total(row) { row.job.clone() } else { format!("{} · {}", row.job, row.row) }
}

fn cell((value, error): Measured) -> Cell {
    let spelled = results::spelled(value, error);
    let (value_text, half) = spelled.split_once(" ± ").unwrap_or((&spelled, if error.is_some() { "0" } else { "" }));
    let exact = error.map_or_else(|| value.to_string(), |error| format!("{value}, standard error {error}"));
    Cell { value: value_text.to_owned(), half: half.to_owned(), exact, is_text: false }
}

fn spelled(line: &Found<'_>) -> Line {
    let mut cells: Vec<Cell> = line.numbers.iter().map(|number| number.map(cell).unwrap_or_default()).collect();
    let mark = line.mark.map(|(at, mark)| (at, mark.to_owned()));
    let texts =
        line.texts.iter().map(|(at, text)| (*at, text.as_str().map_or_else(|| text.to_string(), str::to_owned)));
    for (at, value) in texts.chain(mark) {
        cells[at] = Cell { value, is_text: true, ..Cell::default() };
    }
    let is_empty = cells.iter().all(|cell| cell.value.is_empty());
    Line { job: line.row.job.clone(), row: line.row.row.clone(), cells, error: line.errors.join("; "), is_empty }
}

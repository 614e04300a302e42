//! Results as one tidy table: session, job, row, measure, value, standard error, error.

use std::collections::BTreeSet;

use bytes::Bytes;
use cloud::{
    outcomes,
    storage::{Object, Store},
};
use contract::{
    Outcome,
    config::Business,
    message::Work,
    object,
    outcome::{Reason, State},
    pack::{Item, ItemResult},
};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde_json::{Number, Value};

pub(crate) mod bodies;
mod compare;
mod csv;
mod latest;
mod spelled;
mod totals;

pub use compare::{Compared, Measured, combined_error, compare, measured};
pub use csv::csv_line;
pub use latest::{Latest, latest};
pub use spelled::{SPAN, grouped, number, spelled};
pub use totals::Totals;

/// Results of one Job read at a time.
const READS: usize = 16;
/// The row with the sums over all trades of a Job.
pub const PORTFOLIO: &str = "portfolio";
/// The one measure whose sum says something: the others are of one option.
pub const SUMMED: &str = "value";

/// One line of the table.
#[derive(Clone, Debug, PartialEq, schemars::JsonSchema, Serialize)]
#[schemars(rename = "ResultRow")]
pub struct Row {
    /// Session.
    pub session: String,
    /// Job id; of a pack of files, with `/` and the name of the file after it.
    pub job: String,
    /// The part of the Job: a trade's id, or the index of an item; empty when there is only one.
    pub row: String,
    /// The name of the value.
    pub measure: String,
    /// Its value: a number or a text; absent when there is only an error.
    pub value: Option<Value>,
    /// Standard error of the value, when it has one.
    pub standard_error: Option<Number>,
    /// Why there is no value, or what is missing in it.
    pub error: Option<String>,
}

/// Names of the columns, in order.
pub const COLUMNS: [&str; 7] = ["session", "job", "row", "measure", "value", "standard_error", "error"];

impl Row {
    /// The cells as texts, in the order of [`COLUMNS`].
    pub fn cells(&self) -> [String; 7] {
        let value = match &self.value {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let standard_error = self.standard_error.as_ref().map(Number::to_string).unwrap_or_default();
        let error = self.error.clone().unwrap_or_default();
        [self.session.clone(), self.job.clone(), self.row.clone(), self.measure.clone(), value, standard_error, error]
    }
}

/// The rows of one Job, from its outcomes (one for each range of a pack) and the results of what succeeded. One whose
/// outcome is not one has a row that says so.
///
/// # Errors
/// When an object cannot be read.
pub async fn read(store: &Store, business: &Business, outcomes: &[String], most: usize) -> anyhow::Result<Vec<Row>> {
    let reads: Vec<_> = outcomes
        .iter()
        .map(|name| async move {
            match outcomes::read_or_replace(store, &business.bucket, name).await? {
                Some(outcome) => parts(store, business, &outcome, name, most).await,
                None => Ok(Vec::new()),
            }
        })
        .collect();
    let parts: Vec<_> = futures::stream::iter(reads).buffered(READS).try_collect::<Vec<_>>().await?;
    Ok(join(parts.into_iter().flatten().collect()))
}

/// The rows of the Job or range with this outcome. Of a result of more than `most` bytes, the row has only the size.
///
/// # Errors
/// When an object cannot be read.
pub async fn of(
    store: &Store,
    business: &Business,
    outcome: &Outcome,
    outcome_object: &str,
    most: usize,
) -> anyhow::Result<Vec<Row>> {
    Ok(join(parts(store, business, outcome, outcome_object, most).await?))
}

/// The bytes of the results of an outcome: one for each of its items, or that of a single input. `None` where there is no
/// result, or where it is gone.
///
/// # Errors
/// When an object cannot be read.
pub async fn contents(store: &Store, business: &Business, outcome: &Outcome) -> anyhow::Result<Vec<Option<Bytes>>> {
    if !outcome.items.is_empty() {
        let mut bodies = bodies::read(store, &business.bucket, &outcome.items, usize::MAX).await?;
        let body = |item: &Item| match item.result.as_ref()? {
            ItemResult::Object { .. } => bodies.remove(&item.index).flatten(),
            inline => inline.bytes().map(Bytes::from),
        };
        return Ok(outcome.items.iter().map(body).collect());
    }
    if let Some(result) = &outcome.result {
        return Ok(vec![result.bytes().map(Bytes::from)]);
    }
    let work = outcome.work.as_ref().filter(|_| outcome.state == State::Succeeded);
    let names = work.map_or_else(Vec::new, Work::outputs);
    let reads = names.into_iter().map(|name| async move {
        anyhow::Ok(read_small(store, &business.bucket, &name, usize::MAX).await?.and_then(|(_, body)| body))
    });
    let bodies: Vec<_> = futures::stream::iter(reads).buffered(READS).try_collect().await?;
    Ok(if bodies.is_empty() { vec![None] } else { bodies })
}

/// The rows of one result of a Job or of an item; see [`kernel::rows`].
pub fn rows(session: &str, job: &str, item: &str, size: i64, body: &[u8]) -> Vec<Row> {
    let of = |kernel::rows::Row { row: part, measure, value, standard_error, error }| Row {
        value,
        standard_error,
        error,
        ..row(session, job, &part, &measure)
    };
    kernel::rows::rows(item, size, body).into_iter().map(of).collect()
}

/// The rows of each item.
async fn parts(
    store: &Store,
    business: &Business,
    outcome: &Outcome,
    outcome_object: &str,
    most: usize,
) -> anyhow::Result<Vec<Vec<Row>>> {
    let work = match &outcome.work {
        Some(work) if !outcome.items.is_empty() => work,
        Some(work) if outcome.state == State::Succeeded => {
            if let Some(result) = &outcome.result {
                return Ok(vec![inline_rows(&work.session, &work.job, "", result)]);
            }
            let of_task = |(task, name): (usize, String)| {
                (if work.is_split_request() { task.to_string() } else { String::new() }, name)
            };
            let names = work.outputs().into_iter().enumerate().map(of_task);
            let reads = names.map(|(item, name)| async move {
                anyhow::Ok(match read_small(store, &business.bucket, &name, most).await? {
                    Some((object, Some(body))) => rows(&work.session, &work.job, &item, object.size, &body),
                    Some((object, None)) => vec![bytes(&work.session, &work.job, &item, object.size)],
                    None => vec![gone(&work.session, &work.job, &item, &name)],
                })
            });
            return futures::stream::iter(reads.collect::<Vec<_>>()).buffered(READS).try_collect().await;
        }
        _ => return Ok(vec![vec![failed(business, outcome, outcome_object)]]),
    };
    let bodies = bodies::read(store, &business.bucket, &outcome.items, most).await?;
    Ok(outcome.items.iter().map(|item| item_rows(work, item, bodies.get(&item.index))).collect())
}

/// The rows of an item of a pack. `body` is its result in an object: absent when it is too large, `None` when it is gone.
fn item_rows(work: &Work, item: &Item, body: Option<&Option<Bytes>>) -> Vec<Row> {
    // A file of a pack is as a Job of its own.
    let (session, index) =
        (&work.session, item.name.as_ref().map_or_else(|| item.index.to_string(), |_| String::new()));
    let job = &item.name.as_ref().map_or_else(|| work.job.clone(), |_| item.path(&work.job));
    let body: &[u8] = match (&item.result, body) {
        (None, _) => {
            let error = item.reason.as_ref().map(|reason| described(item.state, reason)).unwrap_or_default();
            return vec![Row { error: Some(error), ..row(session, job, &index, "") }];
        }
        (Some(ItemResult::Object { length, .. }), None) => {
            return vec![bytes(session, job, &index, i64::try_from(*length).unwrap_or(i64::MAX))];
        }
        (Some(ItemResult::Object { object, .. }), Some(None)) => return vec![gone(session, job, &index, object)],
        (Some(ItemResult::Object { .. }), Some(Some(body))) => body,
        (Some(result), _) => return inline_rows(session, job, &index, result),
    };
    rows(session, job, &index, i64::try_from(body.len()).unwrap_or(i64::MAX), body)
}

/// The rows of a result that the outcome holds itself.
fn inline_rows(session: &str, job: &str, item: &str, result: &ItemResult) -> Vec<Row> {
    match result.bytes() {
        Some(body) => rows(session, job, item, i64::try_from(body.len()).unwrap_or(i64::MAX), &body),
        None => {
            let error = Some("the result in the outcome is damaged: it is not base64".to_owned());
            vec![Row { error, ..row(session, job, item, "") }]
        }
    }
}

fn bytes(session: &str, job: &str, item: &str, size: i64) -> Row {
    Row { value: Some(Value::from(size)), ..row(session, job, item, "bytes") }
}

fn gone(session: &str, job: &str, item: &str, name: &str) -> Row {
    let error = format!("result-gone: there is no {name}; results are kept for a limited time");
    Row { error: Some(error), ..row(session, job, item, "") }
}

fn described(state: State, reason: &Reason) -> String {
    match reason.message.as_str() {
        "" => format!("{state}: {}", reason.code),
        message => format!("{state}: {}: {message}", reason.code),
    }
}

/// An object, and its contents unless it has more than `most` bytes.
async fn read_small(
    store: &Store,
    bucket: &str,
    name: &str,
    most: usize,
) -> anyhow::Result<Option<(Object, Option<Bytes>)>> {
    let Some(mut contents) = store.open(bucket, name).await? else { return Ok(None) };
    let body = contents.all(most).await?;
    Ok(Some((contents.object, body)))
}

/// The row of a Job without a result.
fn failed(business: &Business, outcome: &Outcome, outcome_object: &str) -> Row {
    let (session, job) = match (&outcome.work, object::parse_outcome(&business.name, outcome_object)) {
        (Some(work), _) => (work.session.clone(), work.job.clone()),
        (None, Some(name)) => (name.session, name.job),
        (None, None) => (crate::jobs::REFUSED_SESSION.to_owned(), outcome.message_id.clone().unwrap_or_default()),
    };
    Row { error: Some(described(outcome.state, &outcome.reason)), ..row(&session, &job, "", "") }
}

/// Joins the parts of a Job: their rows in turn, and one sum over their portfolios, which names what is not in it. Each
/// file of a pack has a sum of its own.
pub fn join(parts: Vec<Vec<Row>>) -> Vec<Row> {
    let mut jobs = parts.iter().flatten().map(|row| &row.job);
    let first = jobs.next();
    if jobs.all(|job| Some(job) == first) {
        return join_job(parts);
    }
    let of_files = parts.iter().flat_map(|part| part.chunk_by(|one, other| one.job == other.job));
    of_files.flat_map(|rows| join_job(vec![rows.to_vec()])).collect()
}

/// Joins the parts of one table. Trades have independent random streams, so the squares of the standard errors add up.
fn join_job(parts: Vec<Vec<Row>>) -> Vec<Row> {
    let (count, mut lost) = (parts.len(), 0);
    let (mut priced, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for rows in &parts {
        if !rows.iter().any(is_sum) {
            lost += 1;
            continue;
        }
        for row in rows.iter().filter(|row| row.row != PORTFOLIO) {
            if row.error.is_some() { &mut failed } else { &mut priced }.insert(&row.row);
        }
    }
    let mut missing = Vec::new();
    if !failed.is_empty() {
        missing.push(format!("{} of {} trades, which have an error", failed.len(), failed.len() + priced.len()));
    }
    if lost > 0 {
        missing.push(format!("{lost} of {count} items, which have no result that can be read"));
    }
    let missing = (!missing.is_empty()).then(|| format!("missing in this sum: {}", missing.join("; ")));
    let (sums, mut rows): (Vec<Row>, Vec<Row>) = parts.into_iter().flatten().partition(is_sum);
    if let Some(first) = sums.first() {
        let mut sum = Row { error: missing, ..first.clone() };
        if sums.len() > 1 {
            let numbers: Vec<Measured> = sums.iter().filter_map(measured).collect();
            sum.value = Number::from_f64(numbers.iter().map(|number| number.0).sum()).map(Value::Number);
            sum.standard_error = combined_error(numbers.iter().map(|number| number.1)).and_then(Number::from_f64);
        }
        rows.push(sum);
    }
    rows
}

/// Whether a row is the sum over the trades of a Job or a range.
fn is_sum(row: &Row) -> bool {
    row.row == PORTFOLIO && row.measure == SUMMED
}

fn row(session: &str, job: &str, row: &str, measure: &str) -> Row {
    Row {
        session: session.to_owned(),
        job: job.to_owned(),
        row: row.to_owned(),
        measure: measure.to_owned(),
        value: None,
        standard_error: None,
        error: None,
    }
}

#[cfg(test)]
mod tests;

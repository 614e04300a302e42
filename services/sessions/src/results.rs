//! Results as one tidy table: session, job, row, measure, value, standard error, error.

use bytes::Bytes;
use cloud::{
    outcomes,
    storage::{Object, Store},
};
use contract::{Outcome, config::Business, object, outcome::State, table};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde_json::{Map, Number, Value};

mod latest;

pub use latest::{Latest, latest};

/// Result objects of one Job read at a time.
const READS: usize = 16;
/// Maximum length of a text that is shown, in characters; of a longer text only the size is shown.
const TEXT_MAX: usize = 200;
/// The column that identifies the rows of a table.
const ID: &str = "id";
/// The row with the sums over all trades of a Job.
pub const PORTFOLIO: &str = "portfolio";

/// One line of the table.
#[derive(Clone, Debug, PartialEq, schemars::JsonSchema, Serialize)]
#[schemars(rename = "ResultRow")]
pub struct Row {
    /// Session.
    pub session: String,
    /// Job id.
    pub job: String,
    /// The part of the Job: a trade's id, or the index of a task; empty when there is only one.
    pub row: String,
    /// The name of the value.
    pub measure: String,
    /// Its value: a number or a text; absent when there is an error.
    pub value: Option<Value>,
    /// Standard error of the value, when it has one.
    pub standard_error: Option<Number>,
    /// Why there is no value.
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

/// One line of CSV (RFC 4180) without its end.
pub fn csv_line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = cells.into_iter().map(|cell| {
        if cell.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    });
    quoted.collect::<Vec<_>>().join(",")
}

/// The rows of one Job, from its outcome and, if it succeeded, its result objects. One whose outcome is not one has a
/// row that says so.
///
/// # Errors
/// When an object cannot be read.
pub async fn read(store: &Store, business: &Business, outcome_object: &str) -> anyhow::Result<Vec<Row>> {
    let Some(outcome) = outcomes::read_or_replace(store, &business.bucket, outcome_object).await? else {
        return Ok(Vec::new());
    };
    of(store, business, &outcome, outcome_object, usize::MAX).await
}

/// The rows of the Job with this outcome. Of a result object of more than `most` bytes, the row has only the size.
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
    let Some(work) = outcome.work.as_ref().filter(|_| outcome.state == State::Succeeded) else {
        return Ok(vec![failed(business, outcome, outcome_object)]);
    };
    let names = work.outputs();
    let reads: Vec<_> = names.iter().map(|name| read_small(store, &business.bucket, name, most)).collect();
    let bodies: Vec<_> = futures::stream::iter(reads).buffered(READS).try_collect().await?;
    let parts = names.iter().zip(bodies).enumerate().map(|(index, (name, body))| {
        let task = work.tasks.map(|_| index.to_string()).unwrap_or_default();
        match body {
            Some((object, Some(body))) => rows(&work.session, &work.job, &task, &object, &body),
            Some((object, None)) => {
                vec![Row { value: Some(Value::from(object.size)), ..row(&work.session, &work.job, &task, "bytes") }]
            }
            None => vec![Row {
                error: Some(format!("result-gone: there is no {name}; results are kept for a limited time")),
                ..row(&work.session, &work.job, &task, "")
            }],
        }
    });
    Ok(join(parts.collect()))
}

/// An object, and its contents unless it has more than `most` bytes.
async fn read_small(
    store: &Store,
    bucket: &str,
    name: &str,
    most: usize,
) -> anyhow::Result<Option<(Object, Option<Bytes>)>> {
    let Some(mut contents) = store.open(bucket, name).await? else { return Ok(None) };
    let is_small = usize::try_from(contents.object.size).is_ok_and(|size| size <= most);
    let body = if is_small { Some(contents.all().await?) } else { None };
    Ok(Some((contents.object, body)))
}

/// The row of a Job without a result.
fn failed(business: &Business, outcome: &Outcome, outcome_object: &str) -> Row {
    let (session, job) = match (&outcome.work, object::parse_outcome(&business.name, outcome_object)) {
        (Some(work), _) => (work.session.clone(), work.job.clone()),
        (None, Some((session, job, ..))) => (session, job),
        (None, None) => (crate::jobs::REFUSED_SESSION.to_owned(), outcome.message_id.clone().unwrap_or_default()),
    };
    let error = match outcome.reason.message.as_str() {
        "" => format!("{}: {}", outcome.state, outcome.reason.code),
        message => format!("{}: {}: {message}", outcome.state, outcome.reason.code),
    };
    Row { error: Some(error), ..row(&session, &job, "", "") }
}

/// The rows of one result. The format of the built-in kernel is known. Of other programs, the numbers of a flat JSON
/// object or of a table and short texts are shown; of anything else only the size.
pub fn rows(session: &str, job: &str, task: &str, object: &Object, body: &[u8]) -> Vec<Row> {
    let single = |measure: &str, value: Value| vec![Row { value: Some(value), ..row(session, job, task, measure) }];
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => {
            let kernel = fields.get("kernel").and_then(Value::as_str);
            if let Some(Value::Array(trades)) = fields.get("trades").filter(|_| kernel.is_some()) {
                let mut rows: Vec<Row> = trades
                    .iter()
                    .enumerate()
                    .filter_map(|(index, trade)| Some((index, trade.as_object()?)))
                    .flat_map(|(index, trade)| {
                        let id = trade.get("id").map_or_else(|| index.to_string(), text);
                        measures(session, job, &id, trade, &["id", "paths"])
                    })
                    .collect();
                if let Some(Value::Object(portfolio)) = fields.get(PORTFOLIO) {
                    rows.extend(measures(session, job, PORTFOLIO, portfolio, &["trades", "errors"]));
                }
                return rows;
            }
            if let Some(payload) = fields.get("payload").filter(|_| kernel == Some("echo")) {
                return single("payload", Value::String(shortened(&text(payload))));
            }
            let rows = measures(session, job, task, &fields, &[]);
            if !rows.is_empty() {
                return rows;
            }
        }
        Ok(Value::Number(number)) => return single("value", Value::Number(number)),
        Ok(Value::Array(items)) if !items.is_empty() && items.iter().all(|item| item.get(ID).is_some()) => {
            let fields = items.iter().filter_map(Value::as_object);
            return fields.flat_map(|fields| measures(session, job, &text(&fields[ID]), fields, &[ID])).collect();
        }
        _ => {}
    }
    if let Some(rows) = table_rows(session, job, body) {
        return rows;
    }
    match std::str::from_utf8(body).map(str::trim) {
        Ok(text) if !text.is_empty() && !text.contains('\n') && text.chars().count() <= TEXT_MAX => {
            single("text", Value::String(text.to_owned()))
        }
        _ => single("bytes", Value::from(object.size)),
    }
}

/// The rows of a result that is a table with a column [`ID`].
fn table_rows(session: &str, job: &str, body: &[u8]) -> Option<Vec<Row>> {
    let records = table::fields(std::str::from_utf8(body).ok()?);
    let (names, rows) = records.split_first().filter(|(names, _)| names.iter().any(|name| name == ID))?;
    let cell = |text: &String| match serde_json::from_str::<Number>(text) {
        Ok(number) => Value::Number(number),
        Err(_) => Value::String(text.clone()),
    };
    let rows = rows.iter().flat_map(|cells| {
        let filled = names.iter().zip(cells).filter(|(_, text)| !text.is_empty());
        let fields: Map<String, Value> = filled.map(|(name, text)| (name.clone(), cell(text))).collect();
        measures(session, job, &fields.get(ID).map(text).unwrap_or_default(), &fields, &[ID])
    });
    Some(rows.collect())
}

/// A row for every number (and the error) of an object, with the standard errors beside their values.
fn measures(session: &str, job: &str, id: &str, fields: &Map<String, Value>, ignored: &[&str]) -> Vec<Row> {
    let plain = if fields.contains_key("price") { "price" } else { "value" };
    let mut rows = Vec::new();
    for (name, value) in fields {
        let is_value = !ignored.contains(&name.as_str()) && !name.ends_with("standard_error");
        let Some(Value::Number(number)) = Some(value).filter(|_| is_value) else { continue };
        let own = fields.get(&format!("{name}_standard_error"));
        let error = own.or_else(|| fields.get("standard_error").filter(|_| name == plain));
        rows.push(Row {
            value: Some(Value::Number(number.clone())),
            standard_error: error.and_then(Value::as_number).cloned(),
            ..row(session, job, id, name)
        });
    }
    if let Some(Value::String(error)) = fields.get("error") {
        rows.push(Row { error: Some(error.clone()), ..row(session, job, id, "") });
    }
    rows
}

/// Joins the parts of a split Job: their rows in turn, and one sum over their portfolios. Trades have independent
/// random streams, so the squares of the standard errors add up.
pub fn join(parts: Vec<Vec<Row>>) -> Vec<Row> {
    if parts.len() < 2 {
        return parts.into_iter().flatten().collect();
    }
    let is_sum = |row: &Row| row.row == PORTFOLIO && row.measure == "value";
    let (sums, mut rows): (Vec<Row>, Vec<Row>) = parts.into_iter().flatten().partition(is_sum);
    if let Some(first) = sums.first() {
        let value: f64 = sums.iter().filter_map(|row| row.value.as_ref()?.as_f64()).sum();
        let variance: f64 = sums.iter().filter_map(|row| row.standard_error.as_ref()?.as_f64()).map(|e| e * e).sum();
        rows.push(Row {
            value: Number::from_f64(value).map(Value::Number),
            standard_error: Number::from_f64(variance.sqrt()),
            ..first.clone()
        });
    }
    rows
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

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= TEXT_MAX {
        return text.to_owned();
    }
    let mut head: String = text.chars().take(TEXT_MAX).collect();
    head.push('…');
    head
}

#[cfg(test)]
mod tests;

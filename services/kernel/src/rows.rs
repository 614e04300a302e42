//! The rows of one result. What can be read is read, and what cannot is a row with an error; nothing is left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Deserializer, Map, Number, Value};

use crate::{pricing::read::readable, table};

/// Maximum length of a text that is shown, in characters; of a longer text only the size is shown.
const TEXT_MAX: usize = 200;
/// The field with the sums over all trades.
const PORTFOLIO: &str = "portfolio";
/// The field that identifies the rows of a table.
const ID: &str = "id";
/// First character of a text that replaces a token that JSON does not know; the token's line and a colon follow.
const TOKEN: char = '\u{1}';
/// What programs write in the place of a number that they do not have.
const NO_NUMBERS: [&str; 7] = ["nan", "inf", "infinity", "na", "n/a", "null", "none"];

/// One value of a result, or one error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The part of the result: a trade's id, or what was given for the whole.
    pub row: String,
    /// The name of the value.
    pub measure: String,
    /// A number or a text; absent when there is only an error.
    pub value: Option<Value>,
    /// Standard error of the value, when it has one.
    pub standard_error: Option<Number>,
    /// Why there is no value, or what is missing in it.
    pub error: Option<String>,
}

fn row(row: &str, measure: &str) -> Row {
    Row { row: row.to_owned(), measure: measure.to_owned(), ..Row::default() }
}

/// The number of rows of a program's result that have an error.
pub fn errors(body: &[u8]) -> usize {
    rows("", 0, body).iter().filter(|row| row.error.is_some()).count()
}

/// The rows of one result; `whole` is the name of the row of all of it. The format of the built-in kernel is known. Of
/// other programs, the numbers of a flat JSON object or of a table and short texts are shown; of anything else only the
/// size.
pub fn rows(whole: &str, size: i64, body: &[u8]) -> Vec<Row> {
    let single = |measure: &str, value: Value| vec![Row { value: Some(value), ..row(whole, measure) }];
    let (text, is_binary) = readable(body);
    let text = text.trim();
    match json(text) {
        Some(Ok(Value::Object(fields))) => {
            let kernel = fields.get("kernel").and_then(Value::as_str);
            if let Some(Value::Array(trades)) = fields.get("trades").filter(|_| kernel.is_some()) {
                let mut rows: Vec<Row> = trades
                    .iter()
                    .enumerate()
                    .filter_map(|(index, trade)| Some((index, trade.as_object()?)))
                    .flat_map(|(index, trade)| {
                        let id = trade.get(ID).map_or_else(|| index.to_string(), shown);
                        measures(&id, None, trade, &BTreeSet::new(), &[ID, "paths"])
                    })
                    .collect();
                if let Some(Value::Object(portfolio)) = fields.get(PORTFOLIO) {
                    rows.extend(measures(PORTFOLIO, None, portfolio, &BTreeSet::new(), &["trades", "errors"]));
                }
                return rows;
            }
            if let Some(payload) = fields.get("payload").filter(|_| kernel == Some("echo")) {
                return single("payload", Value::String(shortened(&shown(payload))));
            }
            let rows = measures(whole, None, &fields, &BTreeSet::new(), &[]);
            if !rows.is_empty() {
                return rows;
            }
        }
        Some(Ok(Value::Number(number))) => return single("value", Value::Number(number)),
        Some(Ok(Value::Array(items))) if items.iter().any(|item| item.get(ID).is_some()) => {
            let items = items.into_iter().enumerate().map(|(index, item)| match item {
                Value::Object(fields) => {
                    Ok(Item { id: fields.get(ID).map_or_else(|| index.to_string(), shown), line: None, fields })
                }
                other => Err(format!("element {} of the result is {other}, not an object", index + 1)),
            });
            return items_rows(items.collect());
        }
        Some(Err(error)) if is_meant_as_json(text) => {
            let error = Some(format!("the result is not JSON: {error}"));
            return vec![Row { error, ..row(whole, "") }];
        }
        _ => {}
    }
    if let Some(items) = table_items(body) {
        return items_rows(items);
    }
    if !is_binary && !text.is_empty() && !text.contains(['\n', '\r']) && text.chars().count() <= TEXT_MAX {
        return single("text", Value::String(text.to_owned()));
    }
    single("bytes", Value::from(size))
}

/// A row of a table, or an element of a list.
struct Item {
    id: String,
    line: Option<usize>,
    fields: Map<String, Value>,
}

/// The rows of a result that is a table with a column [`ID`].
fn table_items(body: &[u8]) -> Option<Vec<Result<Item, String>>> {
    let mut records = table::records(body).into_iter();
    let names: Vec<String> = records.next()?.cells.ok()?.iter().map(|name| name.trim().to_owned()).collect();
    let id = names.iter().position(|name| name.eq_ignore_ascii_case(ID))?;
    let items = records.flat_map(|record| {
        let line = record.line;
        let cells = match record.cells {
            Ok(cells) => cells,
            Err(message) => return vec![Err(format!("line {line}: {message}"))],
        };
        let excess = (cells.len() > names.len())
            .then(|| Err(format!("line {line}: {} cells, but the first line has {}", cells.len(), names.len())));
        let of_row = cells.get(id).map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
        let filled =
            names.iter().zip(&cells).enumerate().filter(|(at, (_, text))| *at != id && !text.trim().is_empty());
        let fields = filled.map(|(_, (name, text))| (name.clone(), cell(line, text.trim()))).collect();
        let item = Item { id: of_row.unwrap_or_else(|| format!("line {line}")), line: Some(line), fields };
        [Ok(item)].into_iter().chain(excess).collect()
    });
    Some(items.collect())
}

/// The value of a cell.
fn cell(line: usize, text: &str) -> Value {
    let bare = text.trim_start_matches(['+', '-']).to_lowercase();
    let is_token = NO_NUMBERS.contains(&bare.as_str()) || text.starts_with('#') || text.parse::<f64>().is_ok();
    match number(text) {
        Some(number) => Value::Number(number),
        None if is_token => Value::String(format!("{TOKEN}{line}:{text}")),
        None => Value::String(text.to_owned()),
    }
}

/// A finite number, as JSON, another program or a person writes it; every digit is kept if JSON allows it.
fn number(text: &str) -> Option<Number> {
    let plain = text.strip_prefix('+').unwrap_or(text);
    plain.parse().ok().or_else(|| plain.parse().ok().and_then(Number::from_f64))
}

/// JSON, in which words such as `NaN` may stand where a value belongs; they become texts that begin with [`TOKEN`].
/// Several values, such as one on each line, are a list.
/// `None` when the text cannot be JSON.
fn json(text: &str) -> Option<serde_json::Result<Value>> {
    match serde_json::from_str(text) {
        Err(_) if text.starts_with(['{', '[']) => {
            let values = Deserializer::from_str(&with_tokens(text)).into_iter().collect::<Result<Vec<Value>, _>>();
            Some(values.map(|mut values| if values.len() == 1 { values.remove(0) } else { Value::Array(values) }))
        }
        Err(_) => None,
        parsed => Some(parsed),
    }
}

/// Replaces each token that JSON does not know: by a number if it can be read as one, else by a text.
fn with_tokens(text: &str) -> String {
    let is_bare = |character: char| !character.is_whitespace() && !"{}[]:,\"".contains(character);
    let (mut known, mut rest, mut line) = (String::with_capacity(text.len()), text, 1);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let mut is_escaped = false;
                let end = rest[1..].find(|character| {
                    let ends = character == '"' && !is_escaped;
                    is_escaped = character == '\\' && !is_escaped;
                    ends
                });
                end.map_or(rest.len(), |end| end + 2)
            }
            _ if is_bare(first) => rest.find(|character| !is_bare(character)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        line += token.matches('\n').count();
        if !is_bare(first) || serde_json::from_str::<Value>(token).is_ok() {
            known.push_str(token);
        } else if let Some(number) = number(token) {
            known.push_str(&number.to_string());
        } else {
            known.push_str(&Value::String(format!("{TOKEN}{line}:{token}")).to_string());
        }
        rest = after;
    }
    known
}

fn is_meant_as_json(text: &str) -> bool {
    let inner = text.strip_prefix('[').map(str::trim_start);
    text.starts_with('{') || inner.is_some_and(|inner| inner.starts_with(['{', '[', '"']))
}

fn with_error(id: &str, measure: &str, error: String) -> Row {
    Row { error: Some(error), ..row(id, measure) }
}

/// The rows of all items. Fields that are numbers in at least half of the items that have them are expected to be
/// numbers in all.
fn items_rows(items: Vec<Result<Item, String>>) -> Vec<Row> {
    let mut counts: BTreeMap<&String, (usize, usize)> = BTreeMap::new();
    for (name, value) in items.iter().flatten().flat_map(|item| &item.fields).filter(|(_, value)| !value.is_null()) {
        let is_token = value.as_str().is_some_and(|text| text.starts_with(TOKEN));
        let (numbers, all) = counts.entry(name).or_default();
        *numbers += usize::from(value.is_number() || is_token);
        *all += 1;
    }
    let numeric = counts.into_iter().filter(|(_, (numbers, all))| 2 * numbers >= *all);
    let numeric: BTreeSet<String> = numeric.map(|(name, _)| name.clone()).collect();
    let read = items.iter().flat_map(|item| match item {
        Ok(Item { id, line, fields }) => {
            let mut rows = measures(id, *line, fields, &numeric, &[ID]);
            if rows.is_empty() {
                rows = texts(id, fields);
            }
            if rows.is_empty() {
                rows.push(with_error(id, "", at(*line, "there is no value in this row")));
            }
            rows
        }
        Err(error) => vec![with_error("", "", error.clone())],
    });
    read.collect()
}

/// The texts of an item, which are shown when it has nothing else.
fn texts(id: &str, fields: &Map<String, Value>) -> Vec<Row> {
    let filled = fields.iter().filter(|(name, value)| !value.is_null() && !name.eq_ignore_ascii_case(ID));
    let row = |(name, value): (&String, &Value)| Row {
        value: Some(Value::String(shortened(&shown(value)))),
        ..row(id, name)
    };
    filled.map(row).collect()
}

/// A row for every number (and the error) of an object, with the standard errors beside their values. Of `numeric`
/// fields, and where [`TOKEN`] says so, what is no number is an error.
fn measures(
    id: &str,
    line: Option<usize>,
    fields: &Map<String, Value>,
    numeric: &BTreeSet<String>,
    ignored: &[&str],
) -> Vec<Row> {
    let plain = if fields.contains_key("price") { "price" } else { "value" };
    let no_number = |name: &str, value: &Value| match value {
        Value::String(text) if text.starts_with(TOKEN) => {
            let (line, token) = text[TOKEN.len_utf8()..].split_once(':').unwrap_or_default();
            Some(format!("line {line}: {name}: {token} is not a number"))
        }
        Value::Number(_) => None,
        other if numeric.contains(name) => Some(at(line, &format!("{name}: {other} is not a number"))),
        _ => None,
    };
    let mut rows = Vec::new();
    for (name, value) in fields.iter().filter(|(name, _)| !ignored.contains(&name.as_str())) {
        if name.ends_with("standard_error") || name == "error" {
            continue;
        }
        if let Value::Number(number) = value {
            let own = format!("{name}_standard_error");
            let (name_of_error, error) = match fields.get(&own) {
                Some(error) => (own.as_str(), Some(error)),
                None => ("standard_error", fields.get("standard_error").filter(|_| name == plain)),
            };
            rows.push(Row {
                value: Some(Value::Number(number.clone())),
                standard_error: error.and_then(Value::as_number).cloned(),
                error: error.and_then(|error| no_number(name_of_error, error)),
                ..row(id, name)
            });
        } else if let Some(error) = no_number(name, value) {
            rows.push(with_error(id, name, error));
        }
    }
    match fields.get("error") {
        None | Some(Value::Null | Value::Bool(false)) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => {
            // A word such as `n/a` is an error too, as it is written.
            let plain = text.strip_prefix(TOKEN).and_then(|text| Some(text.split_once(':')?.1));
            rows.push(with_error(id, "", plain.unwrap_or(text).to_owned()));
        }
        Some(Value::Number(number)) => {
            rows.push(Row { value: Some(Value::Number(number.clone())), ..row(id, "error") })
        }
        Some(other) => rows.push(with_error(id, "", other.to_string())),
    }
    rows
}

fn at(line: Option<usize>, message: &str) -> String {
    line.map_or_else(|| message.to_owned(), |line| format!("line {line}: {message}"))
}

fn shown(value: &Value) -> String {
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

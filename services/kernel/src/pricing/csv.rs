//! Reads a table of trades (RFC 4180) into the same shape as a JSON list of objects, so that both are checked by the
//! same rules and every error names its line and column.

use std::borrow::Cow;

use super::{
    json::{Member, Node, Value},
    problem::Problems,
    shown::nearest,
};

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cells {
    Text,
    Number,
    Texts,
    Numbers,
}

/// Columns that a table may have.
const COLUMNS: [(&str, Cells); 15] = [
    ("id", Cells::Text),
    ("kind", Cells::Text),
    ("option", Cells::Text),
    ("underlying", Cells::Text),
    ("strike", Cells::Number),
    ("maturity", Cells::Number),
    ("quantity", Cells::Number),
    ("averaging", Cells::Text),
    ("observations", Cells::Number),
    ("barrier", Cells::Number),
    ("barrier_type", Cells::Text),
    ("monitoring", Cells::Text),
    ("underlyings", Cells::Texts),
    ("weights", Cells::Numbers),
    ("basket_type", Cells::Text),
];
/// Columns that it must have.
const REQUIRED: [&str; 5] = ["id", "kind", "option", "strike", "maturity"];
/// Separates the elements of a list in a cell.
const LIST: char = ';';

/// A line of the table: a trade as an object, or where and why it is none.
pub type Row<'t> = Result<Node<'t>, (usize, String)>;

/// Whether a text begins as a table of trades does.
pub fn is_table(text: &str) -> bool {
    let (header, _) = record(text, 0);
    let known = |cell: &Cell<'_>| COLUMNS.iter().any(|(name, _)| *name == cell.text.trim());
    header.is_ok_and(|header| header.iter().filter(|cell| known(cell)).count() >= 2)
}

/// Reads a table. Problems of its header are added to `problems`, and then there are no rows.
pub fn parse<'t>(text: &'t str, most: usize, problems: &mut Problems) -> Vec<Row<'t>> {
    let (header, mut at) = record(text, 0);
    let columns = match header {
        Ok(header) => columns(&header, problems),
        Err((at, message)) => {
            problems.add(at, String::new(), message);
            return Vec::new();
        }
    };
    let mut rows = Vec::new();
    while problems.is_empty() && at < text.len() {
        let start = at;
        let (cells, end) = record(text, at);
        at = end;
        if text[start..end].trim().is_empty() {
            continue;
        }
        if rows.len() == most {
            problems.add(start, String::new(), format!("expected at most {most} trades"));
            return Vec::new();
        }
        rows.push(cells.and_then(|cells| row(start, &columns, cells)));
    }
    rows
}

fn columns(header: &[Cell<'_>], problems: &mut Problems) -> Vec<(&'static str, Cells)> {
    let mut found: Vec<(&'static str, Cells)> = Vec::new();
    let mut meant = Vec::new();
    for cell in header {
        let name = cell.text.trim();
        let shown: String = name.chars().take(40).collect();
        match COLUMNS.iter().find(|(known, _)| *known == name) {
            Some(column) if found.contains(column) => {
                problems.add(cell.at, shown, "this column is there twice".to_owned());
            }
            Some(column) => found.push(*column),
            None => {
                let near = nearest(name, COLUMNS.iter().map(|(known, _)| *known));
                meant.extend(near);
                let message = match near {
                    Some(near) => format!("unknown column; did you mean {near:?}?"),
                    None => {
                        let known: Vec<&str> = COLUMNS.iter().map(|(known, _)| *known).collect();
                        format!("unknown column; known are {}", known.join(", "))
                    }
                };
                problems.add(cell.at, shown, message);
            }
        }
    }
    for name in REQUIRED {
        if !found.iter().any(|(known, _)| *known == name) && !meant.contains(&name) {
            problems.add(0, name.to_owned(), "this column is missing".to_owned());
        }
    }
    found
}

fn row<'t>(at: usize, columns: &[(&'static str, Cells)], cells: Vec<Cell<'t>>) -> Row<'t> {
    if cells.len() != columns.len() {
        let message = format!("expected {} cells, as in the first line, found {}", columns.len(), cells.len());
        return Err((at, message));
    }
    let mut members = Vec::new();
    for ((name, kind), cell) in columns.iter().zip(cells) {
        if cell.text.trim().is_empty() {
            continue;
        }
        let value = match kind {
            Cells::Text => text(cell.text),
            Cells::Number => number(cell.text),
            Cells::Texts | Cells::Numbers => {
                // Elements of a quoted cell with quotes in it have no exact place of their own.
                let exact = matches!(cell.text, Cow::Borrowed(_));
                let mut offset = 0;
                let elements = cell.text.split(LIST).map(|element| {
                    let element_at = cell.at + if exact { offset } else { 0 };
                    offset += element.len() + LIST.len_utf8();
                    let element = Cow::Owned(element.to_owned());
                    let value = if *kind == Cells::Texts { text(element) } else { number(element) };
                    Node { at: element_at, value }
                });
                Value::List(elements.collect())
            }
        };
        members.push(Member { at: cell.at, key: Cow::Borrowed(name), node: Node { at: cell.at, value } });
    }
    Ok(Node { at, value: Value::Map(members) })
}

fn text(cell: Cow<'_, str>) -> Value<'_> {
    Value::Text(match cell {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    })
}

fn number(cell: Cow<'_, str>) -> Value<'_> {
    // The words that a number's parser knows, like `inf`, are no numbers here.
    let is_number = |text: &str| text.parse::<f64>().is_ok() && !text.contains(['n', 'N', 'i', 'I']);
    match cell {
        Cow::Borrowed(cell) if is_number(cell.trim()) => Value::Number(Cow::Borrowed(cell.trim())),
        Cow::Owned(cell) if is_number(cell.trim()) => Value::Number(Cow::Owned(cell.trim().to_owned())),
        other => text(other),
    }
}

/// A cell and the offset of its first byte, after the quote if it has one.
#[derive(Clone, Debug)]
struct Cell<'t> {
    at: usize,
    text: Cow<'t, str>,
}

/// The cells of the record that begins at an offset, and the offset of the next one.
fn record(text: &str, start: usize) -> (Result<Vec<Cell<'_>>, (usize, String)>, usize) {
    let bytes = text.as_bytes();
    let mut cells = Vec::new();
    let mut at = start;
    loop {
        let cell = if bytes.get(at) == Some(&b'"') {
            match quoted(text, at) {
                Ok((cell, end)) => {
                    at = end;
                    cell
                }
                Err(problem) => {
                    // What follows an open quote cannot be told apart, so the record ends with its line.
                    let end = text[at..].find('\n').map_or(text.len(), |length| at + length + 1);
                    return (Err(problem), end);
                }
            }
        } else {
            let length = text[at..].find([',', '\n', '\r']).unwrap_or(text.len() - at);
            let cell = Cell { at, text: Cow::Borrowed(&text[at..at + length]) };
            at += length;
            cell
        };
        cells.push(cell);
        match bytes.get(at) {
            Some(b',') => at += 1,
            Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => return (Ok(cells), at + 2),
            Some(b'\r' | b'\n') => return (Ok(cells), at + 1),
            _ => return (Ok(cells), text.len()),
        }
    }
}

fn quoted(text: &str, open: usize) -> Result<(Cell<'_>, usize), (usize, String)> {
    let bytes = text.as_bytes();
    let mut at = open + 1;
    loop {
        let Some(length) = text[at..].find('"') else {
            return Err((open, "this cell has no closing quote".to_owned()));
        };
        at += length + 1;
        match bytes.get(at) {
            Some(b'"') => at += 1,
            None | Some(b',' | b'\n' | b'\r') => break,
            Some(_) => {
                let message =
                    "no comma or end of the line follows this cell's closing quote; a quote within is doubled";
                return Err((open, message.to_owned()));
            }
        }
    }
    let inner = &text[open + 1..at - 1];
    let inner = if inner.contains('"') { Cow::Owned(inner.replace("\"\"", "\"")) } else { Cow::Borrowed(inner) };
    Ok((Cell { at: open + 1, text: inner }, at))
}

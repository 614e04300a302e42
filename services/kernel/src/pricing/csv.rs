//! Reads a table of trades (RFC 4180) into the same shape as a JSON list of objects, so that both are checked by the
//! same rules and every error names its line and column.

use std::{borrow::Cow, ops::Range};

use csv_core::{ReadFieldResult, Reader, ReaderBuilder};

use super::{
    json::{Member, Node, Value},
    problem::Problems,
    reader::{Cell as Holds, Field},
    shown::nearest,
    trade,
};
use crate::payoff::KINDS;

/// Columns that a table must have.
const REQUIRED: [&str; 5] = ["id", "kind", "option", "strike", "maturity"];
/// What may separate cells; the last is the usual one.
const SEPARATORS: [u8; 4] = [b'|', b'\t', b';', b','];
/// Separates the elements of a list in a cell.
const LIST: char = ';';

/// A line of the table: a trade as an object, or where and why it is none.
pub type Row<'t> = Result<Node<'t>, (usize, String)>;

/// Columns that a table may have: the fields of every kind of trade.
fn known() -> Vec<Field> {
    let mut known = trade::FIELDS.to_vec();
    for field in KINDS.iter().flat_map(|(_, kind)| kind.fields) {
        if !known.contains(field) {
            known.push(*field);
        }
    }
    known
}

/// The field that a column's name stands for, however it is capitalised or spaced.
fn named<'k>(known: &'k [Field], name: &str) -> Option<&'k Field> {
    let name = normal(name.trim());
    known.iter().find(|field| field.0 == name)
}

fn normal(name: &str) -> String {
    name.to_lowercase().replace([' ', '-'], "_")
}

/// Whether a text begins as a table of trades does.
pub fn is_table(text: &str) -> bool {
    let known = known();
    // Most texts are no table, and a parser takes longer to build than a text to search.
    let names = normal(text);
    if known.iter().map(|field| names.matches(field.0).count()).sum::<usize>() < 2 {
        return false;
    }
    let is_known = |cell: &Cell<'_>| named(&known, &cell.text).is_some();
    let header = Records::new(text).next();
    header
        .is_some_and(|(_, header)| header.is_ok_and(|header| header.iter().filter(|cell| is_known(cell)).count() >= 2))
}

/// Reads these rows of a table, counted from 0. Problems of its header are added to `problems`, and then there are no
/// rows.
pub fn parse<'t>(text: &'t str, wanted: &Range<usize>, most: usize, problems: &mut Problems) -> Vec<Row<'t>> {
    let mut rows = Vec::new();
    let Some((records, columns)) = open(text, problems) else { return rows };
    for (start, cells) in records.take(wanted.end).skip(wanted.start) {
        if rows.len() == most {
            problems.add(start, String::new(), format!("expected at most {most} trades"));
            return Vec::new();
        }
        rows.push(cells.and_then(|cells| row(start, &columns, cells)));
    }
    rows
}

/// Reads the rows of a table up to this number, one at a time.
pub fn each_row<'t>(
    text: &'t str,
    end: usize,
    problems: &mut Problems,
    mut read: impl FnMut(usize, Row<'t>, &mut Problems),
) {
    let Some((records, columns)) = open(text, problems) else { return };
    for (position, (start, cells)) in records.take(end).enumerate() {
        read(position, cells.and_then(|cells| row(start, &columns, cells)), problems);
    }
}

/// The records after the header of a table, and what its columns hold; `None` when there are problems.
fn open<'t>(text: &'t str, problems: &mut Problems) -> Option<(Records<'t>, Vec<Option<Field>>)> {
    let mut records = Records::new(text);
    let columns = match records.next() {
        Some((_, Ok(header))) => columns(&header, problems),
        Some((_, Err((at, message)))) => {
            problems.add(at, String::new(), message);
            return None;
        }
        None => columns(&[], problems),
    };
    problems.is_empty().then_some((records, columns))
}

/// What the columns hold; none for those without a name.
fn columns(header: &[Cell<'_>], problems: &mut Problems) -> Vec<Option<Field>> {
    let known = known();
    let mut found: Vec<Option<Field>> = Vec::new();
    let mut meant = Vec::new();
    for cell in header {
        let name = cell.text.trim();
        let shown: String = name.chars().take(40).collect();
        if name.is_empty() {
            found.push(None);
            continue;
        }
        match named(&known, name) {
            Some(column) if found.contains(&Some(*column)) => {
                problems.add(cell.at, shown, "this column is there twice".to_owned());
            }
            Some(column) => found.push(Some(*column)),
            None => {
                let near = nearest(name, known.iter().map(|field| field.0));
                meant.extend(near);
                let message = match near {
                    Some(near) => format!("unknown column; did you mean {near:?}?"),
                    None => {
                        let known: Vec<&str> = known.iter().map(|field| field.0).collect();
                        format!("unknown column; known are {}", known.join(", "))
                    }
                };
                problems.add(cell.at, shown, message);
            }
        }
    }
    for name in REQUIRED {
        if !found.iter().flatten().any(|field| field.0 == name) && !meant.contains(&name) {
            problems.add(0, name.to_owned(), "this column is missing".to_owned());
        }
    }
    found
}

fn row<'t>(at: usize, columns: &[Option<Field>], cells: Vec<Cell<'t>>) -> Row<'t> {
    if cells.len() != columns.len() {
        let message = format!("expected {} cells, as in the first line, found {}", columns.len(), cells.len());
        return Err((at, message));
    }
    let mut members = Vec::new();
    for (column, cell) in columns.iter().zip(cells) {
        if cell.text.trim().is_empty() {
            continue;
        }
        let Some(column) = column else {
            return Err((cell.at, "this cell is in a column without a name".to_owned()));
        };
        let value = match column.1 {
            Holds::Text => text(cell.text),
            Holds::Number => number(cell.text),
            Holds::Texts | Holds::Numbers => {
                // Elements of a quoted cell with quotes in it have no exact place of their own.
                let exact = matches!(cell.text, Cow::Borrowed(_));
                let mut offset = 0;
                let elements = cell.text.split(LIST).map(|element| {
                    let element_at = cell.at + if exact { offset } else { 0 };
                    offset += element.len() + LIST.len_utf8();
                    let element = Cow::Owned(element.to_owned());
                    let value = if column.1 == Holds::Texts { text(element) } else { number(element) };
                    Node { at: element_at, value }
                });
                Value::List(elements.collect())
            }
        };
        members.push(Member { at: cell.at, key: Cow::Borrowed(column.0), node: Node { at: cell.at, value } });
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
pub(crate) struct Cell<'t> {
    at: usize,
    pub(crate) text: Cow<'t, str>,
}

/// The cells of a record, or where and why it is none.
pub(crate) type Record<'t> = Result<Vec<Cell<'t>>, (usize, String)>;

/// The records of a table, each with the offset of its first byte. Those without anything in their cells are none.
pub(crate) struct Records<'t> {
    text: &'t str,
    /// The end of the last record, with its line break.
    pub(crate) at: usize,
    separator: u8,
    core: Reader,
}

impl<'t> Records<'t> {
    /// The records of a text. A first line like `sep=;` says what separates cells; else it is what separates most known
    /// columns of the first line, or most cells of it.
    pub(crate) fn new(text: &'t str) -> Self {
        let first = text.split(['\n', '\r']).next().unwrap_or_default();
        let said = first.trim_matches('"').strip_prefix("sep=").filter(|said| said.len() == 1);
        if let Some(separator) = said.and_then(|said| said.bytes().next()) {
            return Self::separated(text, first.len(), separator);
        }
        let known = known();
        let columns = |separator: &u8| match Self::separated(first, 0, *separator).next() {
            Some((_, Ok(cells))) => {
                (cells.iter().filter(|cell| named(&known, &cell.text).is_some()).count(), cells.len())
            }
            _ => (0, 0),
        };
        // The last of equal ones is taken.
        let separator = SEPARATORS.into_iter().max_by_key(columns).unwrap_or(b',');
        Self::separated(text, 0, separator)
    }

    fn separated(text: &'t str, at: usize, separator: u8) -> Self {
        Self { text, at, separator, core: ReaderBuilder::new().delimiter(separator).build() }
    }

    fn cells(&mut self) -> Record<'t> {
        let mut cells = Vec::new();
        let mut start = self.at;
        loop {
            // What the parser writes is not needed: cells are read where they stand.
            let (result, read, _) = self.core.read_field(&self.text.as_bytes()[self.at..], &mut [0; 256]);
            self.at += read;
            let is_last = match result {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => continue,
                ReadFieldResult::Field { record_end } => record_end,
                ReadFieldResult::End => true,
            };
            let raw = &self.text[start..self.at];
            let raw = raw.strip_suffix([if is_last { '\n' } else { self.separator.into() }, '\r']).unwrap_or(raw);
            match unquoted(raw) {
                Ok(text) => cells.push(Cell { at: start + usize::from(raw.starts_with('"')), text }),
                Err(message) => {
                    // The text after such a quote is ambiguous, so the record ends with its line.
                    let rest = &self.text[start..];
                    self.at = rest.find(['\n', '\r']).map_or(self.text.len(), |length| start + length + 1);
                    self.core.reset();
                    return Err((start, message.to_owned()));
                }
            }
            if is_last {
                return Ok(cells);
            }
            start = self.at;
        }
    }
}

impl<'t> Iterator for Records<'t> {
    type Item = (usize, Record<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.at = self.text.len() - self.text[self.at..].trim_start_matches(['\n', '\r']).len();
            let start = self.at;
            if start == self.text.len() {
                return None;
            }
            let cells = self.cells();
            // The parser ends a record at the first byte of "\r\n".
            let is_split = self.text[..self.at].ends_with('\r') && self.text[self.at..].starts_with('\n');
            self.at += usize::from(is_split);
            let is_blank = |cell: &Cell<'_>| cell.text.trim().is_empty();
            if !cells.as_ref().is_ok_and(|cells| cells.iter().all(is_blank)) {
                return Some((start, cells));
            }
        }
    }
}

/// The text of a cell as it is written.
fn unquoted(raw: &str) -> Result<Cow<'_, str>, &'static str> {
    let Some(inner) = raw.strip_prefix('"') else { return Ok(Cow::Borrowed(raw)) };
    let is_closed = |inner: &str| !inner.replace("\"\"", "").contains('"');
    match inner.strip_suffix('"') {
        Some(inner) if !inner.contains('"') => Ok(Cow::Borrowed(inner)),
        Some(inner) if is_closed(inner) => Ok(Cow::Owned(inner.replace("\"\"", "\""))),
        _ if is_closed(inner) => Err("this cell has no closing quote"),
        _ => Err("no separator or end of the line follows this cell's closing quote; a quote within is doubled"),
    }
}

//! Tables by their records, as the parser of trades reads them: to count rows, to cut a table into the rows of items,
//! and to read the tables that programs write.

use std::{borrow::Cow, ops::Range};

use crate::pricing::{
    csv::{Cell, Records},
    problem::Lines,
    read::{self, ByteOrder},
};

/// The mark of UTF-8.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// One record of a table; the first names the columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Line of its first byte, from 1.
    pub line: usize,
    /// Its cells, or why the record cannot be split into cells.
    pub cells: Result<Vec<String>, String>,
}

/// The number of rows of a table, without its header.
pub fn rows(bytes: &[u8]) -> usize {
    Records::new(&decode(bytes).0).count().saturating_sub(1)
}

/// Tables with the header and `step` of these rows each, counted from 0, in the encoding of the table; none beyond its
/// end.
pub fn parts(bytes: &[u8], rows: &Range<usize>, step: usize) -> Vec<Vec<u8>> {
    let (text, encoding) = decode(bytes);
    let mut records = Records::new(&text);
    records.next();
    let header = &text[..records.at];
    let (mut parts, mut part, mut left) = (Vec::new(), header.to_owned(), step);
    for _ in 0..rows.start {
        records.next();
    }
    for _ in rows.clone() {
        let Some((start, _)) = records.next() else { break };
        part.push_str(&text[start..records.at]);
        left -= 1;
        if left == 0 {
            parts.push(encoding.encode(&part));
            part.truncate(header.len());
            left = step;
        }
    }
    if left < step {
        parts.push(encoding.encode(&part));
    }
    parts
}

/// The records of a table.
pub fn records(bytes: &[u8]) -> Vec<Record> {
    let text = decode(bytes).0;
    let lines = Lines::new(&text);
    let owned = |cells: Vec<Cell<'_>>| cells.into_iter().map(|cell| cell.text.into_owned()).collect();
    Records::new(&text)
        .map(|(start, cells)| match cells {
            Ok(cells) => Record { line: lines.line(start), cells: Ok(owned(cells)) },
            Err((at, message)) => Record { line: lines.line(at), cells: Err(message) },
        })
        .collect()
}

/// How the bytes of a text stand for its characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf8 {
        marked: bool,
    },
    Utf16(ByteOrder),
    /// Each byte is a character: the text has some encoding that we do not know.
    Bytes,
}

/// The text of a table, without the mark of its encoding.
fn decode(bytes: &[u8]) -> (Cow<'_, str>, Encoding) {
    match (read::readable(bytes), read::byte_order(bytes)) {
        ((text, false), Some(order)) => (text, Encoding::Utf16(order)),
        ((text, false), None) => (text, Encoding::Utf8 { marked: bytes.starts_with(MARK) }),
        ((_, true), _) => (bytes.iter().map(|byte| char::from(*byte)).collect(), Encoding::Bytes),
    }
}

impl Encoding {
    fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 { marked } => [if marked { MARK } else { b"" }, text.as_bytes()].concat(),
            Self::Utf16(order) => std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(order.bytes()).collect(),
            Self::Bytes => text.chars().filter_map(|character| u8::try_from(character).ok()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"id,x\r\na,1\r\n\r\n\"b\nb\",\"say \"\"2\"\"\"\n,,\nc,3";

    /// The parts of two rows each.
    fn pairs(table: &[u8]) -> Vec<Vec<u8>> {
        parts(table, &(0..usize::MAX), 2)
    }

    #[test]
    fn parts_have_the_header_and_their_rows() {
        assert_eq!(rows(TABLE), 3);
        assert_eq!(pairs(TABLE), [&b"id,x\r\na,1\r\n\"b\nb\",\"say \"\"2\"\"\"\n"[..], b"id,x\r\nc,3"]);
        assert_eq!(parts(TABLE, &(1..2), 1), [b"id,x\r\n\"b\nb\",\"say \"\"2\"\"\"\n"]);
        assert_eq!(parts(TABLE, &(2..7), 9), [b"id,x\r\nc,3"]);
        assert_eq!(parts(TABLE, &(4..6), 2), [b""; 0]);
        assert_eq!((rows(b""), rows(b"id\n"), rows(b"\n\nid"), rows(b"id\n,\n")), (0, 0, 0, 0));
    }

    #[test]
    fn records_have_their_lines() {
        let found: Vec<_> = records(b"id;x\r\r\n\"a\nb\";1\r\n\"5\" pipe\";2\n\"c;3\rd;4\r")
            .into_iter()
            .map(|record| {
                (record.line, record.cells.map(|cells| cells.join("|")).unwrap_or_else(|_| "none".to_owned()))
            })
            .collect();
        let expected = [(1, "id|x"), (3, "a\nb|1"), (5, "none"), (6, "none"), (7, "d|4")];
        assert_eq!(found, expected.map(|(line, cells)| (line, cells.to_owned())));
    }

    /// A quote that stands wrong merges no rows; what separates cells and lines, and the encoding, make no difference.
    #[test]
    fn tables_are_cut_whoever_wrote_them() {
        let rows_of = |table: &[u8]| {
            let rows = pairs(table).into_iter().flat_map(|part| records(&part).into_iter().skip(1).collect::<Vec<_>>());
            rows.map(|record| record.cells.map(|cells| cells.concat())).collect::<Vec<_>>()
        };
        let expected = ["1".to_owned(), "a2".to_owned(), "\u{e9};3".to_owned()];
        let plain = "id;kind;x\r;;1\ra;;2\r\"\u{e9};\";;3\r";
        let utf_16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            std::iter::once(0xFEFF).chain(plain.encode_utf16()).flat_map(unit).collect()
        };
        let latin_1: Vec<u8> = plain.chars().map(|character| u8::try_from(character).unwrap()).collect();
        for table in [
            plain.as_bytes().to_vec(),
            format!("\u{feff}{plain}").into_bytes(),
            format!("sep=;\r\n{plain}").into_bytes(),
            utf_16(u16::to_le_bytes),
            utf_16(u16::to_be_bytes),
            latin_1,
        ] {
            assert_eq!(rows(&table), 3, "{table:?}");
            assert_eq!(rows_of(&table).into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected, "{table:?}");
        }
        let pipes = b"id,x\na,\"5\"\" pipe\nb,\"5\" pipe\"\nc,5\" pipe\n";
        assert_eq!(rows(pipes), 3);
        assert_eq!(pairs(pipes), [&b"id,x\na,\"5\"\" pipe\nb,\"5\" pipe\"\n"[..], b"id,x\nc,5\" pipe\n"]);
    }
}

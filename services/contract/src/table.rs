//! Tables as CSV (RFC 4180): the first record names the columns, and each further one is a row. Blank lines are no
//! rows.

use std::ops::Range;

use csv_core::{ReadFieldResult, Reader};

/// The number of rows of a table, without its header.
pub fn rows(bytes: &[u8]) -> usize {
    Records::new(bytes).count().saturating_sub(1)
}

/// The header of a table and these of its rows, counted from 0.
pub fn part(bytes: &[u8], rows: Range<usize>) -> Vec<u8> {
    let mut records = Records::new(bytes);
    let Some(header) = records.next() else { return Vec::new() };
    let mut part = bytes[header].to_vec();
    for row in records.skip(rows.start).take(rows.len()) {
        part.extend_from_slice(&bytes[row]);
    }
    part
}

/// The cells of every record, the header first.
pub fn fields(text: &str) -> Vec<Vec<String>> {
    Records::new(text.as_bytes()).map(|record| cells(&text.as_bytes()[record])).collect()
}

/// The number of tasks for so many rows; `None` when it is out of range.
pub fn tasks(rows: usize, rows_per_task: u32) -> Option<u32> {
    u32::try_from(rows.div_ceil(usize::try_from(rows_per_task.max(1)).ok()?)).ok()
}

/// The rows of a task.
pub fn rows_of(task: u32, rows_per_task: u32) -> Range<usize> {
    let (task, size) = (task as usize, rows_per_task as usize);
    task.saturating_mul(size)..task.saturating_add(1).saturating_mul(size)
}

/// The positions of a table's records, each with its line break.
struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    reader: Reader,
}

impl<'a> Records<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, reader: Reader::new() }
    }
}

impl Iterator for Records<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            self.at += self.bytes[self.at..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let start = self.at;
            if start == self.bytes.len() {
                return None;
            }
            loop {
                let (result, read, _) = self.reader.read_field(&self.bytes[self.at..], &mut [0; 256]);
                self.at += read;
                if matches!(result, ReadFieldResult::Field { record_end: true } | ReadFieldResult::End) {
                    break;
                }
            }
            // The reader ends a record at the first byte of "\r\n".
            self.at += usize::from(self.bytes[..self.at].ends_with(b"\r") && self.bytes[self.at..].starts_with(b"\n"));
            if !self.bytes[start..self.at].trim_ascii().is_empty() {
                return Some(start..self.at);
            }
        }
    }
}

fn cells(record: &[u8]) -> Vec<String> {
    let (mut reader, mut at) = (Reader::new(), 0);
    let (mut cells, mut cell, mut buffer) = (Vec::new(), Vec::new(), [0; 256]);
    loop {
        let (result, read, written) = reader.read_field(&record[at..], &mut buffer);
        at += read;
        cell.extend_from_slice(&buffer[..written]);
        match result {
            ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
            ReadFieldResult::Field { record_end } => {
                cells.push(String::from_utf8_lossy(&std::mem::take(&mut cell)).into_owned());
                if record_end {
                    return cells;
                }
            }
            ReadFieldResult::End => return cells,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_header_and_their_rows() {
        let table = b"id,x\r\na,1\r\n\r\n\"b\nb\",\"say \"\"2\"\"\"\nc,3";
        assert_eq!(rows(table), 3);
        let part = |task| String::from_utf8(part(table, rows_of(task, 2))).unwrap();
        assert_eq!(part(0), "id,x\r\na,1\r\n\"b\nb\",\"say \"\"2\"\"\"\n");
        assert_eq!(part(1), "id,x\r\nc,3");
        assert_eq!(part(2), "id,x\r\n");
        assert_eq!([tasks(3, 2), tasks(4, 2), tasks(0, 2)], [Some(2), Some(2), Some(0)]);
        let cells = fields(std::str::from_utf8(table).unwrap());
        assert_eq!(cells, [["id", "x"], ["a", "1"], ["b\nb", "say \"2\""], ["c", "3"]]);
        assert_eq!((rows(b""), rows(b"id\n"), rows(b"\n\nid")), (0, 0, 0));
    }
}

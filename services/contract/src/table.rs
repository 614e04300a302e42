//! Tables as CSV (RFC 4180), as far as splitting them by rows needs it: the first record names the columns, and each
//! further one is a row. Lines with nothing in them are no rows.

use std::ops::Range;

/// Where the records of a table are, each with the end of its line.
struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Records<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let start = self.at;
            let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty())?;
            let mut quoted = false;
            let end = rest.iter().position(|byte| {
                // A quote within a quoted field is doubled, so counting them all tells whether one is open.
                quoted ^= *byte == b'"';
                *byte == b'\n' && !quoted
            });
            self.at = start + end.map_or(rest.len(), |end| end + 1);
            if !self.bytes[start..self.at].trim_ascii().is_empty() {
                return Some(start..self.at);
            }
        }
    }
}

fn records(bytes: &[u8]) -> Records<'_> {
    Records { bytes, at: 0 }
}

/// The number of rows of a table, without the names of its columns.
pub fn rows(bytes: &[u8]) -> usize {
    records(bytes).count().saturating_sub(1)
}

/// The table with only these rows (from 0), and the names of its columns.
pub fn part(bytes: &[u8], rows: Range<usize>) -> Vec<u8> {
    let mut records = records(bytes);
    let Some(header) = records.next() else { return Vec::new() };
    let mut part = bytes[header].to_vec();
    for row in records.skip(rows.start).take(rows.len()) {
        part.extend_from_slice(&bytes[row]);
    }
    part
}

/// The cells of every record, the first of which names the columns.
pub fn fields(text: &str) -> Vec<Vec<String>> {
    let cells = |record: &str| {
        let mut cells = vec![String::new()];
        let mut quoted = false;
        let mut characters = record.trim_end_matches(['\n', '\r']).chars().peekable();
        while let Some(character) = characters.next() {
            let Some(cell) = cells.last_mut() else { break };
            match character {
                '"' if quoted && characters.peek() == Some(&'"') => cell.extend(characters.next()),
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(String::new()),
                other => cell.push(other),
            }
        }
        cells
    };
    // Records end after a byte that is a character of its own.
    records(text.as_bytes()).filter_map(|record| text.get(record)).map(cells).collect()
}

/// How many tasks it takes when each has so many rows; `None` when that is more than a number can say.
pub fn tasks(rows: usize, rows_per_task: u32) -> Option<u32> {
    u32::try_from(rows.div_ceil(usize::try_from(rows_per_task.max(1)).ok()?)).ok()
}

/// The rows that a task has.
pub fn rows_of(task: u32, rows_per_task: u32) -> Range<usize> {
    let (task, size) = (task as usize, rows_per_task as usize);
    task.saturating_mul(size)..task.saturating_add(1).saturating_mul(size)
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

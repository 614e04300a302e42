//! The items of a range: what each of them reads, and its result by the built-in kernel.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use contract::pack::{Format, Pack, files, lines};
use kernel::{Book, Refusal, Share, TRADES_MAX, table};

use crate::{
    compute::{self, Input, Output},
    failure::Failure,
    program::Position,
    store::Contents,
};

/// Limit of an input that is returned without a thread of its own, in bytes.
const ECHO_MAX: usize = 64 * 1024;
/// Chunks of a table whose books are kept.
const CHUNKS_KEPT: usize = 2;

/// The items of a range.
#[derive(Debug)]
pub struct Items {
    pack: Pack,
    range: Range<u32>,
    /// Rows or lines of the input; `None` when every item reads all of it.
    total: Option<usize>,
    /// Name and content type of the input.
    name: String,
    content_type: String,
    market: Option<Bytes>,
    source: Source,
}

/// Where the input of an item is.
#[derive(Debug)]
enum Source {
    /// Each item reads all.
    Whole(Bytes),
    /// An item ends where the next one begins; the last number is the end of the last item.
    Lines(Bytes, Vec<usize>),
    /// The files of an archive, or why it has none.
    Files(Bytes, Result<Vec<File>, String>),
    /// Each item has an input of its own.
    Parts(Vec<Bytes>),
    /// The kernel reads the rows of many items at once.
    Table(Table),
}

/// A file of an archive.
#[derive(Debug)]
struct File {
    name: String,
    contents: Range<usize>,
}

#[derive(Debug)]
struct Table {
    bytes: Bytes,
    /// Books of consecutive items, by the first of them.
    books: Mutex<VecDeque<(u32, Books)>>,
}

type Books = Arc<OnceLock<Vec<Result<Book, Refusal>>>>;

impl Items {
    /// Cuts the input of a pack into the items of a range, for a program or for the built-in kernel; `is_part` says that
    /// of lines or files only those of the range were read.
    pub fn cut(
        pack: Pack,
        range: Range<u32>,
        input: &Contents,
        is_part: bool,
        name: String,
        market: Option<Bytes>,
        is_program: bool,
    ) -> Self {
        let (rows, step) = (pack.rows(&range), pack.rows(&(0..1)).end);
        let (total, source) = match pack.format {
            Format::Whole => (None, Source::Whole(input.bytes.clone())),
            Format::Lines => {
                let before = if is_part { rows.start } else { 0 };
                let (total, bounds) = cut_lines(&input.bytes, &(rows.start - before..rows.end - before), step);
                (Some(before + total), Source::Lines(input.bytes.clone(), bounds))
            }
            Format::Files => {
                let before = if is_part { rows.start } else { 0 };
                let (total, files) = cut_files(&input.bytes, is_part, &(rows.start - before..rows.end - before));
                (Some(before + total), Source::Files(input.bytes.clone(), files))
            }
            Format::Table => {
                let source = if is_program {
                    Source::Parts(table::parts(&input.bytes, &rows, step).into_iter().map(Bytes::from).collect())
                } else {
                    Source::Table(Table { bytes: input.bytes.clone(), books: Mutex::default() })
                };
                (Some(table::rows(&input.bytes)), source)
            }
        };
        Self { pack, range, total, name, content_type: input.content_type.clone(), market, source }
    }

    /// Size of the input in bytes.
    pub fn size(&self) -> usize {
        match &self.source {
            Source::Whole(bytes) | Source::Lines(bytes, _) | Source::Table(Table { bytes, .. }) => bytes.len(),
            Source::Files(bytes, files) => {
                bytes.len() + files.iter().flatten().map(|file| size_of::<File>() + file.name.len()).sum::<usize>()
            }
            Source::Parts(parts) => parts.iter().map(Bytes::len).sum(),
        }
    }

    /// Index of an item, number of items of the pack, and name of the item's file.
    pub fn position(&self, index: u32) -> Position<'_> {
        Position { share: Share { index, count: self.pack.items }, name: self.file(index).map(|file| &*file.name) }
    }

    /// The position of an item in the range.
    fn number(&self, index: u32) -> Option<usize> {
        index.checked_sub(self.range.start).map(|number| number as usize)
    }

    fn file(&self, index: u32) -> Option<&File> {
        let Source::Files(_, Ok(files)) = &self.source else { return None };
        files.get(self.number(index)?)
    }

    /// The rows of an item of a table, counted from 0.
    fn rows(&self, index: u32) -> Option<Range<usize>> {
        let rows = self.pack.rows(&(index..index + 1));
        (self.pack.format == Format::Table).then(|| rows.start..rows.end.min(self.total.unwrap_or(usize::MAX)))
    }

    /// The failure of an item's program. Lines that a program reports are those of its part of a table.
    pub fn located(&self, index: u32, failure: Failure) -> Failure {
        let Some(rows) = self.rows(index) else { return failure };
        let rows = format!("counted from the header of rows {} to {}", rows.start + 1, rows.end);
        Failure { message: format!("{} ({rows} of the table)", failure.message), ..failure }
    }

    /// What an item reads.
    ///
    /// # Errors
    /// When the input does not have the items that the pack says.
    pub fn input(&self, index: u32) -> Result<Bytes, Failure> {
        self.check(index)?;
        let number = self.number(index);
        match &self.source {
            Source::Whole(bytes) | Source::Table(Table { bytes, .. }) => Some(bytes.clone()),
            Source::Lines(bytes, bounds) => number.and_then(|number| match bounds.get(number..number + 2) {
                Some([start, end]) => Some(bytes.slice(start..end)),
                _ => None,
            }),
            Source::Files(bytes, _) => self.file(index).map(|file| bytes.slice(file.contents.clone())),
            Source::Parts(parts) => number.and_then(|number| parts.get(number).cloned()),
        }
        .ok_or_else(|| self.missing(index))
    }

    /// The result of an item that takes no time: one that the built-in kernel only returns.
    pub fn echo(&self, index: u32) -> Option<Result<Output, Failure>> {
        let bytes = self.input(index).ok().filter(|bytes| bytes.len() <= ECHO_MAX)?;
        match self.source {
            Source::Table(_) => None,
            _ => compute::echo(self.described(index, &bytes)),
        }
    }

    /// The result of an item by the built-in kernel. Whatever the bytes of a table are, it is priced.
    ///
    /// # Errors
    /// As [`Items::input`] and [`compute::compute`].
    pub fn compute(&self, index: u32, threads: usize) -> Result<Output, Failure> {
        let bytes = self.input(index)?;
        let share = match &self.source {
            Source::Table(table) => return self.compute_rows(table, index, threads),
            Source::Whole(_) => self.position(index).share,
            Source::Lines(..) | Source::Files(..) | Source::Parts(_) => Share::ALL,
        };
        compute::compute(self.described(index, &bytes), share, threads)
    }

    fn described<'i>(&'i self, index: u32, bytes: &'i [u8]) -> Input<'i> {
        let (name, content_type) = match self.file(index) {
            // As if it were submitted alone.
            Some(file) => (&*file.name, ""),
            None => (&*self.name, &*self.content_type),
        };
        Input { bytes, name, content_type, market: self.market.as_deref() }
    }

    fn compute_rows(&self, table: &Table, index: u32, threads: usize) -> Result<Output, Failure> {
        let step = self.pack.rows_per_item as usize;
        let each = u32::try_from(TRADES_MAX / step).unwrap_or(u32::MAX).max(1);
        let number = index - self.range.start;
        let first = index - number % each;
        let items = first..self.range.end.min(first.saturating_add(each));
        let books = table.books_of(first);
        let read = || kernel::read_items(&table.bytes, &self.pack.rows(&items), step, self.market.as_deref());
        let book = books.get_or_init(read).get((index - first) as usize);
        compute::compute_book(book.ok_or_else(|| self.missing(index))?, threads)
    }

    fn check(&self, index: u32) -> Result<(), Failure> {
        if let Source::Files(_, Err(why)) = &self.source {
            return Err(Failure::permanent("malformed-archive", format!("the archive {why}")));
        }
        let Some(total) = self.total else { return Ok(()) };
        if self.pack.rows(&(index..index + 1)).start >= total {
            return Err(self.missing(index));
        }
        let described = self.pack.rows(&(0..self.pack.items)).end;
        let is_in_last_range =
            self.pack.items.saturating_sub(1) / self.pack.items_per_range == index / self.pack.items_per_range;
        if is_in_last_range && total > described {
            let message = format!(
                "the input has {total} {0}, but the pack describes {described} {0} at most: {1}; submit it again",
                self.unit(),
                self.description()
            );
            return Err(Failure::permanent("pack-mismatch", message));
        }
        Ok(())
    }

    fn missing(&self, index: u32) -> Failure {
        let (total, unit) = (self.total.unwrap_or_default(), self.unit());
        let message = format!(
            "the pack has {}, but its input has {total} {unit}, and none for item {index}; submit it again",
            self.description()
        );
        Failure::permanent("item-missing", message)
    }

    fn description(&self) -> String {
        format!("{} items of {} {}", self.pack.items, self.pack.rows_per_item, self.unit())
    }

    fn unit(&self) -> &'static str {
        match self.pack.format {
            Format::Lines => "lines",
            Format::Files => "files",
            Format::Table | Format::Whole => "rows",
        }
    }
}

impl Table {
    /// The books of the items from `first` on. Items are computed in order, so few chunks are needed at a time.
    fn books_of(&self, first: u32) -> Books {
        let mut kept = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, books)) = kept.iter().find(|(kept, _)| *kept == first) {
            return books.clone();
        }
        kept.truncate(CHUNKS_KEPT - 1);
        let books = Books::default();
        kept.push_front((first, books.clone()));
        books
    }
}

/// The number of lines, and where the items that these lines are begin and end: so many lines each.
fn cut_lines(bytes: &[u8], rows: &Range<usize>, step: usize) -> (usize, Vec<usize>) {
    let (mut total, mut at, mut end, mut bounds) = (0, 0, 0, Vec::new());
    for line in lines(bytes) {
        let start = at;
        at += line.len();
        if rows.contains(&total) {
            end = at;
            if (total - rows.start).is_multiple_of(step) {
                bounds.push(start);
            }
        }
        total += 1;
    }
    bounds.push(end);
    (total, bounds)
}

/// The number of files in an archive, and those of a range.
fn cut_files(bytes: &[u8], is_part: bool, range: &Range<usize>) -> (usize, Result<Vec<File>, String>) {
    let (mut total, mut cut) = (0, Vec::new());
    let read = files::read(bytes, is_part, |file| {
        if range.contains(&total) {
            let at = |position: u64| usize::try_from(position).unwrap_or(bytes.len()).min(bytes.len());
            let contents = at(file.contents.start)..at(file.contents.end);
            cut.push(File { name: file.name, contents });
        }
        total += 1;
    });
    (total, read.map(|_| cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_into_items() {
        let check = |text: &'static str, rows: Range<usize>, step: usize, total: usize, expected: &[&str]| {
            let (lines, bounds) = cut_lines(text.as_bytes(), &rows, step);
            let found: Vec<&str> = bounds.windows(2).map(|bounds| &text[bounds[0]..bounds[1]]).collect();
            assert_eq!((lines, &found[..]), (total, expected));
        };
        check("a\nb\r\n\nd", 0..4, 1, 4, &["a\n", "b\r\n", "\n", "d"]);
        check("a\nb\nc\nd\ne\n", 2..6, 2, 5, &["c\nd\n", "e\n"]);
        check("a\nb\nc\n", 0..2, 2, 3, &["a\nb\n"]);
        check("a\n", 1..2, 1, 1, &[]);
        check("", 0..2, 1, 0, &[]);
    }
}

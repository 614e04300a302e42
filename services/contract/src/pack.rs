//! Packs: input objects with many items. A pack is computed in ranges, aligned slices of its items; each range has its
//! own message, its own execution and its own outcome.

pub mod files;

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::state::{Reason, State};

/// Schema version of the layouts and parts that this program writes.
pub const SCHEMA: u32 = 2;
/// Maximum number of items of a pack.
pub const ITEMS_MAX: u32 = 10_000_000;
/// Maximum number of items of a range.
pub const ITEMS_PER_RANGE_MAX: u32 = 1000;
/// Maximum number of ranges of a pack.
pub const RANGES_MAX: u32 = 100_000;
/// Maximum size of a result that an outcome holds itself, in bytes.
pub const INLINE_RESULT_MAX: usize = 16 * 1024;
/// Maximum size of the log lines of an item in an outcome, in bytes.
pub const ITEM_LOG_MAX: usize = 4 * 1024;
/// Bytes of results, and of log lines, that all items of an outcome share.
const SHARED_BYTES: usize = 2 * 1024 * 1024;

/// Why a compressed pack is refused.
pub const COMPRESSED: &str = "a pack must not be compressed with gzip, since a range is a part of its bytes; decompress it, \
                              and submit it again";

/// Whether the bytes of a pack are compressed with gzip.
pub fn is_compressed(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// How the items stand in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "PackFormat")]
pub enum Format {
    /// A table with a header (RFC 4180): an item is so many rows, and is read with the header.
    Table,
    /// Lines, such as NDJSON: an item is so many lines.
    Lines,
    /// Every item reads the whole object, and differs by its index only.
    Whole,
    /// A tar archive, see [`files`]: an item is one of its files.
    Files,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Table, Self::Lines, Self::Whole, Self::Files];

    /// The word in attributes and metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Lines => "lines",
            Self::Whole => "whole",
            Self::Files => "files",
        }
    }

    /// The format that [`Format::as_str`] calls `word`.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == word)
    }
}

/// The items of a pack, and how they are divided into ranges. Written once as the layout of the pack, before its first
/// range is accepted; only the layout defines ranges.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Pack {
    /// How the items stand in the object.
    pub format: Format,
    /// Number of items.
    pub items: u32,
    /// Items of a range; the last range may have fewer.
    pub items_per_range: u32,
    /// Rows or lines of an item; the last item may have fewer.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub rows_per_item: u32,
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

impl Pack {
    /// A pack of so many items for a business that computes so many ranges at a time: two or more in turn, so that the
    /// last ones end together.
    pub fn new(format: Format, items: u32, rows_per_item: u32, at_once: u32) -> Self {
        let smallest = items.div_ceil(RANGES_MAX).max(1);
        let fair = items.div_ceil(at_once.max(1).saturating_mul(2));
        let items_per_range = fair.clamp(smallest, ITEMS_PER_RANGE_MAX);
        Self { format, items, items_per_range, rows_per_item }
    }

    /// The number of items for so many rows or lines; `None` when it is out of range.
    pub fn items_for(rows: usize, rows_per_item: u32) -> Option<u32> {
        let items = u32::try_from(rows.div_ceil(usize::try_from(rows_per_item.max(1)).ok()?)).ok()?;
        (items <= ITEMS_MAX).then_some(items)
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// The limit that it breaks, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let Self { format, items, items_per_range, rows_per_item } = *self;
        if !(1..=ITEMS_MAX).contains(&items) {
            return Err(format!("a pack has 1 to {ITEMS_MAX} items, not {items}"));
        }
        if !(1..=ITEMS_PER_RANGE_MAX).contains(&items_per_range) {
            return Err(format!("a range has 1 to {ITEMS_PER_RANGE_MAX} items, not {items_per_range}"));
        }
        if items.div_ceil(items_per_range) > RANGES_MAX {
            return Err(format!("a pack has at most {RANGES_MAX} ranges, not {}", items.div_ceil(items_per_range)));
        }
        if rows_per_item == 0 {
            return Err("an item has at least 1 row".to_owned());
        }
        if format == Format::Files && items > files::FILES_MAX {
            return Err(format!("a pack has at most {} files, not {items}", files::FILES_MAX));
        }
        if format == Format::Files && rows_per_item != 1 {
            return Err(format!("an item of files is one file, not {rows_per_item}"));
        }
        Ok(())
    }

    /// The first items of all ranges.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = u32> + use<> {
        let size = self.items_per_range;
        (0..self.items.div_ceil(size)).map(move |range| range * size)
    }

    /// The items of the range that begins with this one; `None` when no range does.
    pub fn range(&self, first: u32) -> Option<Range<u32>> {
        let is_aligned = first < self.items && first.is_multiple_of(self.items_per_range);
        is_aligned.then(|| first..self.items.min(first.saturating_add(self.items_per_range)))
    }

    /// The rows or lines of these items, counted from 0 without the header.
    pub fn rows(&self, items: &Range<u32>) -> Range<usize> {
        let row = |item: u32| (item as usize).saturating_mul(self.rows_per_item as usize);
        row(items.start)..row(items.end)
    }
}

/// A part of the bytes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Span {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub length: u64,
}

/// A pack, and where its ranges are in the object: the contents of the layout object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The pack.
    #[serde(flatten)]
    pub pack: Pack,
    /// Where each range of lines or files begins in a large object, in bytes, and the end of the last one. Empty when every range
    /// reads the whole object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<u64>,
}

impl Layout {
    /// The bytes of the range that begins with this item; `None` when it reads the whole object.
    pub fn span(&self, first: u32) -> Option<Span> {
        let number = usize::try_from(first / self.pack.items_per_range).ok()?;
        let (offset, end) = (*self.starts.get(number)?, *self.starts.get(number + 1)?);
        Some(Span { offset, length: end.checked_sub(offset)? })
    }
}

/// Finds where the ranges of a pack of lines begin, while its bytes come by.
#[derive(Debug)]
pub struct Starts<'p> {
    pack: &'p Pack,
    starts: Vec<u64>,
    /// Bytes and line breaks so far.
    bytes: u64,
    breaks: u64,
    is_within_line: bool,
}

impl<'p> Starts<'p> {
    /// Begins with the first byte.
    pub fn new(pack: &'p Pack) -> Self {
        Self { pack, starts: Vec::new(), bytes: 0, breaks: 0, is_within_line: false }
    }

    /// Further bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let step = u64::from(self.pack.items_per_range) * u64::from(self.pack.rows_per_item);
        for part in lines(bytes) {
            if !self.is_within_line && self.breaks.is_multiple_of(step) && self.starts.len() <= self.pack.ranges().len()
            {
                self.starts.push(self.bytes);
            }
            self.is_within_line = !part.ends_with(b"\n");
            self.bytes += part.len() as u64;
            self.breaks += u64::from(!self.is_within_line);
        }
    }

    /// The starts and the end; empty when the object has more lines than the pack describes, or none for an item: what
    /// is wrong shows where the whole is read.
    pub fn finish(mut self) -> Vec<u64> {
        let lines = self.breaks + u64::from(self.is_within_line);
        let is_described = lines.div_ceil(u64::from(self.pack.rows_per_item)) == u64::from(self.pack.items);
        self.starts.push(self.bytes);
        if is_described { self.starts } else { Vec::new() }
    }
}

/// The lines of a pack of lines, each with its line break; nothing follows the last one.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

/// The number of items that ended in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
#[schemars(rename = "ItemCounts")]
pub struct Counts {
    /// Items with a result.
    pub succeeded: u32,
    /// Items without one.
    pub failed: u32,
    /// Items that a person cancelled.
    pub cancelled: u32,
}

impl Counts {
    /// All items.
    pub fn total(&self) -> u32 {
        self.succeeded + self.failed + self.cancelled
    }

    /// As metadata: `succeeded=998,failed=2,cancelled=0`.
    pub fn encode(&self) -> String {
        format!("succeeded={},failed={},cancelled={}", self.succeeded, self.failed, self.cancelled)
    }

    /// Reads what [`Counts::encode`] wrote.
    pub fn decode(text: &str) -> Option<Self> {
        let mut counts = Self::default();
        for part in text.split(',') {
            let (name, number) = part.split_once('=')?;
            let number = number.parse().ok()?;
            match name {
                "succeeded" => counts.succeeded = number,
                "failed" => counts.failed = number,
                "cancelled" => counts.cancelled = number,
                _ => return None,
            }
        }
        Some(counts)
    }

    /// Counts items.
    pub fn of<'a>(items: impl IntoIterator<Item = &'a Item>) -> Self {
        let mut counts = Self::default();
        for item in items {
            match item.state {
                State::Succeeded => counts.succeeded += 1,
                State::Failed | State::Refused => counts.failed += 1,
                State::Cancelled => counts.cancelled += 1,
            }
        }
        counts
    }
}

/// How one item ended.
#[derive(Clone, Debug, PartialEq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Item {
    /// Its position in the pack, from 0.
    pub index: u32,
    /// The name of its file, in a pack of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it ended.
    pub state: State,
    /// Why it has no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Its last log lines, at most [`ITEM_LOG_MAX`] bytes, when it has no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
    /// Rows that have an error in the result.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub row_errors: u32,
    /// Seconds from its begin to its end, reading and writing aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ItemResult>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Item {
    /// An item without a result.
    pub fn without_result(index: u32, state: State, reason: Reason) -> Self {
        let (name, log_tail, seconds, result) = (None, None, None, None);
        Self { index, name, state, reason: Some(reason), log_tail, row_errors: 0, seconds, result }
    }

    /// Its index and the name of its file, for people: `3` or `3 (a/b.json)`.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{} ({name})", self.index),
            None => self.index.to_string(),
        }
    }

    /// What distinguishes it from the items of other jobs: `JOB[3]` or `JOB/a/b.json`.
    pub fn path(&self, job: &str) -> String {
        match &self.name {
            Some(name) => format!("{job}/{name}"),
            None => format!("{job}[{}]", self.index),
        }
    }
}

/// The result of an item, or where it is.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ItemResult {
    /// Its bytes as text.
    Text {
        /// The result.
        text: String,
        /// Its content type.
        content_type: String,
    },
    /// Its bytes in base64, when they are no text.
    Bytes {
        /// The result.
        base64: String,
        /// Its content type.
        content_type: String,
    },
    /// A part of an object.
    Object {
        /// Name of the object.
        object: String,
        /// Its generation.
        generation: i64,
        /// Where the result begins, in bytes.
        offset: u64,
        /// Its size in bytes.
        length: u64,
        /// Its content type.
        content_type: String,
    },
}

impl ItemResult {
    /// A result that the outcome holds itself.
    pub fn inline(bytes: &[u8], content_type: &str) -> Self {
        let content_type = content_type.to_owned();
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text { text: text.to_owned(), content_type },
            Err(_) => Self::Bytes { base64: STANDARD.encode(bytes), content_type },
        }
    }

    /// Its bytes, when they are here: `None` for a result in an object, and for damaged base64.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text { text, .. } => Some(text.clone().into_bytes()),
            Self::Bytes { base64, .. } => STANDARD.decode(base64).ok(),
            Self::Object { .. } => None,
        }
    }
}

/// The bytes that a result, or the log of an item, may have in an outcome of so many items.
pub fn inline_max(limit: usize, items: usize) -> usize {
    limit.min(SHARED_BYTES / items.max(1))
}

/// The bytes that the result of an item may have in an outcome of so many items; the name of its file is one of them.
pub fn inline_result_max(items: usize, name: Option<&str>) -> usize {
    inline_max(INLINE_RESULT_MAX, items).saturating_sub(name.map_or(0, str::len))
}

/// What an engine records while it computes a range: `output/.../N.json`, N from 0 without a gap, each written once.
/// The first part that records an item decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// The pod.
    pub pod: String,
    /// CPU time of the pod until now, user and system, in seconds.
    pub cpu_seconds: f64,
    /// Items that ended.
    pub items: Vec<Item>,
    /// Items that the pod begins now, and that are in progress until a later part of this pod records them or begins
    /// others. A pod that ends in between was ended by one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<u32>,
    /// The pod stops because it was asked to: no item ended it.
    #[serde(default)]
    pub stopped: bool,
}

/// The items that parts record, each as its first part does, in order of their index.
pub fn recorded<'a>(parts: impl IntoIterator<Item = &'a Part>) -> std::collections::BTreeMap<u32, &'a Item> {
    let mut items = std::collections::BTreeMap::new();
    for item in parts.into_iter().flat_map(|part| &part.items) {
        items.entry(item.index).or_insert(item);
    }
    items
}

#[cfg(test)]
mod tests;

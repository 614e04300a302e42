//! What is wrong with a text, gathered, each with line, column and field.

use std::fmt;

use super::json::SyntaxError;

/// Why an input can never be priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable reason code, lower-case with dashes.
    pub code: &'static str,
    /// What is wrong, for a person.
    pub message: String,
}

/// Problems after which reading stops.
const PROBLEMS_MAX: usize = 20;
/// Bytes of a line up to which columns are counted in characters.
const COUNTED_MAX: usize = 64 * 1024;

/// One thing that is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the text; empty for the input itself.
    pub source: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Field, like `trades[2].strike`; empty for the whole text.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// The problem at a byte offset of the text.
    pub fn new(text: &str, at: usize, field: String, message: String) -> Self {
        Lines::new(text).problem(at, field, message)
    }

    /// The problem of a text that is not JSON.
    pub fn syntax(text: &str, error: SyntaxError) -> Self {
        Self::new(text, error.at, error.path, error.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(f, "{}, ", self.source)?;
        }
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Where the lines of a text begin.
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// The lines of a text.
    pub fn new(text: &'t str) -> Self {
        // Lines end as those of tables do: with a line feed, a carriage return, or both.
        let bytes = text.as_bytes();
        let ends = |at: &usize| bytes[*at] == b'\n' || bytes[*at] == b'\r' && bytes.get(at + 1) != Some(&b'\n');
        let starts = (0..bytes.len()).filter(ends).map(|at| at + 1);
        Self { text, starts: std::iter::once(0).chain(starts).collect() }
    }

    /// The line of a byte offset, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).max(1)
    }

    /// The text of a line, with its end.
    pub fn text(&self, line: usize) -> &'t str {
        let start = line.checked_sub(1).and_then(|line| self.starts.get(line)).copied().unwrap_or(self.text.len());
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        self.text.get(start..end).unwrap_or_default()
    }

    /// The problem at a byte offset of the text.
    pub fn problem(&self, at: usize, field: String, message: String) -> Problem {
        let line = self.line(at);
        let start = self.starts[line - 1];
        // On a line that no person reads, bytes are counted.
        let before = self.text.get(start..at).filter(|before| before.len() < COUNTED_MAX);
        let column = before.map_or(at.saturating_sub(start), |before| before.chars().count()) + 1;
        Problem { source: "", line, column, field, message }
    }
}

/// Gathers problems while values are read.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    found: Vec<(usize, String, String)>,
}

impl Problems {
    /// True when nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order of the text.
    pub fn in_order(mut self, lines: &Lines<'_>) -> Vec<Problem> {
        self.found.sort_by_key(|(at, _, _)| *at);
        self.found.into_iter().map(|(at, field, message)| lines.problem(at, field, message)).collect()
    }

    /// Adds those of a part of the text.
    pub fn extend(&mut self, part: Self) {
        for (at, field, message) in part.found {
            self.add(at, field, message);
        }
    }

    /// True when so much is wrong that reading on tells nothing new.
    pub fn is_full(&self) -> bool {
        self.found.len() >= PROBLEMS_MAX
    }

    pub(super) fn add(&mut self, at: usize, field: String, message: String) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push((at, field, message));
        }
    }
}

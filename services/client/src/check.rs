//! Checks whether an input can be computed, before it is submitted: each problem with its line and field. Pure.

use contract::{config::Business, pack};
use kernel::{
    Format,
    pricing::{
        problem::{Lines, Problem},
        read,
    },
};
use serde::Serialize;
use sessions::results::grouped;

/// Bytes of the largest input that is checked beforehand; the engine checks larger ones. Reading a hostile text of this
/// size takes about 250 MiB, so one is read at a time.
pub(crate) const MAX_CHECKED: usize = 8 * 1024 * 1024;
/// Characters of a line that are shown.
const LINE_SHOWN: usize = 160;
/// Trades whose errors are listed.
const BROKEN_SHOWN: usize = 10;

/// An input that is to be submitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its content type, if it is known.
    pub(crate) content_type: &'a str,
    /// All of its bytes.
    pub(crate) bytes: &'a [u8],
    /// The market data that would be read with it.
    pub(crate) market: Market<'a>,
    /// It is a table whose rows are divided between items.
    pub(crate) is_split: bool,
}

/// The market data beside an input.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Market<'a> {
    /// There is none.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// There is market data that cannot be read here.
    Elsewhere,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// It can be priced.
    Good {
        /// One line about it.
        summary: String,
        /// Trades that would have an error in the result, each with its error.
        broken: Vec<String>,
    },
    /// It cannot be checked beforehand.
    Unchecked {
        /// Why.
        summary: String,
    },
    /// It can never be computed.
    Wrong {
        /// One line about it.
        summary: String,
        /// Its problems, in the order of the text.
        problems: Vec<InputProblem>,
    },
}

/// One problem of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct InputProblem {
    /// Name of the text when it is not the input itself.
    pub(crate) source: String,
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
    /// Field, like `trades[2].strike`; empty for the whole text.
    pub(crate) field: String,
    /// The problem.
    pub(crate) message: String,
    /// The line, shortened.
    pub(crate) text: String,
}

impl Verdict {
    fn unchecked(summary: impl Into<String>) -> Self {
        Self::Unchecked { summary: summary.into() }
    }
}

/// Checks an input as the engine of a business will.
pub(crate) fn check(business: &Business, candidate: Candidate<'_>) -> Verdict {
    let Candidate { name, content_type, bytes, market, is_split } = candidate;
    if is_split && pack::is_compressed(bytes) {
        return Verdict::Wrong { summary: pack::COMPRESSED.to_owned(), problems: Vec::new() };
    }
    if !business.engine.command.is_empty() {
        return Verdict::unchecked(format!("{} runs a program of its own, which checks its inputs", business.name));
    }
    // Only a table is split by rows, whatever it is called.
    let asked = if is_split { Some(Format::Csv) } else { kernel::asked(bytes, name, content_type) };
    let Some(format) = asked else {
        let summary = "no book and no table of trades: the engine only describes such an input";
        return Verdict::unchecked(if bytes.is_empty() {
            "it is empty; the engine only describes such an input"
        } else {
            summary
        });
    };
    if bytes.len() > MAX_CHECKED {
        return Verdict::unchecked(too_large());
    }
    let market = match market {
        Market::None => None,
        Market::Bytes(bytes) => Some(bytes),
        Market::Elsewhere => {
            return match format {
                Format::Csv => read::check_ids(bytes).err().map(|problems| wrong(&problems, bytes, None)),
                Format::Json => None,
            }
            .unwrap_or_else(|| Verdict::unchecked("it is read together with the session's shared data"));
        }
    };
    match read::parse(bytes, format, market) {
        Ok(book) => {
            let trades = counted(book.trades.len(), "trade", "trades");
            let kind = if format == Format::Csv { "table" } else { "book" };
            let broken = book.broken.iter().map(|broken| format!("{}: {}", broken.id, broken.error));
            let mut summary = format!("{kind} of {trades}, {} paths each", grouped(book.paths));
            if !book.broken.is_empty() {
                summary.push_str(&format!("; {} with an error", counted(book.broken.len(), "more", "more")));
            }
            Verdict::Good { summary, broken: broken.take(BROKEN_SHOWN).collect() }
        }
        Err(problems) => wrong(&problems, bytes, market),
    }
}

fn wrong(problems: &[Problem], bytes: &[u8], market: Option<&[u8]>) -> Verdict {
    let found = problems.iter().map(|problem| input_problem(problem, bytes, market)).collect::<Vec<_>>();
    let summary = format!("{} in it", counted(found.len(), "problem", "problems"));
    Verdict::Wrong { summary, problems: found }
}

/// The summary for an input that is too large to be checked beforehand.
pub(crate) fn too_large() -> String {
    format!("larger than {} MiB: the engine checks it", MAX_CHECKED / 1024 / 1024)
}

fn input_problem(problem: &Problem, input: &[u8], market: Option<&[u8]>) -> InputProblem {
    let (text, _) = read::readable(if problem.source.is_empty() { input } else { market.unwrap_or_default() });
    let line = Lines::new(&text).text(problem.line);
    // The part around the column, when the line is long.
    let skip = problem.column.saturating_sub(LINE_SHOWN / 2);
    let shown: String = line.trim_end().chars().skip(skip).take(LINE_SHOWN).collect();
    InputProblem {
        source: problem.source.to_owned(),
        line: problem.line,
        column: problem.column,
        field: problem.field.clone(),
        message: problem.message.clone(),
        text: if skip > 0 { format!("…{shown}") } else { shown },
    }
}

/// A number and its noun.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count as u64), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests;

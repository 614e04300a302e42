//! The table of all codes: error codes, reason codes and exit codes, each with its cause and its fix.

use std::fmt;

mod errors;
mod exits;
mod reasons;

/// A code, its cause and its fix.
type Entry = (&'static str, &'static str, &'static str);

/// A code of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Code {
    /// The code, as in `error[CODE]`.
    pub(crate) code: &'static str,
    /// Where it is used.
    pub(crate) kind: Kind,
    /// Its cause.
    pub(crate) cause: &'static str,
    /// What to do.
    pub(crate) fix: &'static str,
}

/// Where a code is used. A word can be a code of several kinds, such as `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// In an error of a verb.
    Error,
    /// In the outcome of a Job, or in the state of a Job that waits or runs.
    Reason,
    /// As the exit code of a program.
    Exit,
}

impl Kind {
    fn entries(self) -> &'static [Entry] {
        match self {
            Self::Error => errors::ERRORS,
            Self::Reason => reasons::REASONS,
            Self::Exit => exits::EXITS,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Reason => "reason",
            Self::Exit => "exit",
        })
    }
}

/// All codes, by kind and name.
pub(crate) fn all() -> impl Iterator<Item = Code> {
    [Kind::Error, Kind::Reason, Kind::Exit]
        .into_iter()
        .flat_map(|kind| kind.entries().iter().map(move |&(code, cause, fix)| Code { code, kind, cause, fix }))
}

#[cfg(test)]
mod tests;

//! A failure that the user can act on. Its code is stable, and `cargo xtask explain` describes it.

use std::fmt;

/// What happened, on what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable code, lower-case with dashes.
    pub code: &'static str,
    /// What happened.
    pub what: String,
    /// On what.
    pub on: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub next: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, on, why, next, .. } = self;
        write!(f, "{what} ({on}): {why}; {next}")
    }
}

impl std::error::Error for Failure {}

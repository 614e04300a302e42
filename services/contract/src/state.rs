//! How a Job or an item ended, and why.

use serde::{Deserialize, Serialize};

/// How a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, schemars::JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "OutcomeState")]
pub enum State {
    /// The result exists and the input is deleted.
    Succeeded,
    /// It has no result and is not retried automatically; the input is kept.
    Failed,
    /// A person cancelled it; the input is kept.
    Cancelled,
    /// Its message could not become a Job.
    Refused,
}

impl State {
    /// The word for people and for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        }
    }

    /// The state that [`State::as_str`] calls `word`.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::Cancelled, Self::Refused].into_iter().find(|state| state.as_str() == word)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a Job ended as it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code, lower-case with dashes; `explain` explains each.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
}

//! The state of a Job, for readers.

use contract::outcome;
use serde::{Deserialize, Serialize};

/// The state of a Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, schemars::JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "JobState")]
pub enum State {
    /// Its input exists, and its Kubernetes Job was not created yet.
    Waiting,
    /// It has a Kubernetes Job and no outcome.
    Running,
    /// It has a result.
    Succeeded,
    /// It has no result; its outcome says why.
    Failed,
    /// A person cancelled it.
    Cancelled,
    /// Its message could not be accepted.
    Refused,
    /// Its input is older than outcomes are kept, and it has no outcome. It is not known whether it ran. It runs only
    /// after a retry.
    Expired,
}

impl State {
    /// Every state, in the order a Job goes through them.
    pub const ALL: [Self; 7] =
        [Self::Waiting, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Refused, Self::Expired];

    /// The word for people and for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => outcome::State::Succeeded.as_str(),
            Self::Failed => outcome::State::Failed.as_str(),
            Self::Cancelled => outcome::State::Cancelled.as_str(),
            Self::Refused => outcome::State::Refused.as_str(),
            Self::Expired => "expired",
        }
    }

    /// The state that [`State::as_str`] calls `word`.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl From<outcome::State> for State {
    fn from(state: outcome::State) -> Self {
        match state {
            outcome::State::Succeeded => Self::Succeeded,
            outcome::State::Failed => Self::Failed,
            outcome::State::Cancelled => Self::Cancelled,
            outcome::State::Refused => Self::Refused,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

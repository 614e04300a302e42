//! How a run can fail, and the termination message that says so.

use contract::{exit, outcome::Termination};

/// Limit of a termination message, in bytes; Kubernetes keeps no more.
pub const TERMINATION_MAX: usize = 4096;

/// Reason code of a run that a signal stopped.
pub const STOPPED: &str = "stopped";

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// True when the same input can never work, so that no retry is made.
    pub permanent: bool,
    /// Stable reason code, lower-case with dashes.
    pub code: &'static str,
    /// The error, for a person.
    pub message: String,
}

impl Failure {
    /// The same input can never work.
    pub fn permanent(code: &'static str, message: impl Into<String>) -> Self {
        Self { permanent: true, code, message: message.into() }
    }

    /// A retry may succeed.
    pub fn transient(code: &'static str, message: impl Into<String>) -> Self {
        Self { permanent: false, code, message: message.into() }
    }

    /// The engine was asked to stop.
    pub fn stopped() -> Self {
        Self::transient(STOPPED, "the engine received SIGTERM")
    }

    /// The exit code of the engine for this failure.
    pub fn exit_code(&self) -> u8 {
        if self.permanent { exit::PERMANENT } else { exit::TRANSIENT }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::transient("engine-error", format!("failed to {error:#}"))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// The termination message as JSON that fits, whatever the message's length.
pub fn termination(code: &str, message: &str, cpu_seconds: f64) -> String {
    let encode = |message: &str| {
        let termination = Termination { code: code.to_owned(), message: message.to_owned(), cpu_seconds };
        serde_json::to_string(&termination).unwrap_or_default()
    };
    let whole = encode(message);
    if whole.len() <= TERMINATION_MAX {
        return whole;
    }
    // A byte of text takes at most six bytes of JSON.
    let mut kept = message.len().min(TERMINATION_MAX);
    loop {
        while !message.is_char_boundary(kept) {
            kept -= 1;
        }
        let shortened = encode(&format!("{}…", &message[..kept]));
        if shortened.len() <= TERMINATION_MAX || kept == 0 {
            return shortened;
        }
        kept -= (shortened.len() - TERMINATION_MAX).div_ceil(6).min(kept);
    }
}

#[cfg(test)]
mod tests;

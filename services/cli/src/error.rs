//! Errors for people: what failed, on what, why, what to do, and a stable code.

use std::fmt;

use contract::exit;

/// An error that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// Stable code, lower-case with dashes.
    pub code: &'static str,
    /// What failed.
    pub what: String,
    /// On what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Exit code.
    pub exit: u8,
}

impl Failure {
    /// A failure of a verb (exit 1).
    pub fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), on: None, why: None, next: None, exit: exit::FAILED }
    }

    /// Wrong usage (exit 64).
    pub fn usage(what: impl Into<String>) -> Self {
        Self { exit: exit::USAGE, ..Self::new("usage", what) }
    }

    /// The failure that an error of a command line is reported as.
    pub(crate) fn of_usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let (what, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        let what: Vec<&str> = what.trim_start_matches("error: ").split_whitespace().collect();
        Self::usage(what.join(" ")).next(rest.trim())
    }

    /// Sets on what it failed.
    pub fn on(mut self, on: impl Into<String>) -> Self {
        self.on = Some(on.into());
        self
    }

    /// Sets why it failed.
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Sets what to do.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.what)?;
        for (label, text) in [("on", &self.on), ("why", &self.why), ("next", &self.next)] {
            if let Some(text) = text {
                write!(f, "\n  {:<5} {}", format!("{label}:"), text.replace('\n', "\n        "))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// The failure that an error is reported as: its code, its causes and what to do.
pub fn explain(error: &anyhow::Error) -> Failure {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.clone();
    }
    let (code, next) = classify(error);
    let mut causes = chain(error);
    let failure = Failure::new(code, causes.remove(0));
    let failure = if causes.is_empty() { failure } else { failure.why(causes.join(": ")) };
    if next.is_empty() { failure } else { failure.next(next) }
}

/// The messages of an error and its causes, outermost first, without causes that an earlier message repeats.
pub fn chain(error: &anyhow::Error) -> Vec<String> {
    let mut messages = vec![error.to_string()];
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !messages.iter().any(|before| before.contains(&cause)) {
            messages.push(cause);
        }
    }
    messages
}

/// What to do without usable credentials.
pub const CREDENTIALS: &str = "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a \
                           credentials file";
/// What to do when a service does not answer.
pub const UNREACHABLE: &str =
    "check that the service is up: `cargo xtask local status` for a laptop cloud, else the network and the proxy";
const CLUSTER: &str = "check that the cluster is up, and that `kubectl get pods` works with the same context";

/// The code of an error, and what to do.
fn classify(error: &anyhow::Error) -> (&'static str, &'static str) {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<google_cloud_gax::error::Error>() {
            return classify_google(error);
        }
        if let Some(google_cloud_pubsub::error::PublishError::Rpc(error)) = cause.downcast_ref() {
            return classify_google(error);
        }
        if let Some(error) = cause.downcast_ref::<kube::Error>() {
            return match error {
                kube::Error::Api(status) if status.is_forbidden() || status.code == 401 => (
                    "cluster-denied",
                    "your account lacks a permission on the cluster; `kubectl auth can-i --list` shows its permissions",
                ),
                kube::Error::Api(status) if status.is_not_found() => ("not-found", ""),
                kube::Error::Api(_) => ("cluster-refused", ""),
                _ => ("cluster-unreachable", CLUSTER),
            };
        }
        if cause.is::<google_cloud_gax::error::CredentialsError>() {
            return ("credentials", CREDENTIALS);
        }
    }
    ("failed", "")
}

fn classify_google(error: &google_cloud_gax::error::Error) -> (&'static str, &'static str) {
    use google_cloud_gax::error::rpc::Code;
    let code = error.status().map(|status| status.code);
    match error.http_status_code() {
        _ if error.is_authentication() => ("credentials", CREDENTIALS),
        Some(401) => ("credentials", CREDENTIALS),
        Some(403) => ("denied", "ask for the role of a client of this business, or use credentials that have it"),
        Some(404) => ("not-found", "`cargo xtask provision` creates missing resources"),
        _ if code == Some(Code::Unauthenticated) => ("credentials", CREDENTIALS),
        _ if code == Some(Code::PermissionDenied) => {
            ("denied", "ask for the role of a client of this business, or use credentials that have it")
        }
        _ if code == Some(Code::NotFound) => ("not-found", "`cargo xtask provision` creates missing resources"),
        _ if error.is_connect() || error.is_io() || error.is_transport() || code == Some(Code::Unavailable) => {
            ("unreachable", UNREACHABLE)
        }
        _ if error.is_timeout() || error.is_exhausted() => ("timeout", UNREACHABLE),
        _ => ("failed", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_on_what_why_and_what_to_do() {
        let failure = Failure::new("no-such-job", "there is no job x").on("bu1").why("a\nb").next("list them");
        assert_eq!(
            failure.to_string(),
            "error[no-such-job]: there is no job x\n  on:   bu1\n  why:  a\n        b\n  next: list them"
        );
        let error = anyhow::Error::new(failure.clone()).context("somewhere");
        assert_eq!(explain(&error), failure);
    }

    #[test]
    fn an_unforeseen_error_keeps_its_chain() {
        let error = anyhow::anyhow!("inner").context("middle").context("read the file");
        let failure = explain(&error);
        assert_eq!((failure.code, failure.what.as_str(), failure.exit), ("failed", "read the file", exit::FAILED));
        assert_eq!(failure.why.as_deref(), Some("middle: inner"));
        let repeating = anyhow::anyhow!("inner").context("outer because of inner");
        assert_eq!(chain(&repeating), ["outer because of inner"]);
    }

    #[test]
    fn wrong_usage_exits_64() {
        assert_eq!(Failure::usage("x").exit, 64);
    }
}

//! What an answer of the API server means for the message it was asked for. Pure.

use std::time::Duration;

use kube::core::Status;

use crate::metrics::retry;

/// What an answer to a create means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is an object of that name already.
    Exists,
    /// Try again, not before `after`; the reason is a value of the metric's label.
    Retry { reason: &'static str, after: Duration },
    /// Not the message's fault, and the same for every message: what is wrong, for a person.
    OurFault(String),
    /// The object was judged and found wrong. Whether the message or the template is to blame, a dry run of the bare
    /// template tells.
    Rejected(String),
}

/// Tells what an error of the API server means for a create.
pub(crate) fn classify(error: &kube::Error) -> Answer {
    match error {
        kube::Error::Api(status) => classify_status(status),
        // The request was not made, or its answer never came; the Job may exist.
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => unavailable(),
        // The answer came and was not what a create answers; a proxy in between, say.
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => unavailable(),
        kube::Error::Auth(error) => Answer::OurFault(format!("authenticate to the API server: {error}")),
        other => Answer::OurFault(other.to_string()),
    }
}

fn unavailable() -> Answer {
    Answer::Retry { reason: retry::UNAVAILABLE, after: Duration::ZERO }
}

fn classify_status(status: &Status) -> Answer {
    let after = Duration::from_secs(status.details.as_ref().map_or(0, |details| details.retry_after_seconds).into());
    let retry = |reason| Answer::Retry { reason, after };
    let message = status.message.as_str();
    let about = status.details.as_ref().map(|details| details.kind.as_str()).unwrap_or_default();
    match status.code {
        409 if status.reason == "AlreadyExists" => Answer::Exists,
        // Two creates changed the same quota object; also any other conflict of a create is a matter of timing.
        409 => retry(retry::QUOTA),
        403 if message.contains("exceeded quota") || about == "resourcequotas" => retry(retry::QUOTA),
        // The quota's status is computed a moment after the quota object was made.
        403 if message.contains("status unknown for quota") => retry(retry::QUOTA),
        401 | 403 | 404 => Answer::OurFault(explain(status)),
        // Admission by webhook or policy may use any code; what it denies is a matter of this cluster's rules.
        _ if is_admission(message) => Answer::OurFault(explain(status)),
        429 => retry(retry::THROTTLED),
        400 | 413 | 422 => Answer::Rejected(explain(status)),
        408 | 500.. => retry(retry::UNAVAILABLE),
        _ => Answer::OurFault(explain(status)),
    }
}

fn is_admission(message: &str) -> bool {
    (message.contains("admission webhook") && message.contains("denied the request"))
        || message.contains("ValidatingAdmissionPolicy")
}

/// The server's own words, with its code.
fn explain(status: &Status) -> String {
    match status.reason.as_str() {
        "" => format!("{} ({})", status.message, status.code),
        reason => format!("{} ({} {reason})", status.message, status.code),
    }
}

#[cfg(test)]
mod tests;

//! Classifies the API server's answers to a create. Pure.

use std::time::Duration;

use kube::core::Status;

use crate::metrics::retry;

/// The meaning of an answer to a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An object of that name exists.
    Exists,
    /// Retry, not before `after`; the reason is a value of the metric's label.
    Retry { reason: &'static str, after: Duration },
    /// Every message would have the same answer: the error, for a person.
    OurFault(String),
    /// The object is invalid. A dry run of the bare template shows whether the message or the template is the cause.
    Rejected(String),
}

/// Classifies an error of a create.
pub(crate) fn classify(error: &kube::Error) -> Answer {
    match error {
        kube::Error::Api(status) => classify_status(status),
        // The request failed, or its answer never arrived; the Job may exist. What is no answer to a create may come from
        // a proxy.
        kube::Error::HyperError(_)
        | kube::Error::Service(_)
        | kube::Error::ReadEvents(_)
        | kube::Error::SerdeError(_)
        | kube::Error::FromUtf8(_) => Answer::Retry { reason: retry::UNAVAILABLE, after: Duration::ZERO },
        kube::Error::Auth(error) => Answer::OurFault(format!("authenticate to the API server: {error}")),
        other => Answer::OurFault(other.to_string()),
    }
}

fn classify_status(status: &Status) -> Answer {
    let after = Duration::from_secs(status.details.as_ref().map_or(0, |details| details.retry_after_seconds).into());
    let retry = |reason| Answer::Retry { reason, after };
    let message = status.message.as_str();
    let about = status.details.as_ref().map(|details| details.kind.as_str()).unwrap_or_default();
    match status.code {
        409 if status.reason == "AlreadyExists" => Answer::Exists,
        // Two creates changed the same quota object; any other conflict of a create is transient too.
        409 => retry(retry::QUOTA),
        403 if message.contains("exceeded quota") || about == "resourcequotas" => retry(retry::QUOTA),
        // The quota's status is computed a moment after the quota is created.
        403 if message.contains("status unknown for quota") => retry(retry::QUOTA),
        401 | 403 | 404 => Answer::OurFault(explain(status)),
        // Admission by webhook or policy may use any code; a denial comes from the cluster's rules, not from the
        // message.
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

/// The server's message, with its code.
fn explain(status: &Status) -> String {
    match status.reason.as_str() {
        "" => format!("{} ({})", status.message, status.code),
        reason => format!("{} ({} {reason})", status.message, status.code),
    }
}

#[cfg(test)]
mod tests;

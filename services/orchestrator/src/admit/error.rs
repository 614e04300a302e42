//! Why an attempt to admit a message failed.

use std::time::Duration;

use cloud::storage;
use contract::message::Refusal;

use crate::{
    cluster::answers::{Answer, classify},
    metrics::retry,
};

/// Why an attempt to admit a message failed.
#[derive(Clone, Debug)]
pub(crate) enum AdmitError {
    /// A retry may succeed.
    Transient { reason: &'static str, after: Duration, why: String },
    /// The deployment is at fault, so every message would fail.
    OurFault(String),
    /// Only this message fails, and a person has to act; the message is nacked.
    Stuck(String),
    /// Only this message fails, and always will: it is refused.
    Refused(Refusal),
    /// The process stops.
    Stopping,
}

impl From<anyhow::Error> for AdmitError {
    /// These errors come from Cloud Storage or from reading a Job, not from creating one. Denied access never counts as
    /// a missing object.
    fn from(error: anyhow::Error) -> Self {
        let why = format!("{error:#}");
        if storage::is_denied(&error) {
            return Self::OurFault(why);
        }
        match error.downcast_ref::<kube::Error>().map(classify) {
            Some(Answer::Retry { reason, after }) => Self::Transient { reason, after, why },
            Some(_) => Self::OurFault(why),
            None => Self::Transient { reason: retry::STORAGE, after: Duration::ZERO, why },
        }
    }
}

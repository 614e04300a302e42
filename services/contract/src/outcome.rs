//! The outcome: the one durable record of how a Job ended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Identity, labels,
    message::Work,
    pack::{Item, ItemResult},
};

mod ranges;
pub mod stored;

pub use crate::state::{Reason, State};

/// Schema version of the outcomes of single inputs; those of ranges have [`crate::pack::SCHEMA`].
pub const SCHEMA: u32 = 1;
/// Maximum size of the log in an outcome, in bytes.
pub const LOG_TAIL_BYTES: usize = 64 * 1024;

/// The times of the steps of a Job, as far as they happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Timestamps {
    /// Pub/Sub accepted the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// The orchestrator received the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<Timestamp>,
    /// The Kubernetes Job was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// The last pod was given a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Timestamp>,
    /// The last pod's container started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// The last pod's container finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// This outcome was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Timestamp>,
}

/// The one durable record of how a Job ended.
#[derive(Clone, Debug, PartialEq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Outcome {
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// What it is the outcome of. Absent for a refused message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Business.
    pub business: String,
    /// How it ended.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// Exit code of the last container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// End of the last container's log, at most [`LOG_TAIL_BYTES`]; kept for Jobs that did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
    /// Times.
    pub timestamps: Timestamps,
    /// Name of the Kubernetes Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_job: Option<String>,
    /// Node of the last pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Image of the last pod, with its digest if the cluster reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// CPU time of the engine, user and system, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Rows that have an error in the result, of a Job that succeeded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub row_errors: u32,
    /// The result of a single input, when the outcome holds it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ItemResult>,
    /// How each item of a range ended; empty for a single input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
    /// Pods that were started.
    #[serde(default)]
    pub pods: u32,
    /// Pub/Sub message that made the Job, or that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The refused message itself: its bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_data: Option<String>,
    /// The refused message's attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_attributes: Option<std::collections::BTreeMap<String, String>>,
}

impl Outcome {
    /// An outcome with the parts that every outcome has.
    pub fn new(business: &str, state: State, code: &str, message: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            work: None,
            business: business.to_owned(),
            state,
            reason: Reason { code: code.to_owned(), message: message.into() },
            exit_code: None,
            log_tail: None,
            timestamps: Timestamps::default(),
            kubernetes_job: None,
            node: None,
            image: None,
            cpu_seconds: None,
            row_errors: 0,
            result: None,
            items: Vec::new(),
            pods: 0,
            message_id: None,
            message_data: None,
            message_attributes: None,
        }
    }

    /// Identity of the Job, if it was one.
    pub fn identity(&self) -> Option<&Identity> {
        self.work.as_ref().map(|work| &work.identity)
    }

    /// Metadata for the outcome's object, so that a listing has the state.
    pub fn metadata(&self) -> std::collections::BTreeMap<String, String> {
        let row_errors = (labels::METADATA_ROW_ERRORS.to_owned(), self.row_errors.to_string());
        let always = [
            (labels::METADATA_STATE.to_owned(), self.state.as_str().to_owned()),
            (labels::METADATA_REASON.to_owned(), self.reason.code.clone()),
        ];
        let items = (labels::METADATA_ITEMS.to_owned(), self.counts().encode());
        let items = (!self.items.is_empty()).then_some(items);
        always.into_iter().chain((self.row_errors > 0).then_some(row_errors)).chain(items).collect()
    }

    /// The small message for the events topic: attributes only, so that subscribers can filter on them.
    pub fn event(&self) -> std::collections::BTreeMap<String, String> {
        let mut attributes = std::collections::BTreeMap::from([
            ("business".to_owned(), self.business.clone()),
            ("state".to_owned(), self.state.as_str().to_owned()),
            ("reason".to_owned(), self.reason.code.clone()),
        ]);
        if let Some(work) = &self.work {
            attributes.insert("session".to_owned(), work.session.clone());
            attributes.insert("job".to_owned(), work.job.clone());
            attributes.insert("generation".to_owned(), work.identity.generation.to_string());
            attributes.insert("attempt".to_owned(), work.identity.attempt.to_string());
            if let Some(range) = work.range() {
                attributes.insert("first".to_owned(), range.start.to_string());
                attributes.insert("count".to_owned(), range.len().to_string());
            }
        }
        if let Some(id) = &self.message_id {
            attributes.insert("message-id".to_owned(), id.clone());
        }
        attributes
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The number of rows with an error that the metadata of a result or an outcome names.
pub fn row_errors(metadata: &std::collections::BTreeMap<String, String>) -> u32 {
    metadata.get(labels::METADATA_ROW_ERRORS).and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// What the engine writes as its termination message, at most 4,096 bytes of JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    /// Reason code.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// CPU time, user and system, in seconds.
    #[serde(default)]
    pub cpu_seconds: f64,
}

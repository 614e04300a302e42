//! What the API server, the controllers and the nodes share.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    events::{Occurrence, Recorder, Weight},
    kinds::Kind,
    rbac::Used,
    signer::Signer,
    store::Store,
    users::Tokens,
};
use crate::{
    clock::Clock,
    node::{images::Images, logs::Logs},
};

/// The state of one cluster.
pub struct Cluster {
    /// The objects.
    pub store: Store,
    /// The clock of every deadline.
    pub clock: Clock,
    /// Signs the tokens of service accounts.
    pub signer: Signer,
    /// Who else may come in.
    pub tokens: Tokens,
    /// What users made use of.
    pub used: Used,
    /// What was recorded about objects.
    pub recorder: Recorder,
    /// The programs that pods may run.
    pub images: Images,
    /// The logs that are being written.
    pub logs: Logs,
    /// Where pods, certificates and images live.
    pub folder: PathBuf,
    /// First delay before a failed pod or container is tried again; doubles each time.
    pub retry_base: Duration,
    /// Ends every controller and node.
    pub stop: CancellationToken,
    /// Everything that runs in the background.
    pub tasks: TaskTracker,
}

impl Cluster {
    /// Records an event about an object; the same one again raises its count.
    pub fn event(
        &self,
        kind: &Kind,
        about: &Value,
        weight: Weight,
        reason: &'static str,
        message: impl Into<String>,
        component: &str,
    ) {
        let event = Occurrence { kind, about, weight, reason, message: message.into(), component };
        self.recorder.record(&self.store, self.clock.now(), event);
    }
}

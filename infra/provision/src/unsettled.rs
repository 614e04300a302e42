//! Kubernetes Jobs of a business whose outcome only its orchestrator can still write.

use anyhow::Context as _;
use contract::labels;
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, Client, api::ListParams};
use serde::Serialize;

/// Kubernetes Jobs of a business that have no outcome yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unsettled {
    /// They run, or wait for a node.
    pub active: usize,
    /// They ended.
    pub ended: usize,
}

impl Unsettled {
    /// All of them.
    pub fn total(&self) -> usize {
        self.active + self.ended
    }
}

/// The Kubernetes Jobs in a namespace that still wait for their outcome.
///
/// # Errors
/// When the cluster does not answer.
pub async fn unsettled(client: &Client, namespace: &str) -> anyhow::Result<Unsettled> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let list = jobs.list(&of_engines()).await.with_context(|| format!("list the Jobs in {namespace}"))?;
    let mut unsettled = Unsettled::default();
    for job in list.items {
        if !job.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == labels::FINALIZER) {
            continue;
        }
        let conditions = job.status.and_then(|status| status.conditions).unwrap_or_default();
        let ended = conditions
            .iter()
            .any(|condition| condition.status == "True" && ["Complete", "Failed"].contains(&condition.type_.as_str()));
        match ended {
            true => unsettled.ended += 1,
            false => unsettled.active += 1,
        }
    }
    Ok(unsettled)
}

/// The Jobs that an orchestrator made.
pub(crate) fn of_engines() -> ListParams {
    ListParams::default().labels(&format!("{}={}", labels::APP, labels::APP_ENGINE))
}

//! Applies the rendered objects to the cluster and waits until they run, or reports why they do not.
//!
//! One step plans everything without a write: namespaces, Secrets, keys, objects, and what is no longer wanted. The
//! rest carries out that plan and nothing else, in small steps: apply the namespaces, make the Secrets, open each set,
//! apply what is new or different, wait for the rollouts, take away what is no longer wanted, close each set. Killed at
//! any of them, the next deploy sees what is there and goes on; with nothing to do it writes nothing.

use std::{collections::BTreeSet, fmt};

use kube::Client;
use serde::Serialize;

use crate::manifests::Rendered;

pub mod access;
pub mod applyset;
mod certificates;
mod compare;
mod event;
mod failure;
mod former_pools;
mod keys;
pub(crate) mod live;
mod moved;
mod options;
pub(crate) mod owned;
mod plan;
mod preview;
pub(crate) mod reach;
mod refusal;
mod rollback;
mod rollout;
mod rollouts;
mod run;
pub(crate) mod wait;
mod write;

pub use event::{Event, Progress};
pub use keys::rotation;
pub(crate) use live::ORCHESTRATOR;
pub use live::{live_images, live_web_images};
pub use moved::check_unmoved;
pub use options::{Only, Options};
pub use plan::{Plan, plan};
pub use preview::{ChangeView, Planned, Preview, PreviewOptions, preview_rendered};
pub use reach::FIELD_MANAGER;
pub use refusal::Conflict;
pub use rollout::{CONFIG_HASH, Cause, Happening, On, Patience, Refusal, Seen, Verdict, Why, verdict};
pub use run::{Report, carry_out, run};
pub use wait::{Failed, LIMIT, Rollout, wait, wait_for};

/// Label on a namespace: the environment it belongs to.
pub(crate) const ENVIRONMENT: &str = "deskgrid.dev/environment";

/// What happened to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Kind.
    pub kind: String,
    /// Namespace, for what lives in one.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// What happened.
    pub change: Change,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        write!(f, "{} {namespace}{}", self.kind, self.name)
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is new.
    Created,
    /// It was there and is different now.
    Changed,
    /// It was there and is as it was.
    Unchanged,
    /// It was there and is gone, since neither the environment nor the templates have it any longer.
    Pruned,
}

impl Change {
    /// What is to be done.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Created => "create",
            Self::Changed => "change",
            Self::Unchanged => "keep",
            Self::Pruned => "delete",
        }
    }
}

/// What to do with a namespace of our name that somebody else made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Foreign {
    /// Stop before anything is written.
    #[default]
    Refuse,
    /// Make it ours. One that belongs to another environment is refused all the same.
    Adopt,
}

impl Foreign {
    /// What the flag `--adopt` asks for.
    pub fn adopt(flag: bool) -> Self {
        if flag { Self::Adopt } else { Self::Refuse }
    }
}

/// Applies every object that is new or different, server-side and in order; then deletes what was applied before and
/// is no longer wanted. Writes nothing when nothing is to be done.
///
/// # Errors
/// When a namespace of our name or a field is somebody else's, before anything is written; or when the API server
/// refuses an object.
pub async fn apply(
    client: &Client,
    environment: &str,
    rendered: &Rendered,
    foreign: Foreign,
) -> anyhow::Result<Vec<Applied>> {
    let how = PreviewOptions { foreign, force_conflicts: false };
    let preview = preview_rendered(client, environment, rendered, None, how).await?;
    preview.check()?;
    let mut applied = write::apply_namespaces(client, &preview).await?;
    applied.extend(write::apply_members(client, &preview).await?);
    applied.extend(write::prune(client, &preview).await?);
    Ok(applied)
}

/// Everything that goes when these namespaces of an environment are deleted.
///
/// # Errors
/// When the API server refuses.
pub async fn going(client: &Client, environment: &str, namespaces: &[String]) -> anyhow::Result<Vec<ChangeView>> {
    let going = applyset::going(client, environment, namespaces).await?;
    Ok(going.into_iter().map(ChangeView::from).collect())
}

/// Every namespace that objects are in.
fn namespaces(rendered: &Rendered) -> BTreeSet<String> {
    let names = rendered.objects().filter_map(|object| object["metadata"]["namespace"].as_str());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;

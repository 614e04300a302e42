//! Events of a running deploy.

use std::sync::Arc;

use serde::Serialize;
use tokio::time::Instant;

use super::Applied;

/// What happens during a deployment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// An object is in the cluster.
    Applied(Applied),
    /// A new key of an account is in its Secret.
    Key {
        /// Email of the account.
        account: String,
    },
    /// A new certificate of a pool is in its Secret.
    Certificate {
        /// The name that it is for.
        name: String,
    },
    /// What is no longer deployed has no key any more.
    KeyGone {
        /// Email of the account.
        account: String,
    },
    /// A token for the web apps was made.
    Token,
    /// A rollout is waited for.
    Waiting {
        /// Deployment, as `namespace/name`.
        deployment: String,
    },
    /// A rollout waits on something.
    Delayed {
        /// Deployment, as `namespace/name`.
        deployment: String,
        /// On what.
        why: String,
    },
    /// A rollout is done.
    Ready {
        /// Deployment, as `namespace/name`.
        deployment: String,
        /// Milliseconds it took.
        elapsed_ms: u64,
    },
    /// A rollout cannot succeed.
    Failed {
        /// Deployment, as `namespace/name`.
        deployment: String,
        /// Why.
        why: String,
    },
    /// The rollback begins.
    RollingBack,
    /// An object was rolled back.
    RolledBack {
        /// What.
        what: String,
    },
}

/// Receives every event; must not block.
pub type Progress = Arc<dyn Fn(Event) + Send + Sync>;

/// Milliseconds since `started`.
pub(super) fn elapsed_ms(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

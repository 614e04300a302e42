//! Kubernetes Engine: clusters, node pools and operations, in front of the one cluster that the laptop has.
//!
//! The laptop's Kubernetes always runs. A cluster is listed here once somebody creates it, and its address and
//! authority are those of that Kubernetes, whatever its name.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    google::error::{Error, Result},
    identity::{Identity, Target, principal::Principal},
};

mod clusters;
mod network;
mod nodes;
mod operation;
mod pools;
pub mod rest;
pub(crate) mod shape;

use operation::{Effect, Operation};

/// Where the laptop's Kubernetes is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Host and port of the API server.
    pub endpoint: String,
    /// Authority that its clients trust, as PEM.
    pub ca_pem: String,
}

/// What is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Clusters by `LOCATION/NAME`.
    clusters: BTreeMap<String, Value>,
    /// Operations by `LOCATION/NAME`.
    operations: BTreeMap<String, Operation>,
}

/// The API.
#[derive(Debug)]
pub struct Container {
    identity: Arc<Identity>,
    enforce_apis: bool,
    takes: Duration,
    access: OnceLock<Access>,
    state: Mutex<State>,
    changes: AtomicU64,
}

impl Container {
    /// No clusters. Every operation takes as long as `takes`.
    pub fn new(identity: Arc<Identity>, enforce_apis: bool, takes: Duration) -> Self {
        Self {
            identity,
            enforce_apis,
            takes,
            access: OnceLock::new(),
            state: Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// Says where the Kubernetes is; clusters have no address before. Only the first call counts.
    pub fn attach(&self, access: Access) {
        let _ = self.access.set(access);
    }

    /// Counts changes, so that who saves knows whether to.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A copy of everything, to be saved.
    pub fn snapshot(&self) -> State {
        self.lock().clone()
    }

    /// Puts saved state in place of the present one.
    pub fn restore(&self, state: State) {
        *self.lock() = state;
    }

    /// Whether one of the clusters is an Autopilot one.
    pub fn is_autopilot(&self) -> bool {
        self.current().clusters.values().any(|cluster| cluster["autopilot"]["enabled"] == true)
    }

    /// The state as of now: what the operations that have ended meanwhile do is done.
    fn current(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let now = self.identity.clock.now();
        let ended: Vec<Effect> =
            state.operations.values_mut().filter_map(|operation| operation.take_effect(now)).collect();
        for effect in ended {
            effect.apply(&mut state.clusters);
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        let uses_pool = |cluster: &Value| {
            cluster["status"] != "PROVISIONING" && cluster["workloadIdentityConfig"]["workloadPool"].is_string()
        };
        if state.clusters.values().any(uses_pool) {
            self.identity.open_pool();
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a caller without the permission, in Kubernetes Engine's words.
    fn need(&self, caller: &Principal, permission: &str, location: &str, resource: &str) -> Result<()> {
        let project = self.identity.project();
        if self.identity.allowed(caller, permission, &Target::project(project)) {
            return Ok(());
        }
        let resource = match resource {
            "" => format!("projects/{project}"),
            name => format!("projects/{project}/locations/{location}/clusters/{name}"),
        };
        Err(Error::forbidden(format!("Required \"{permission}\" permission(s) for \"{resource}\"."))
            .without_permission("container.googleapis.com", permission, &resource))
    }
}

#[cfg(test)]
mod tests;

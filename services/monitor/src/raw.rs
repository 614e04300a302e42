//! The latest state of one business from watches and listings. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use cloud::storage::Object;
use contract::{control::Control, identity::Identity, object, pool_report::Report};
use inspect::cluster::{OrchestratorView, PodView};
use sessions::jobs::{Active, Objects, SUSPENDED};

/// The part of one of our Kubernetes Jobs that the monitor needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    /// The Job or the range of a pack that it computes.
    pub(crate) active: Option<Active>,
    /// Our finalizer is still on it: its outcome is not written.
    pub(crate) is_held: bool,
}

/// A Pod, with its program and its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) view: PodView,
    pub(crate) app: String,
    pub(crate) cpu_millis: u64,
    pub(crate) memory_bytes: u64,
}

/// The latest state of one business.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) jobs: HashMap<String, Held>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) objects: Objects,
    pub(crate) controls: BTreeMap<String, Control>,
    pub(crate) orchestrator: Option<OrchestratorView>,
    pub(crate) quotas: Vec<Quota>,
    pub(crate) full_quotas: Vec<String>,
    /// What the orchestrators report of the pool.
    pub(crate) pool: Vec<Report>,
    pub(crate) pubsub: Vec<PubsubItem>,
    /// Names of the Jobs in the listing that is in progress.
    pub(crate) listing: Option<Vec<String>>,
    /// Services that do not answer, each with its error.
    pub(crate) errors: BTreeMap<&'static str, String>,
    pub(crate) listed: Option<Instant>,
    /// Outcomes that were written since the last listing, as the cluster shows.
    pub(crate) settled: Vec<(String, Option<String>)>,
}

/// One limit of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
pub(crate) struct Quota {
    pub(crate) name: String,
    pub(crate) resource: String,
    pub(crate) used: String,
    pub(crate) hard: String,
}

/// A topic or a subscription with its settings.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
pub(crate) struct PubsubItem {
    /// `topic`, `subscription`.
    pub(crate) kind: &'static str,
    /// Its purpose.
    pub(crate) role: &'static str,
    pub(crate) name: String,
    /// Name and value of each setting; empty when it could not be read.
    pub(crate) settings: Vec<(String, String)>,
    /// Why it could not be read.
    #[serde(rename = "trouble")]
    pub(crate) error: String,
}

impl Raw {
    /// Records a Kubernetes Job; returns whether that changes anything.
    pub(crate) fn shown(&mut self, business: &str, bucket: &str, name: &str, held: Held) -> bool {
        let before = self.jobs.get(name);
        if before == Some(&held) {
            return false;
        }
        if before.is_some_and(|before| before.is_held) && !held.is_held {
            self.note_settled(business, bucket, &held);
        }
        self.jobs.insert(name.to_owned(), held);
        true
    }

    /// Records that a Kubernetes Job was deleted; returns whether that changes anything.
    pub(crate) fn gone(&mut self, business: &str, bucket: &str, name: &str) -> bool {
        let Some(held) = self.jobs.remove(name) else { return false };
        if held.is_held {
            self.note_settled(business, bucket, &held);
        }
        true
    }

    fn note_settled(&mut self, business: &str, bucket: &str, held: &Held) {
        if let Some(active) = &held.active {
            let identity = Identity {
                bucket: bucket.to_owned(),
                object: object::input(business, &active.session, &active.job),
                generation: active.generation,
                first: active.first,
                attempt: active.attempt,
            };
            let outcome = object::outcome(business, &active.session, &active.job, &identity);
            // The input of a pack goes with its last range only.
            self.settled.push((outcome, Some(identity.object).filter(|_| active.first.is_none())));
        }
    }

    /// Records an outcome that was read by its name. A Job that succeeded has no input any more.
    pub(crate) fn add_outcome(&mut self, outcome: Object, input: Option<&str>) {
        let succeeded =
            outcome.metadata.get(contract::labels::METADATA_STATE).is_some_and(|state| state == "succeeded");
        if let (true, Some(input)) = (succeeded, input) {
            self.objects.inputs.retain(|object| object.name != input);
        }
        match self.objects.outcomes.iter_mut().find(|existing| existing.name == outcome.name) {
            Some(existing) => *existing = outcome,
            None => self.objects.outcomes.push(outcome),
        }
    }

    /// Jobs with a Kubernetes Job.
    pub(crate) fn active(&self) -> Vec<Active> {
        self.jobs.values().filter_map(|held| held.active.clone()).collect()
    }

    /// Kubernetes Jobs without an outcome that may have pods.
    pub(crate) fn running(&self) -> usize {
        let may_run =
            |held: &&Held| held.is_held && held.active.as_ref().is_some_and(|job| job.reason.code != SUSPENDED);
        self.jobs.values().filter(may_run).count()
    }

    /// Records that a service answers; returns whether it did not before.
    pub(crate) fn recovered(&mut self, service: &'static str) -> bool {
        self.errors.remove(service).is_some()
    }

    /// Records why a service does not answer; returns whether that is new.
    pub(crate) fn failed(&mut self, service: &'static str, error: String) -> bool {
        self.errors.insert(service, error.clone()) != Some(error)
    }
}

//! What was last seen of one business, as the watches and the listings tell it. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use common::{
    control::Control,
    identity::Identity,
    jobs::{Active, Objects},
    object,
    storage::Object,
};
use inspect::cluster::{OrchestratorView, PodView};

/// A Kubernetes Job of ours, in the few words that are kept of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    /// What it computes: one Job, or the inputs of a batch.
    pub(crate) active: Vec<Active>,
    /// Our finalizer is still on it: its outcome is not written.
    pub(crate) is_held: bool,
}

/// A Pod, with what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) view: PodView,
    pub(crate) app: String,
    pub(crate) cpu_millis: u64,
    pub(crate) memory_bytes: u64,
}

/// What was last seen of one business.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) jobs: HashMap<String, Held>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) objects: Objects,
    pub(crate) controls: BTreeMap<String, Control>,
    pub(crate) orchestrator: Option<OrchestratorView>,
    pub(crate) quotas: Vec<Quota>,
    pub(crate) full_quotas: Vec<String>,
    pub(crate) pubsub: Vec<PubsubItem>,
    /// Names that the listing that is under way has shown.
    pub(crate) listing: Option<Vec<String>>,
    /// What does not answer, by its name, with why.
    pub(crate) troubles: BTreeMap<&'static str, String>,
    pub(crate) listed: Option<Instant>,
    /// Outcomes that were written since the last listing, as far as the cluster told of them.
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

/// A topic or a subscription and how it is set.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, serde::Serialize)]
pub(crate) struct PubsubItem {
    /// `topic`, `subscription`.
    pub(crate) kind: &'static str,
    /// What it is for.
    pub(crate) role: &'static str,
    pub(crate) name: String,
    /// Name and value of each setting; empty when it could not be read.
    pub(crate) settings: Vec<(String, String)>,
    /// Why it could not be read.
    pub(crate) trouble: String,
}

impl Raw {
    /// A Kubernetes Job as it is now; tells whether that changes anything.
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

    /// A Kubernetes Job is gone.
    pub(crate) fn gone(&mut self, business: &str, bucket: &str, name: &str) -> bool {
        let Some(held) = self.jobs.remove(name) else { return false };
        if held.is_held {
            self.note_settled(business, bucket, &held);
        }
        true
    }

    fn note_settled(&mut self, business: &str, bucket: &str, held: &Held) {
        for active in &held.active {
            let identity = Identity {
                bucket: bucket.to_owned(),
                object: object::input(business, &active.session, &active.job),
                generation: active.generation,
                attempt: active.attempt,
            };
            let outcome = object::outcome(business, &active.session, &active.job, &identity);
            self.settled.push((outcome, Some(identity.object)));
        }
    }

    /// An outcome that was looked up by its name. What succeeded has no input any more.
    pub(crate) fn add_outcome(&mut self, outcome: Object, input: Option<&str>) {
        let succeeded = outcome.metadata.get(common::labels::METADATA_STATE).is_some_and(|state| state == "succeeded");
        if let (true, Some(input)) = (succeeded, input) {
            self.objects.inputs.retain(|object| object.name != input);
        }
        match self.objects.outcomes.iter_mut().find(|known| known.name == outcome.name) {
            Some(known) => *known = outcome,
            None => self.objects.outcomes.push(outcome),
        }
    }

    /// Everything that has a Kubernetes Job.
    pub(crate) fn active(&self) -> Vec<Active> {
        self.jobs.values().flat_map(|held| held.active.iter().cloned()).collect()
    }

    /// Notes that a part answers again; tells whether it did not before.
    pub(crate) fn recovered(&mut self, part: &'static str) -> bool {
        self.troubles.remove(part).is_some()
    }

    /// Notes why a part does not answer; tells whether that is news.
    pub(crate) fn trouble(&mut self, part: &'static str, why: String) -> bool {
        self.troubles.insert(part, why.clone()) != Some(why)
    }
}

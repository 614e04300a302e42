//! Batches: many inputs of one session that one Indexed Job computes.
//!
//! A [`Manifest`] in the bucket lists the inputs, and its name is a hash of its contents. The Job carries a [`Batch`]:
//! the place of its manifest, and the number of indexes that share it. Index `i` of `n` computes the inputs at the
//! positions `i`, `i + n`, ... and writes a [`Report`] of them. A pod that dies writes none; the next pod of its index
//! skips the inputs that have a result.

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{message::Work, names, object};

/// Schema version of the batches, manifests and reports that this program writes.
pub const SCHEMA: u32 = 1;
/// Maximum number of inputs of a batch.
pub const INPUTS_MAX: usize = 1000;
/// Prefix of the name of a batch's Kubernetes Job; a hash follows.
const JOB_PREFIX: &str = "batch-";
/// Characters of the hash.
const HASH_CHARS: usize = 32;

/// A batch, as its Kubernetes Job carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// Bucket of manifest, inputs and results.
    pub bucket: String,
    /// Business.
    pub business: String,
    /// Session of all its inputs.
    pub session: String,
    /// Hash of the manifest's bytes.
    pub hash: String,
    /// Number of inputs.
    pub inputs: u32,
    /// Number of indexes that share them.
    pub indexes: u32,
}

/// The inputs of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// The inputs, in the order of their messages.
    pub entries: Vec<Entry>,
}

/// One input of a batch, and the message it came by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The work.
    pub work: Work,
    /// Pub/Sub message.
    pub message_id: String,
    /// When Pub/Sub accepted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// When the orchestrator received it.
    pub received: Timestamp,
}

/// The results of a pod: the done and the failed inputs of its index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// The pod.
    pub pod: String,
    /// CPU time of the pod, user and system, in seconds.
    pub cpu_seconds: f64,
    /// Inputs whose result exists.
    pub done: Vec<Done>,
    /// Inputs without a result.
    pub failed: Vec<Failed>,
}

/// An input whose result exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Its position in the manifest.
    pub input: u32,
    /// When the pod began it.
    pub started: Timestamp,
    /// When its result was written.
    pub finished: Timestamp,
    /// Rows that have an error in the result; absent when another pod wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_errors: Option<u32>,
}

/// An input without a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Its position in the manifest.
    pub input: u32,
    /// When the pod began it.
    pub started: Timestamp,
    /// When it failed.
    pub finished: Timestamp,
    /// True when it can never work.
    pub permanent: bool,
    /// Reason code.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// The last lines that were logged for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
}

impl Manifest {
    /// A manifest of these inputs.
    pub fn new(entries: Vec<Entry>) -> Self {
        Self { schema: SCHEMA, entries }
    }

    /// Its bytes, and the hash of them that names it.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn encode(&self) -> anyhow::Result<(Vec<u8>, String)> {
        let bytes = serde_json::to_vec(self).context("encode the manifest of a batch")?;
        let hash = hash(&bytes);
        Ok((bytes, hash))
    }

    /// Reads the manifest of `batch`, and checks its hash.
    ///
    /// # Errors
    /// When its bytes were changed, or have a later schema version.
    pub fn decode(bytes: &[u8], batch: &Batch) -> anyhow::Result<Self> {
        if hash(bytes) != batch.hash {
            bail!("the manifest {} was changed: its contents do not match its name", batch.manifest());
        }
        let manifest: Self =
            serde_json::from_slice(bytes).with_context(|| format!("parse the manifest {}", batch.manifest()))?;
        if manifest.schema > SCHEMA {
            bail!(
                "the manifest {} has schema version {}, this program knows {SCHEMA}",
                batch.manifest(),
                manifest.schema
            );
        }
        Ok(manifest)
    }
}

fn hash(bytes: &[u8]) -> String {
    names::hash_bytes(bytes, HASH_CHARS)
}

impl Batch {
    /// Name of its Kubernetes Job.
    pub fn job_name(&self) -> String {
        format!("{JOB_PREFIX}{}", self.hash)
    }

    /// Name of its manifest.
    pub fn manifest(&self) -> String {
        object::manifest(&self.business, &self.hash)
    }

    /// Name of the report of a pod.
    pub fn report(&self, index: u32, pod: &str) -> String {
        format!("{}{index}-{pod}.json", self.reports())
    }

    /// Prefix of the names of its reports.
    pub fn reports(&self) -> String {
        format!("{}{}/", object::report_prefix(&self.business), self.hash)
    }

    /// The index that computes the input at a position.
    pub fn index_of(&self, input: u32) -> u32 {
        input % self.indexes.max(1)
    }

    /// Positions of the inputs that an index computes.
    pub fn inputs_of(&self, index: u32) -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator + use<> {
        let step = self.indexes.max(1);
        let count = self.inputs.saturating_sub(index).div_ceil(step);
        (0..count).map(move |turn| index + turn * step)
    }
}

/// True for the name of a batch's Kubernetes Job.
pub fn is_job_name(name: &str) -> bool {
    name.starts_with(JOB_PREFIX)
}

/// Name of the Kubernetes Job that a manifest or a report belongs to.
pub fn job_of_object(business: &str, object: &str) -> Option<String> {
    let manifest = object.strip_prefix(&object::manifest_prefix(business)).and_then(|rest| rest.strip_suffix(".json"));
    let report = object.strip_prefix(&object::report_prefix(business)).and_then(|rest| rest.split_once('/'));
    let hash = manifest.or(report.map(|(hash, _)| hash))?;
    Some(format!("{JOB_PREFIX}{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(inputs: u32, indexes: u32) -> Batch {
        Batch {
            schema: SCHEMA,
            bucket: "b".into(),
            business: "bu1".into(),
            session: "s".into(),
            hash: "0".repeat(32),
            inputs,
            indexes,
        }
    }

    #[test]
    fn every_input_belongs_to_exactly_one_index() {
        for (inputs, indexes) in [(1, 1), (7, 3), (6, 3), (2, 5), (1000, 4)] {
            let batch = batch(inputs, indexes);
            let mut all: Vec<u32> = (0..indexes).flat_map(|index| batch.inputs_of(index)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..inputs).collect::<Vec<_>>());
            for index in 0..indexes {
                assert!(batch.inputs_of(index).all(|input| batch.index_of(input) == index));
            }
        }
    }

    #[test]
    fn names_lead_back_to_the_job() {
        let batch = batch(1, 1);
        assert!(names::is_dns_label(&batch.job_name()) && batch.job_name().len() <= 52);
        for object in [batch.manifest(), batch.report(0, "pod-x")] {
            assert_eq!(job_of_object("bu1", &object), Some(batch.job_name()));
            assert!(object::parse_input("bu1", &object).is_err() && object::parse_outcome("bu1", &object).is_none());
        }
        assert_eq!(job_of_object("bu1", "bu1/common/s/x.json"), None);
    }

    #[test]
    fn a_manifest_that_was_changed_is_not_taken() {
        let manifest = Manifest::new(vec![]);
        let (bytes, hash) = manifest.encode().unwrap();
        let batch = Batch { hash, ..batch(0, 1) };
        assert_eq!(Manifest::decode(&bytes, &batch).unwrap(), manifest);
        assert!(Manifest::decode(b"{\"schema\":1,\"entries\":[] }", &batch).is_err());
    }
}

//! The few fields of a Job that the watch decodes, so that listing thousands of Jobs needs little memory.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use contract::labels;
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::batch::v1::Job,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// Whether and how a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has not ended.
    Active,
    /// Its condition `Complete` is true.
    Complete,
    /// Its condition `Failed` is true.
    Failed,
}

/// What is known of the submission of a Job without reading it, so that a cancel reads only Jobs that it may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Submission {
    /// Hash of the label of its session (see [`label_hash`]).
    pub(crate) session: u64,
    /// Hash of the label of its job; `None` for a batch.
    pub(crate) job: Option<u64>,
    /// When its message was published, if known.
    pub(crate) published: Option<Timestamp>,
}

/// Hash of the value of a label.
pub(crate) fn label_hash(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The watched fields of a Job.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Watched {
    #[serde(deserialize_with = "trimmed")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Spec {
    suspend: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trimmed {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

fn trimmed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let Trimmed {
        name,
        namespace,
        uid,
        resource_version,
        deletion_timestamp,
        finalizers,
        labels: own_labels,
        mut annotations,
    } = Trimmed::deserialize(deserializer)?;
    annotations.iter_mut().for_each(|all| all.retain(|name, _| name == labels::ANNOTATION_PUBLISHED));
    Ok(ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        deletion_timestamp,
        finalizers,
        labels: own_labels,
        annotations,
        ..ObjectMeta::default()
    })
}

impl Watched {
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn phase(&self) -> Phase {
        phase(self.status.conditions.iter().flatten().map(|condition| (&*condition.kind, &*condition.status)))
    }

    pub(crate) fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// What is known of its submission.
    pub(crate) fn submission(&self) -> Submission {
        let label = |name: &str| self.metadata.labels.as_ref().and_then(|all| all.get(name)).map(String::as_str);
        let published = self.metadata.annotations.as_ref().and_then(|all| all.get(labels::ANNOTATION_PUBLISHED));
        Submission {
            session: label_hash(label(labels::SESSION).unwrap_or_default()),
            job: label(labels::JOB).map(label_hash),
            published: published.and_then(|time| time.parse().ok()),
        }
    }

    /// Whether it waits for its queue.
    pub(crate) fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// Whether it has our finalizer.
    pub(crate) fn is_held(&self) -> bool {
        self.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == contract::labels::FINALIZER)
    }
}

/// Whether and how a Job with these conditions (type and status) ended.
pub(crate) fn phase<'a>(conditions: impl IntoIterator<Item = (&'a str, &'a str)>) -> Phase {
    for condition in conditions {
        match condition {
            ("Complete", "True") => return Phase::Complete,
            ("Failed", "True") => return Phase::Failed,
            _ => {}
        }
    }
    Phase::Active
}

impl Resource for Watched {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Job::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Job::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Job::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Job::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

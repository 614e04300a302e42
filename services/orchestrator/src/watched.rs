//! The few fields of a Job that the watch decodes, so that listing thousands of Jobs needs little memory.

use std::borrow::Cow;

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
}

fn trimmed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let Trimmed { name, namespace, uid, resource_version, deletion_timestamp, finalizers } =
        Trimmed::deserialize(deserializer)?;
    Ok(ObjectMeta { name, namespace, uid, resource_version, deletion_timestamp, finalizers, ..ObjectMeta::default() })
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

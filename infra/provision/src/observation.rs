//! The state of the live cloud as the provisioner read it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::resource::Id;

/// The state of one resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Live {
    /// It does not exist.
    Absent,
    /// It does, and this is it in the API's own JSON.
    Present(Value),
    /// The read was denied; says why.
    Denied(String),
    /// There is no such thing here at all: an emulator has no IAM.
    Unsupported,
}

/// What exists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Every resource that was asked for.
    pub live: BTreeMap<Id, Live>,
    /// Resources of this environment that were not asked for.
    pub extra: BTreeMap<Id, Value>,
    /// Other environments of the project that something listed belongs to, with the namespaces that they seem to use.
    pub others: BTreeMap<String, BTreeSet<String>>,
    /// Resources that count against a limit, by the name of what has the limit: notifications of a bucket.
    pub counts: BTreeMap<String, usize>,
    /// The number of the project, if a grant depends on it.
    pub project_number: Option<String>,
    /// The accounts of the nodes of the cluster as members of policies, if there is one.
    pub node_members: BTreeSet<String>,
}

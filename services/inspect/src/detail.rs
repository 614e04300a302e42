//! The details of one Job.

use std::collections::BTreeMap;

use cloud::storage::Object;
use contract::{
    Outcome,
    control::{Control, Parked},
    pack::Item,
    pool_report::InPool,
};
use serde::Serialize;
use sessions::{jobs::Job, results::Row};

use crate::{
    cluster::{EventView, OrchestratorView, PodView},
    timeline::Moment,
};

/// All details of one Job.
#[derive(Clone, Debug, schemars::JsonSchema, Serialize)]
#[schemars(rename = "JobDetail")]
pub struct Detail {
    /// The Job.
    #[serde(flatten)]
    pub job: Job,
    /// Why it is in its state, in a sentence or two.
    pub explanation: String,
    /// The times of its steps, in order.
    pub timeline: Vec<Moment>,
    /// Its outcome, once it has one; of a pack, that of the first range without success.
    pub outcome_body: Option<Outcome>,
    /// Of a pack, the first items that ended without a result.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed_items: Vec<Item>,
    /// Number of further such items.
    pub failed_items_left_out: usize,
    /// Its input, while it exists.
    pub input_object: Option<Stored>,
    /// Its result objects; of a pack, those of the same range.
    pub results: Vec<Stored>,
    /// Its Pods, as long as the cluster keeps them.
    pub pods: Vec<PodView>,
    /// Where its items are in the pool, while some are in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_pool: Option<InPool>,
    /// Its events in the cluster.
    pub events: Vec<EventView>,
    /// Its last log lines.
    pub log: Option<String>,
    /// The first rows of its result.
    pub preview: Vec<Row>,
    /// Number of further rows; of a pack of many ranges, at least so many.
    pub preview_left_out: usize,
    /// The orchestrator of its business.
    pub orchestrator: Option<OrchestratorView>,
    /// Jobs of the business that have a Kubernetes Job and no outcome.
    pub running: usize,
    /// Maximum number of such Jobs.
    pub max_active_jobs: u32,
    /// The control object of its session.
    pub control: Option<Control>,
    /// Its message, when a pause parked it.
    pub parked: Option<Parked>,
    /// Quotas of the namespace that are used up.
    pub full_quotas: Vec<String>,
    /// Other runs with the same session and id: earlier inputs of that name.
    pub others: Vec<Job>,
    /// Sessions that have a Job of the same id.
    pub other_sessions: Vec<String>,
    /// Why details from the cluster are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_trouble: Option<String>,
}

/// An object in the bucket.
#[derive(Clone, Debug, schemars::JsonSchema, Serialize)]
#[schemars(rename = "Object")]
pub struct Stored {
    /// Name.
    pub name: String,
    /// Generation.
    pub generation: i64,
    /// Bytes.
    pub size: i64,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
}

impl From<Object> for Stored {
    fn from(object: Object) -> Self {
        Self { name: object.name, generation: object.generation, size: object.size, metadata: object.metadata }
    }
}

//! Work as version 1 wrote it: a Job that is split into tasks, where there are packs now.

use serde::Deserialize;

use super::Resources;
use crate::{
    Identity,
    pack::{Format, Pack, Span},
};

/// The fields of work, today's and those of version 1.
#[derive(Deserialize, schemars::JsonSchema)]
#[schemars(rename = "StoredWork")]
pub(super) struct Work {
    #[serde(flatten)]
    identity: Identity,
    business: String,
    session: String,
    job: String,
    client: Option<String>,
    pack: Option<Pack>,
    /// Number of tasks when the Job is split.
    tasks: Option<u32>,
    /// The input is a table, and each task computes so many of its rows.
    rows_per_task: Option<u32>,
    only: Option<Vec<u32>>,
    span: Option<Span>,
    #[serde(default)]
    priority: bool,
    #[serde(default)]
    common: Vec<String>,
    #[serde(default)]
    resources: Resources,
}

impl From<Work> for super::Work {
    fn from(stored: Work) -> Self {
        let Work {
            identity,
            business,
            session,
            job,
            client,
            pack,
            tasks,
            rows_per_task,
            only,
            span,
            priority,
            common,
            resources,
        } = stored;
        let format = if rows_per_task.is_some() { Format::Table } else { Format::Whole };
        // Each task had a pod of its own.
        let of_tasks = |tasks| Pack::new(format, tasks, rows_per_task.unwrap_or(1), tasks);
        let pack = pack.or(tasks.map(of_tasks));
        Self { identity, business, session, job, client, pack, only, span, priority, common, resources }
    }
}

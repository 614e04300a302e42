//! The batches that version 1 left, each an Indexed Job that computes many inputs.

use anyhow::Context as _;
use contract::{labels, message::Work};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde::Deserialize;

use crate::base::Base;

/// The part of a batch that names its manifest.
#[derive(Debug, Deserialize)]
struct Batch {
    hash: String,
}

/// The inputs of a batch.
#[derive(Debug, Deserialize)]
struct Manifest {
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    work: Work,
    published: Option<Timestamp>,
}

/// Whether a Job computes many inputs.
pub(crate) fn is_batch(job: &Job) -> bool {
    annotation(job).is_some()
}

fn annotation(job: &Job) -> Option<&String> {
    job.metadata.annotations.as_ref()?.get(labels::ANNOTATION_BATCH)
}

/// Requeues the inputs of a batch that ended, with the options of their messages. Those with an outcome are duplicates,
/// and the engine finds the results of the others. Without a manifest, the sweep requeues them.
pub(crate) async fn requeue_batch(base: &Base, job: &Job) -> anyhow::Result<()> {
    let Some(batch) = annotation(job).and_then(|text| serde_json::from_str::<Batch>(text).ok()) else { return Ok(()) };
    let (bucket, name) = (&base.business.bucket, format!("{}/common/.batch/{}.json", base.business.name, batch.hash));
    let Some((manifest, body)) = base.store.read(bucket, &name, None).await? else { return Ok(()) };
    match serde_json::from_slice::<Manifest>(&body) {
        Ok(Manifest { entries }) => {
            let requeued = entries.iter().map(|entry| base.requeue(&entry.work, entry.published));
            futures::future::try_join_all(requeued.collect::<Vec<_>>()).await?;
            tracing::info!(inputs = entries.len(), "requeued the inputs of a batch of version 1");
        }
        Err(error) => tracing::error!(object = name, "failed to read the manifest of a batch: {error}"),
    }
    base.store.delete(bucket, &name, manifest.generation).await.context("delete the manifest of a batch").map(drop)
}

//! Reads the reports of a batch's pods, a few at the same time, within a memory limit for all batches.

use std::collections::HashSet;

use contract::batch::{Batch, Report};
use futures::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{base::Base, batch_outcome::Reports, outcome::JobState};

/// Memory limit of the reports of all batches that are settled at the same time, in KiB. A batch with larger reports is
/// settled alone.
const MEMORY_MAX_KIB: u32 = 32 * 1024;
/// Reports of a batch that are read at the same time.
const CONCURRENCY: usize = 4;

/// The memory for reports, a permit for each KiB.
#[derive(Debug)]
pub(super) struct ReportMemory(Semaphore);

impl Default for ReportMemory {
    fn default() -> Self {
        Self(Semaphore::new(MEMORY_MAX_KIB as usize))
    }
}

impl ReportMemory {
    /// How many permits reports of this size need.
    fn permits(bytes: i64) -> u32 {
        u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).clamp(1, MEMORY_MAX_KIB)
    }

    /// The reports of the pods, and the permit for their memory. A report that cannot be read is ignored, since the
    /// results say which inputs are done.
    pub(super) async fn read<'a>(
        &'a self,
        base: &Base,
        batch: &Batch,
        state: JobState,
        settled: &HashSet<u32>,
    ) -> anyhow::Result<(Reports, SemaphorePermit<'a>)> {
        let listed = base.store.list(&batch.bucket, &batch.reports()).await?;
        let permit = self.0.acquire_many(Self::permits(listed.iter().map(|object| object.size).sum())).await?;
        let mut reports = Reports::default();
        let reads: Vec<_> = listed.iter().map(|object| base.store.read(&batch.bucket, &object.name, None)).collect();
        let mut reads = futures::stream::iter(reads).buffered(CONCURRENCY);
        while let Some(read) = reads.next().await {
            let Some((object, text)) = read? else { continue };
            match serde_json::from_slice::<Report>(&text) {
                Ok(report) => reports.add(report, state, settled),
                Err(error) => tracing::warn!(object = object.name, "failed to read a report of a batch: {error}"),
            }
        }
        Ok((reports, permit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_with_larger_reports_takes_the_whole_memory() {
        assert_eq!([0, 100, 1024 * 1024, i64::MAX].map(ReportMemory::permits), [1, 1, 1025, MEMORY_MAX_KIB]);
    }
}

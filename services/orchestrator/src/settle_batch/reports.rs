//! Reads what the pods of a batch reported, few reports at a time, within what all batches together may hold.

use std::collections::HashSet;

use contract::batch::{Batch, Report};
use futures::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{batch_outcome::Reports, context::Context, outcome::Standing};

/// What the reports of all batches that are settled at the same time may take, in KiB. A batch that takes more by itself
/// is settled alone.
const REPORTS_MAX: u32 = 32 * 1024;
/// Reports of a batch that are read at once.
const AT_ONCE: usize = 4;

/// The memory that reports may take.
#[derive(Debug)]
pub(super) struct Space(Semaphore);

impl Default for Space {
    fn default() -> Self {
        Self(Semaphore::new(REPORTS_MAX as usize))
    }
}

impl Space {
    /// How much of it reports of so many bytes take, in KiB.
    fn share(bytes: i64) -> u32 {
        u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).clamp(1, REPORTS_MAX)
    }

    /// What the pods reported, and the space it takes. A report that cannot be read is as good as none: the results tell
    /// what is done.
    pub(super) async fn read<'a>(
        &'a self,
        context: &Context,
        batch: &Batch,
        standing: Standing,
        settled: &HashSet<u32>,
    ) -> anyhow::Result<(Reports, SemaphorePermit<'a>)> {
        let listed = context.store.list(&batch.bucket, &batch.reports()).await?;
        let taken = self.0.acquire_many(Self::share(listed.iter().map(|object| object.size).sum())).await?;
        let mut reports = Reports::default();
        let reads: Vec<_> = listed.iter().map(|object| context.store.read(&batch.bucket, &object.name, None)).collect();
        let mut reads = futures::stream::iter(reads).buffered(AT_ONCE);
        while let Some(read) = reads.next().await {
            let Some((object, text)) = read? else { continue };
            match serde_json::from_slice::<Report>(&text) {
                Ok(report) => reports.add(report, standing, settled),
                Err(error) => tracing::warn!(object = object.name, "a report of a batch cannot be read: {error}"),
            }
        }
        Ok((reports, taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_takes_more_than_all_may_waits_for_all_of_it_and_no_longer() {
        assert_eq!([0, 100, 1024 * 1024, i64::MAX].map(Space::share), [1, 1, 1025, REPORTS_MAX]);
    }
}

//! Admits packs: first the layout is written, then a message is published for each range that has work left, and each
//! range becomes a Job. Everything may be repeated: the layout is written once, and a range that is named twice is one
//! Job.

use std::sync::Arc;

use anyhow::Context as _;
use contract::{
    Identity,
    message::{self, Refusal, Work},
    outcome::State,
    pack::{COMPRESSED, Layout},
};

use crate::{
    admit::{Admission, error::AdmitError},
    execute::job::Origin,
    hooks::Step,
    settle::{
        ended::{Ended, previous},
        outcome::input_missing,
    },
    watch::jobs::Slot,
};

/// Messages of ranges that are published at the same time.
const PUBLISH_CONCURRENCY: usize = 1000;

/// The work of a range as the layout of its pack defines it.
fn of_layout(range: &Work, layout: &Layout) -> Work {
    let span = range.identity.first.and_then(|first| layout.span(first));
    Work { pack: Some(layout.pack.clone()), span, ..range.clone() }
}

impl Admission {
    /// Admits a pack or a range of one.
    pub(super) async fn admit_pack(&self, origin: &Origin, work: &Work, slot: &mut Slot) -> Result<(), AdmitError> {
        let layout = self.records.layouts.read(work).await?;
        match (layout, work.identity.first) {
            (Some(layout), Some(first)) if layout.pack.range(first).is_some() => {
                self.admit_range(origin, &of_layout(work, &layout), slot).await
            }
            (Some(layout), Some(first)) => {
                let pack = &layout.pack;
                let message = format!(
                    "item {first} begins no range of {}, which has {} items in ranges of {}",
                    work.identity.object, pack.items, pack.items_per_range
                );
                Err(AdmitError::Refused(Refusal { code: "misaligned-range", message, work: None }))
            }
            // Without a layout there are no ranges yet, whatever the message names.
            (layout, _) => {
                let whole = Work { identity: Identity { first: None, ..work.identity.clone() }, ..work.clone() };
                self.split(origin, &whole, layout, slot).await
            }
        }
    }

    async fn split(
        &self,
        origin: &Origin,
        work: &Work,
        layout: Option<Arc<Layout>>,
        slot: &mut Slot,
    ) -> Result<(), AdmitError> {
        let (base, layouts) = (&self.base, &self.records.layouts);
        let Identity { bucket, object, generation, attempt, .. } = &work.identity;
        // A split Job of version 1 computes the whole pack.
        if self.executor.is_in_progress(&work.identity) || self.is_settled(work).await? {
            return Ok(());
        }
        let layout = match layout {
            // Session control applies to its ranges.
            Some(layout) => layout,
            None => {
                if !self.apply_session_control(origin, work).await? {
                    return Ok(());
                }
                // A listing shows whether it is compressed.
                let listed = base.store.listed(bucket, object).await?;
                let Some((input, metadata)) = listed.filter(|(input, _)| input.generation == *generation) else {
                    return Ok(self.fail(origin, work, input_missing(work)).await?);
                };
                if input.compressed {
                    let (message, work) = (COMPRESSED.to_owned(), Some(Box::new(work.clone())));
                    return Err(AdmitError::Refused(Refusal { code: "compressed-pack", message, work }));
                }
                // The upload counts, not the message: two messages may differ.
                let stored = message::stored(object, *generation, &metadata, &base.business);
                let stored = stored.ok().and_then(|stored| stored.pack).or_else(|| work.pack.clone());
                let pack = stored.context("split an input that is no pack")?;
                let layout = layouts.compute(work, pack, input.size).await?;
                let layout = layouts.write(work, layout).await?;
                base.hooks.reached(Step::LayoutWritten, Some(&origin.message_id), Some(&work.identity)).await;
                layout
            }
        };
        let ended = Ended::list(base, work).await?;
        let remaining = ended.remaining(&layout.pack, *attempt);
        if ended.has_succeeded(&layout.pack) {
            // The process that settled the last range may have ended before it deleted the input.
            return Ok(self.records.delete_object(work).await?);
        }
        let of_range = |first: u32, attempt: u32| of_layout(&work.of_attempt(first, attempt), &layout);
        if remaining.is_empty() {
            return Ok(());
        }
        self.records.progress.record_split(&Work { pack: Some(layout.pack.clone()), ..work.clone() }, remaining.len());
        // A single range needs no message of its own.
        if let [(first, attempt)] = remaining[..] {
            return self.admit_range(origin, &of_range(first, attempt), slot).await;
        }
        for some in remaining.chunks(PUBLISH_CONCURRENCY) {
            let ranges: Vec<Work> = some.iter().map(|(first, attempt)| of_range(*first, *attempt)).collect();
            let published = ranges.iter().map(|range| base.requeue(range, origin.published));
            futures::future::try_join_all(published.collect::<Vec<_>>()).await?;
        }
        base.hooks.reached(Step::RangesPublished, Some(&origin.message_id), Some(&work.identity)).await;
        tracing::info!(job = work.job, session = work.session, ranges = remaining.len(), "split the pack");
        Ok(())
    }

    /// Creates the Job of a range. An attempt after the first computes the items that have no result yet.
    async fn admit_range(&self, origin: &Origin, work: &Work, slot: &mut Slot) -> Result<(), AdmitError> {
        let mut work = work.clone();
        if work.identity.attempt > 0
            && let Some(before) = previous(&self.base, &work).await?
        {
            let left = before.items.iter().filter(|item| item.state != State::Succeeded);
            let left: Vec<u32> = left.map(|item| item.index).collect();
            if left.is_empty() && !before.items.is_empty() {
                tracing::info!(job = work.job, session = work.session, "every item of the range has a result already");
                return Ok(());
            }
            work.only = Some(left).filter(|left| !left.is_empty());
        }
        self.admit_one(origin, &work, slot).await
    }
}

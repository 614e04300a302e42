//! What lies in the bucket for batches: which inputs their Jobs have in hand, what is left over, and what must not go
//! while it is needed.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use cloud::storage::{Object, Properties};
use contract::{
    Identity,
    batch::{self, Manifest},
    object,
};
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};

use crate::context::Context;

/// Age from which a manifest or report that is still needed is written anew. The bucket deletes what is a day old when
/// it is told to, by age alone.
const FRESH_FOR: SignedDuration = SignedDuration::from_hours(12);

/// The inputs of the batches that have a Job, as hashes of their identities. Read when the first is asked for.
#[derive(Debug, Default)]
pub(super) struct InHand {
    hasher: RandomState,
    known: Option<HashSet<u64>>,
}

impl InHand {
    /// Whether a batch that has a Job has this input.
    pub(super) async fn has(&mut self, context: &Context, identity: &Identity) -> anyhow::Result<bool> {
        let key = self.hasher.hash_one(identity);
        if self.known.is_none() {
            self.known = Some(self.read(context).await?);
        }
        Ok(self.known.as_ref().is_some_and(|known| known.contains(&key)))
    }

    async fn read(&self, context: &Context) -> anyhow::Result<HashSet<u64>> {
        let business = &context.business;
        let mut known = HashSet::new();
        let mut manifests = context.store.list_stream(&business.bucket, &object::manifest_prefix(&business.name));
        while let Some(found) = manifests.try_next().await? {
            if !has_job(context, &found).is_some_and(|has| has) {
                continue;
            }
            let Some((_, text)) = context.store.read(&business.bucket, &found.name, None).await? else { continue };
            match serde_json::from_slice::<Manifest>(&text) {
                Ok(manifest) => {
                    known.extend(manifest.entries.iter().map(|entry| self.hasher.hash_one(&entry.work.identity)));
                }
                Err(error) => tracing::warn!(object = found.name, "a manifest of a batch cannot be read: {error}"),
            }
        }
        Ok(known)
    }
}

/// What is to become of an object of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    Leave,
    /// Its batch was never created, or its settling died in between, or a pod outlived it.
    Delete,
    /// Its batch still needs it.
    Renew,
}

impl Care {
    /// Of an object of this age, with `left_over` as the age from which nobody is about to create its Job.
    fn of(age: SignedDuration, has_job: bool, left_over: SignedDuration) -> Self {
        match has_job {
            false if age > left_over => Self::Delete,
            true if age > FRESH_FOR => Self::Renew,
            _ => Self::Leave,
        }
    }
}

/// Deletes manifests and reports that are left over, and keeps young those that are needed.
pub(super) async fn tend(context: &Context, now: Timestamp, left_over: SignedDuration) -> anyhow::Result<()> {
    let business = &context.business;
    for prefix in [object::manifest_prefix(&business.name), object::report_prefix(&business.name)] {
        let mut objects = context.store.list_stream(&business.bucket, &prefix);
        while let Some(found) = objects.try_next().await? {
            let (Some(has_job), Some(created)) = (has_job(context, &found), found.created) else { continue };
            match Care::of(now.duration_since(created), has_job, left_over) {
                Care::Leave => {}
                Care::Delete => {
                    context.store.delete(&business.bucket, &found.name, found.generation).await?;
                }
                Care::Renew => renew(context, &found).await?,
            }
        }
    }
    Ok(())
}

/// Whether the batch of this manifest or report has a Job; `None` for what is neither.
fn has_job(context: &Context, found: &Object) -> Option<bool> {
    let job = batch::job_of_object(&context.business.name, &found.name)?;
    Some(context.jobs.look().has(&job))
}

/// Writes an object anew with the contents it has, unless somebody deleted it meanwhile.
async fn renew(context: &Context, found: &Object) -> anyhow::Result<()> {
    let bucket = &context.business.bucket;
    if let Some((_, text)) = context.store.read(bucket, &found.name, Some(found.generation)).await? {
        context.store.replace(bucket, &found.name, text, Properties::json(), found.generation).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_batch_needs_is_kept_young_and_what_is_left_over_goes() {
        let care = |hours, has_job| Care::of(SignedDuration::from_hours(hours), has_job, SignedDuration::from_hours(1));
        assert_eq!([care(0, false), care(2, false)], [Care::Leave, Care::Delete]);
        // A bucket may be told to delete what is a day old.
        assert_eq!([care(11, true), care(13, true)], [Care::Leave, Care::Renew]);
    }
}

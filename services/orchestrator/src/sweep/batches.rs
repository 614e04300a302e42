//! The objects of batches: which inputs their Jobs have, which manifests and reports are left over, and which must be
//! kept young.

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

use crate::base::Base;

/// Age from which a manifest or report that is still needed is rewritten. A lifecycle rule of the bucket may delete
/// these objects when they are a day old.
const FRESH_FOR: SignedDuration = SignedDuration::from_hours(12);

/// The inputs of the batches that have a Job, as hashes of their identities. They are read at the first request.
#[derive(Debug, Default)]
pub(super) struct BatchInputs {
    hasher: RandomState,
    hashes: tokio::sync::OnceCell<HashSet<u64>>,
}

impl BatchInputs {
    /// Whether a batch that has a Job has this input.
    pub(super) async fn contains(&self, base: &Base, identity: &Identity) -> anyhow::Result<bool> {
        let hashes = self.hashes.get_or_try_init(|| self.read(base)).await?;
        Ok(hashes.contains(&self.hasher.hash_one(identity)))
    }

    async fn read(&self, base: &Base) -> anyhow::Result<HashSet<u64>> {
        let business = &base.business;
        let mut hashes = HashSet::new();
        let mut manifests = base.store.list_stream(&business.bucket, &object::manifest_prefix(&business.name));
        while let Some(found) = manifests.try_next().await? {
            if !has_job(base, &found).is_some_and(|has| has) {
                continue;
            }
            let Some((_, text)) = base.store.read(&business.bucket, &found.name, None).await? else { continue };
            match serde_json::from_slice::<Manifest>(&text) {
                Ok(manifest) => {
                    hashes.extend(manifest.entries.iter().map(|entry| self.hasher.hash_one(&entry.work.identity)));
                }
                Err(error) => tracing::warn!(object = found.name, "failed to read a manifest of a batch: {error}"),
            }
        }
        Ok(hashes)
    }
}

/// What the sweep does to an object of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Keep,
    /// Its Job was never created, or the process that settled it died, or a pod wrote it after that.
    Delete,
    /// Its batch still needs it.
    Rewrite,
}

impl Action {
    /// The action for an object of this age; from the age `left_over` no process is about to create its Job.
    fn new(age: SignedDuration, has_job: bool, left_over: SignedDuration) -> Self {
        match has_job {
            false if age > left_over => Self::Delete,
            true if age > FRESH_FOR => Self::Rewrite,
            _ => Self::Keep,
        }
    }
}

/// Deletes manifests and reports that are left over, and rewrites old ones that are needed.
pub(super) async fn maintain(base: &Base, now: Timestamp, left_over: SignedDuration) -> anyhow::Result<()> {
    let business = &base.business;
    for prefix in [object::manifest_prefix(&business.name), object::report_prefix(&business.name)] {
        let mut objects = base.store.list_stream(&business.bucket, &prefix);
        while let Some(found) = objects.try_next().await? {
            let (Some(has_job), Some(created)) = (has_job(base, &found), found.created) else { continue };
            match Action::new(now.duration_since(created), has_job, left_over) {
                Action::Keep => {}
                Action::Delete => {
                    base.store.delete(&business.bucket, &found.name, found.generation).await?;
                }
                Action::Rewrite => rewrite(base, &found).await?,
            }
        }
    }
    Ok(())
}

/// Whether the batch of this manifest or report has a Job; `None` for any other object.
fn has_job(base: &Base, found: &Object) -> Option<bool> {
    let job = batch::job_of_object(&base.business.name, &found.name)?;
    Some(base.jobs.view().contains(&job))
}

/// Writes an object with the same contents, unless it was deleted meanwhile.
async fn rewrite(base: &Base, found: &Object) -> anyhow::Result<()> {
    let bucket = &base.business.bucket;
    if let Some((_, text)) = base.store.read(bucket, &found.name, Some(found.generation)).await? {
        base.store.replace(bucket, &found.name, text, Properties::json(), found.generation).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_objects_are_kept_young_and_left_over_ones_are_deleted() {
        let action =
            |hours, has_job| Action::new(SignedDuration::from_hours(hours), has_job, SignedDuration::from_hours(1));
        assert_eq!([action(0, false), action(2, false)], [Action::Keep, Action::Delete]);
        // A lifecycle rule may delete objects that are a day old.
        assert_eq!([action(11, true), action(13, true)], [Action::Keep, Action::Rewrite]);
    }
}

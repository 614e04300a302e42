//! One Job of messages that waited together: their outcomes are looked for, what is decided about their session is
//! heeded, the manifest is written, the Job is created, and everybody who asked is told.

use std::collections::{BTreeSet, HashMap};

use anyhow::Context as _;
use cloud::storage::{Properties, Written};
use contract::{
    Identity,
    batch::{self, Batch, Entry, Manifest},
};
use futures::StreamExt as _;
use k8s_openapi::api::batch::v1::Job;
use tokio::sync::oneshot;

use super::{Told, queue::Pending};
use crate::{
    accept::{self, Obstacle},
    batch_job::{batch_of, pods},
    context::Context,
    controls::{self, Stand},
    create::{self, Created},
    hooks::Step,
    job::Origin,
    jobs::Slot,
};

/// Outcomes that are looked at at once.
const CONCURRENCY: usize = 32;

/// One input of a batch, and everybody who asked for it.
struct Asked {
    entry: Entry,
    told: Vec<oneshot::Sender<Told>>,
}

impl Asked {
    fn tell(self, answer: &Told) {
        for told in self.told {
            // Whoever asked may have given up.
            let _ = told.send(answer.clone());
        }
    }
}

/// Makes one Job of what waited together.
pub(super) async fn dispatch(context: &Context, pending: Vec<Pending>, mut slot: Slot) {
    let asked = merge(pending);
    let left = match settled(context, &asked).await {
        Ok(settled) => {
            let (there, left): (Vec<_>, Vec<_>) =
                asked.into_iter().partition(|asked| settled.contains(&asked.entry.work.outcome()));
            let again = there.into_iter().map(|asked| tell_again(context, asked)).collect::<Vec<_>>();
            futures::stream::iter(again).buffer_unordered(CONCURRENCY).collect::<()>().await;
            startable(context, left).await
        }
        Err(error) => {
            let answer = Err(Obstacle::from(error));
            asked.into_iter().for_each(|asked| asked.tell(&answer));
            return;
        }
    };
    let answer = match left.as_slice() {
        [] => return,
        [one] => {
            let Entry { work, message_id, published, received } = one.entry.clone();
            let origin = Origin { message_id, published, received };
            accept::create(context, &origin, &work, &mut slot).await
        }
        many => create(context, many, &mut slot).await,
    };
    slot.not_created();
    left.into_iter().for_each(|asked| asked.tell(&answer));
}

/// Tells whoever asked for work that has its outcome already.
async fn tell_again(context: &Context, asked: Asked) {
    context.metrics.duplicates.inc();
    let told = controls::tell_again(context, &asked.entry.work).await.map_err(Obstacle::from);
    asked.tell(&told);
}

/// Those of which the session is neither paused nor cancelled; the others are told what became of them.
async fn startable(context: &Context, asked: Vec<Asked>) -> Vec<Asked> {
    let mut startable = Vec::with_capacity(asked.len());
    for asked in asked {
        let Entry { message_id, published, received, .. } = asked.entry.clone();
        let origin = Origin { message_id, published, received };
        match accept::heed(context, &origin, &asked.entry.work).await {
            Ok(true) => startable.push(asked),
            Ok(false) => asked.tell(&Ok(())),
            Err(obstacle) => asked.tell(&Err(obstacle)),
        }
    }
    startable
}

/// Whether the session of all of these was cancelled while their Job was made.
async fn cancelled(context: &Context, asked: &[Asked]) -> anyhow::Result<bool> {
    for asked in asked {
        if controls::stand(context, &asked.entry.work, asked.entry.published).await? != Stand::Cancelled {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Messages that ask for the same are one input.
fn merge(pending: Vec<Pending>) -> Vec<Asked> {
    let mut positions: HashMap<Identity, usize> = HashMap::with_capacity(pending.len());
    let mut all: Vec<Asked> = Vec::with_capacity(pending.len());
    for Pending { work, origin: Origin { message_id, published, received }, told, .. } in pending {
        match positions.get(&work.identity) {
            Some(position) => all[*position].told.push(told),
            None => {
                positions.insert(work.identity.clone(), all.len());
                all.push(Asked { entry: Entry { work, message_id, published, received }, told: vec![told] });
            }
        }
    }
    all
}

/// The outcomes that exist already.
async fn settled(context: &Context, asked: &[Asked]) -> anyhow::Result<BTreeSet<String>> {
    let names = asked.iter().map(|asked| asked.entry.work.outcome()).collect();
    context.store.present(&context.business.bucket, names).await
}

/// Makes sure that the API server has the Job of this batch.
async fn create(context: &Context, asked: &[Asked], slot: &mut Slot) -> Told {
    let manifest = Manifest::new(asked.iter().map(|asked| asked.entry.clone()).collect());
    let (bytes, hash) = manifest.encode()?;
    let business = &context.business;
    let batch = Batch {
        schema: batch::SCHEMA,
        bucket: business.bucket.clone(),
        business: business.name.clone(),
        session: asked.first().map(|asked| asked.entry.work.session.clone()).unwrap_or_default(),
        hash,
        inputs: u32::try_from(asked.len()).unwrap_or(u32::MAX),
        indexes: slot.weight().min(pods(asked.len(), context.slots())),
    };
    let name = batch.job_name();
    // From here on the sweep knows that the manifest is not left over.
    slot.creating(name.clone());
    let written = context.store.write_once(&business.bucket, &batch.manifest(), bytes, Properties::json()).await?;
    context.hooks.at(Step::ManifestWritten, None, None).await;
    context.hooks.at(Step::BeforeCreate, None, None).await;
    let body = || serde_json::to_vec(&context.template.batch(&batch)?).context("encode the Job");
    let published = asked.iter().map(|asked| asked.entry.published);
    match create::create(context, slot, &name, body, published).await? {
        Created::New(uid) => {
            context.hooks.at(Step::Created, None, None).await;
            tracing::info!(inputs = batch.inputs, pods = batch.indexes, kubernetes_job = name, "created the batch");
            if cancelled(context, asked).await? {
                context.cluster.delete(&name, &uid).await?;
            }
            Ok(())
        }
        // It has the same inputs, since its name is a hash of them.
        Created::Exists => {
            let is_batch = |job: &Job| batch_of(job).map(drop).map_err(|error| format!("{error:#}"));
            create::existing(context, &name, is_batch).await?;
            if let Written::New(generation) = written {
                take_back(context, asked, &batch, generation).await?;
            }
            Ok(())
        }
        Created::Rejected(why) => {
            tracing::warn!("the API server does not accept the batch, so each input gets a Job of its own: {why}");
            Err(Obstacle::NotInABatch)
        }
    }
}

/// Deletes a manifest that was written for a Job that had settled all of its inputs, and deleted its own, just before.
async fn take_back(context: &Context, asked: &[Asked], batch: &Batch, generation: i64) -> anyhow::Result<()> {
    if settled(context, asked).await?.len() == asked.len() {
        context.store.delete(&batch.bucket, &batch.manifest(), generation).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::batcher::queue::tests::pending;

    #[test]
    fn messages_for_the_same_are_one_input() {
        let now = Instant::now();
        let all = ["a", "b", "a"].map(|job| {
            let (_, mut pending) = pending("s", false, now);
            pending.work.identity.object = job.into();
            pending
        });
        let asked = merge(all.into());
        assert_eq!(asked.iter().map(|asked| asked.told.len()).collect::<Vec<_>>(), [2, 1]);
    }
}

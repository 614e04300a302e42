//! Creates one Job for messages that waited together: outcome lookup, session control, manifest, Job, and the reply to
//! each message.

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

use super::queue::{Pending, Reply};
use crate::{
    admit::Admission,
    admit_error::AdmitError,
    batch_job::{pod_count, read_batch},
    conclude,
    controls::SessionState,
    create::{self, Created},
    hooks::Step,
    job::Origin,
    jobs::Slot,
};

/// Events that are published at the same time.
const CONCURRENCY: usize = 32;

/// One input of a batch, and the messages that request it.
struct Input {
    entry: Entry,
    replies: Vec<oneshot::Sender<Reply>>,
}

impl Input {
    fn reply(self, answer: &Reply) {
        for reply in self.replies {
            // The message's task may have ended.
            let _ = reply.send(answer.clone());
        }
    }
}

/// Creates one Job for messages that waited together.
pub(super) async fn dispatch(admission: &Admission, pending: Vec<Pending>, mut slot: Slot) {
    let inputs = merge(pending);
    let left = match find_outcomes(admission, &inputs).await {
        Ok(outcomes) => {
            let (settled, left): (Vec<_>, Vec<_>) =
                inputs.into_iter().partition(|input| outcomes.contains(&input.entry.work.outcome()));
            let events = settled.into_iter().map(|input| republish_event(admission, input)).collect::<Vec<_>>();
            futures::stream::iter(events).buffer_unordered(CONCURRENCY).collect::<()>().await;
            startable(admission, left).await
        }
        Err(error) => {
            let answer = Err(AdmitError::from(error));
            inputs.into_iter().for_each(|input| input.reply(&answer));
            return;
        }
    };
    let answer = match left.as_slice() {
        [] => return,
        [one] => {
            let Entry { work, message_id, published, received } = one.entry.clone();
            let origin = Origin { message_id, published, received };
            admission.create(&origin, &work, &mut slot).await
        }
        many => create(admission, many, &mut slot).await,
    };
    slot.not_created();
    left.into_iter().for_each(|input| input.reply(&answer));
}

/// Publishes the event of an input that has an outcome, and replies to its messages.
async fn republish_event(admission: &Admission, input: Input) {
    admission.base.metrics.duplicates.inc();
    let published = conclude::republish_event(&admission.base, &input.entry.work).await.map_err(AdmitError::from);
    input.reply(&published);
}

/// The inputs that may start; the messages of paused and cancelled ones get their reply.
async fn startable(admission: &Admission, inputs: Vec<Input>) -> Vec<Input> {
    let mut startable = Vec::with_capacity(inputs.len());
    for input in inputs {
        let Entry { message_id, published, received, .. } = input.entry.clone();
        let origin = Origin { message_id, published, received };
        match admission.apply_session_control(&origin, &input.entry.work).await {
            Ok(true) => startable.push(input),
            Ok(false) => input.reply(&Ok(())),
            Err(error) => input.reply(&Err(error)),
        }
    }
    startable
}

/// Whether all inputs were cancelled while their Job was created.
async fn are_cancelled(admission: &Admission, inputs: &[Input]) -> anyhow::Result<bool> {
    for Input { entry, .. } in inputs {
        let state = admission.controls.state_of_session(&admission.base, &entry.work, entry.published).await?;
        if state != SessionState::Cancelled {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Merges messages with the same identity into one input.
fn merge(pending: Vec<Pending>) -> Vec<Input> {
    let mut positions: HashMap<Identity, usize> = HashMap::with_capacity(pending.len());
    let mut all: Vec<Input> = Vec::with_capacity(pending.len());
    for Pending { work, origin: Origin { message_id, published, received }, reply, .. } in pending {
        match positions.get(&work.identity) {
            Some(position) => all[*position].replies.push(reply),
            None => {
                positions.insert(work.identity.clone(), all.len());
                all.push(Input { entry: Entry { work, message_id, published, received }, replies: vec![reply] });
            }
        }
    }
    all
}

/// The names of the outcomes that exist.
async fn find_outcomes(admission: &Admission, inputs: &[Input]) -> anyhow::Result<BTreeSet<String>> {
    let names = inputs.iter().map(|input| input.entry.work.outcome()).collect();
    admission.base.store.present(&admission.base.business.bucket, names).await
}

/// Writes the manifest and creates the Job of this batch.
async fn create(admission: &Admission, inputs: &[Input], slot: &mut Slot) -> Reply {
    let base = &admission.base;
    let manifest = Manifest::new(inputs.iter().map(|input| input.entry.clone()).collect());
    let (bytes, hash) = manifest.encode()?;
    let business = &base.business;
    let batch = Batch {
        schema: batch::SCHEMA,
        bucket: business.bucket.clone(),
        business: business.name.clone(),
        session: inputs.first().map(|input| input.entry.work.session.clone()).unwrap_or_default(),
        hash,
        inputs: u32::try_from(inputs.len()).unwrap_or(u32::MAX),
        indexes: slot.weight().min(pod_count(inputs.len(), base.slots())),
    };
    let name = batch.job_name();
    // From here on the sweep does not delete the manifest.
    slot.creating(name.clone());
    let written = base.store.write_once(&business.bucket, &batch.manifest(), bytes, Properties::json()).await?;
    base.hooks.reached(Step::ManifestWritten, None, None).await;
    base.hooks.reached(Step::BeforeCreate, None, None).await;
    let body = || serde_json::to_vec(&base.template.batch(&batch)?).context("encode the Job");
    let published = inputs.iter().map(|input| input.entry.published);
    match admission.creates.create(base, slot, &name, body, published).await? {
        Created::New(uid) => {
            base.hooks.reached(Step::Created, None, None).await;
            tracing::info!(inputs = batch.inputs, pods = batch.indexes, kubernetes_job = name, "created the batch");
            if are_cancelled(admission, inputs).await? {
                base.cluster.delete(&name, &uid).await?;
            }
            Ok(())
        }
        // The existing Job has the same inputs, since its name is a hash of them.
        Created::Exists => {
            let is_batch = |job: &Job| read_batch(job).map(drop).map_err(|error| format!("{error:#}"));
            create::check_existing(base, &name, is_batch).await?;
            if let Written::New(generation) = written {
                delete_if_settled(admission, inputs, &batch, generation).await?;
            }
            Ok(())
        }
        Created::Rejected(why) => {
            tracing::warn!("the API server does not accept the batch, so each input gets a Job of its own: {why}");
            Err(AdmitError::NotInABatch)
        }
    }
}

/// Deletes the new manifest of an existing Job whose inputs were all settled, and whose own manifest was deleted, just
/// before.
async fn delete_if_settled(
    admission: &Admission,
    inputs: &[Input],
    batch: &Batch,
    generation: i64,
) -> anyhow::Result<()> {
    if find_outcomes(admission, inputs).await?.len() == inputs.len() {
        admission.base.store.delete(&batch.bucket, &batch.manifest(), generation).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::batcher::queue::tests::pending;

    #[test]
    fn messages_with_the_same_identity_are_one_input() {
        let now = Instant::now();
        let all = ["a", "b", "a"].map(|job| {
            let (_, mut pending) = pending("s", false, now);
            pending.work.identity.object = job.into();
            pending
        });
        let inputs = merge(all.into());
        assert_eq!(inputs.iter().map(|input| input.replies.len()).collect::<Vec<_>>(), [2, 1]);
    }
}

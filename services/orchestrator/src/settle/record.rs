//! Records outcomes, each once, and carries out what follows: the deletion of the input, and the event.

use std::sync::Arc;

use anyhow::Context as _;
use cloud::{outcomes, storage::Written};
use contract::{
    Identity, Outcome,
    message::{Refusal, Work},
    outcome::{State, row_errors, stored::Unreadable},
};

use tokio::time::Instant;

use crate::{
    admit::layouts::Layouts,
    base::Base,
    execute::job::Origin,
    hooks::Step,
    settle::{
        ended::Ended,
        events::Events,
        outcome::{Results, completed, note_row_errors},
        progress::Progress,
        ranges,
        settled_cache::SettledCache,
    },
};

/// Size of most outcomes without the bytes of their message.
const OUTCOME_BYTES: usize = 4096;

/// Records outcomes.
pub(crate) struct Records {
    base: Arc<Base>,
    pub(crate) events: Events,
    pub(crate) settled: SettledCache,
    pub(crate) layouts: Layouts,
    pub(crate) progress: Progress,
}

impl Records {
    pub(crate) fn new(base: &Arc<Base>, events: Events) -> Self {
        let (settled, progress) = (SettledCache::default(), Progress::default());
        Self { base: base.clone(), events, settled, layouts: Layouts::new(base), progress }
    }

    /// Whether the result of a single input exists, or all results of a Job that version 1 split.
    pub(crate) async fn read_result(&self, work: &Work) -> anyhow::Result<Results> {
        let names = work.outputs();
        let count = names.len();
        let found = self.base.store.find(&work.identity.bucket, names.into_iter().collect()).await?;
        let row_errors = found.iter().map(|found| row_errors(&found.metadata)).sum();
        Ok(Results { is_complete: found.len() == count, row_errors })
    }

    /// Writes an outcome unless the work has one; returns the outcome in the bucket, and whether it is new.
    ///
    /// # Errors
    /// [`Unreadable`] when the work has one that cannot be read.
    pub(crate) async fn write(&self, work: &Work, outcome: Outcome) -> anyhow::Result<(Outcome, bool)> {
        let state = outcome.state;
        let (outcome, is_new) = self.write_object(&work.outcome(), outcome).await?;
        if state == State::Succeeded && outcome.state != State::Succeeded {
            // Another Job with the same input ended otherwise before, so this result does not count.
            self.delete_result(work).await?;
        }
        Ok((outcome, is_new))
    }

    /// Writes the outcome of a message without a Job; returns the outcome in the bucket, and whether it is new. `None`
    /// when the one in the bucket cannot be read: that there is one is enough not to run the work again.
    pub(crate) async fn write_without_job(
        &self,
        origin: &Origin,
        object: &str,
        mut outcome: Outcome,
    ) -> anyhow::Result<Option<(Outcome, bool)>> {
        set_origin(&mut outcome, origin);
        outcome.timestamps.settled = Some((self.base.clock)());
        let identity = outcome.identity().cloned();
        let written = match self.write_object(object, outcome).await {
            Err(error) if error.is::<Unreadable>() => {
                tracing::error!("failed to publish the event of an outcome once more: {error:#}");
                None
            }
            written => Some(written?),
        };
        self.base.hooks.reached(Step::RefusedWritten, Some(&origin.message_id), identity.as_ref()).await;
        Ok(written)
    }

    async fn write_object(&self, object: &str, mut outcome: Outcome) -> anyhow::Result<(Outcome, bool)> {
        let (store, bucket) = (&self.base.store, &self.base.business.bucket);
        // Allocated once, and the bytes of a message are not held twice while it is written.
        let mut text = Vec::with_capacity(outcome.message_data.as_ref().map_or(0, String::len) + OUTCOME_BYTES);
        serde_json::to_writer_pretty(&mut text, &outcome).context("encode the outcome")?;
        outcome.message_data = None;
        if let Written::New(_) = store.write_once(bucket, object, text, (&outcome).into()).await? {
            let (state, reason) = (outcome.state.as_str(), &outcome.reason.code);
            let work = outcome.work.as_ref();
            let (job, session) = (work.map(|work| &*work.job), work.map(|work| &*work.session));
            tracing::info!(job, session, outcome = object, state, reason, "settled");
            self.base.metrics.settled(&outcome);
            return Ok((outcome, true));
        }
        // The first outcome counts, whichever process wrote it.
        let first = outcomes::read(store, bucket, object).await?;
        let first = first.with_context(|| format!("read {object}, which existed a moment ago"))?;
        Ok((first.context("settle by the existing outcome; delete that object to have a new one written")?, false))
    }

    /// The steps after an outcome is written: deletes the input of a success, or of a pack whose last range this was,
    /// and publishes the event.
    pub(crate) async fn finish(&self, work: &Work, outcome: &Outcome) -> anyhow::Result<()> {
        let identity = &work.identity;
        self.settled.insert(identity);
        self.base.hooks.reached(Step::OutcomeWritten, None, Some(identity)).await;
        let delete_input = async {
            let is_due = match work.range() {
                Some(_) => self.progress.record_settled(work, Instant::now()),
                None => outcome.state == State::Succeeded,
            };
            if is_due { self.delete_input(work).await } else { Ok(()) }
        };
        let (deleted, ()) = tokio::join!(delete_input, self.events.publish(outcome));
        deleted
    }

    /// Deletes the input of work that succeeded; that of a pack when all its ranges have.
    pub(crate) async fn delete_input(&self, work: &Work) -> anyhow::Result<()> {
        match work.range() {
            Some(_) => self.finish_pack(work).await,
            None if work.identity.has_object() => self.delete_object(work).await,
            None => Ok(()),
        }
    }

    /// Lists the outcomes of a pack, and deletes its input when every range has succeeded.
    pub(super) async fn finish_pack(&self, work: &Work) -> anyhow::Result<()> {
        let Some(layout) = self.layouts.read(work).await? else { return Ok(()) };
        let pack = &layout.pack;
        let settled = self.progress.settled(work);
        let ended = Ended::list(&self.base, work).await?;
        let missing = pack.ranges().filter(|first| !ended.ranges.contains_key(first)).count();
        self.progress.record_listed(work, missing, settled, Instant::now());
        if ended.has_succeeded(pack) { self.delete_object(work).await } else { Ok(()) }
    }

    /// Deletes the object of an input that nothing needs any more.
    pub(crate) async fn delete_object(&self, work: &Work) -> anyhow::Result<()> {
        let Identity { bucket, object, generation, .. } = &work.identity;
        self.base.store.delete(bucket, object, *generation).await?;
        self.base.hooks.reached(Step::InputDeleted, None, Some(&work.identity)).await;
        Ok(())
    }

    /// Records the outcome of work that never became a Job, or whose Job is gone: if it left its result, the work has
    /// succeeded.
    pub(crate) async fn conclude(&self, origin: &Origin, work: &Work, mut outcome: Outcome) -> anyhow::Result<()> {
        if work.range().is_some() {
            let parts = ranges::read_parts(&self.base, work).await?;
            ranges::set_items(&self.base, work, &parts, &mut outcome).await?;
        // Without a generation, the object never existed.
        } else if work.identity.generation > 0 && work.pack.is_none() {
            let results = self.read_result(work).await?;
            if results.is_complete {
                let (state, code, message) = completed();
                outcome = Outcome::new(&work.business, state, &code, message);
                note_row_errors(&mut outcome, results.row_errors);
            }
        }
        let code = outcome.reason.code.clone();
        if let Some(State::Failed | State::Refused) = self.record(origin, work, outcome).await? {
            tracing::warn!(code, job = work.job, session = work.session, "the work cannot become a Job");
        }
        Ok(())
    }

    /// Records the outcome of an input whose options are refused: its session counts it, and it does not wait for ever.
    pub(crate) async fn refuse(&self, origin: &Origin, work: &Work, refusal: &Refusal) -> anyhow::Result<()> {
        let Refusal { code, message, .. } = refusal;
        let outcome = Outcome::new(&work.business, State::Refused, code, &**message);
        if self.record(origin, work, outcome).await?.is_some() {
            tracing::warn!(code, job = work.job, session = work.session, "refused the upload: {message}");
        }
        Ok(())
    }

    /// Records the outcome of work without a Job; returns its state when it is new.
    async fn record(&self, origin: &Origin, work: &Work, mut outcome: Outcome) -> anyhow::Result<Option<State>> {
        outcome.work = Some(work.clone());
        let written = self.write_without_job(origin, &work.outcome(), outcome).await?;
        let Some((outcome, is_new)) = written else { return Ok(None) };
        self.finish(work, &outcome).await?;
        self.base.hooks.reached(Step::EventPublished, Some(&origin.message_id), Some(&work.identity)).await;
        Ok(is_new.then_some(outcome.state))
    }

    /// Publishes the event of work that never became a Job once more, when its message is redelivered: the process that
    /// wrote the outcome may have died before it published the event. The event of a Job needs no such step: settling
    /// repeats until the finalizer is removed. Returns the outcome, if it can be read.
    pub(crate) async fn republish(&self, work: &Work) -> anyhow::Result<Option<Outcome>> {
        match outcomes::read(&self.base.store, &work.identity.bucket, &work.outcome()).await? {
            Some(Ok(outcome)) => {
                if outcome.kubernetes_job.is_none() {
                    self.events.publish(&outcome).await;
                }
                return Ok(Some(outcome));
            }
            Some(Err(error)) => tracing::error!("failed to publish the event of an outcome once more: {error}"),
            None => {}
        }
        Ok(None)
    }

    /// Deletes the result of work whose outcome says that it has none. Results of a range count only by its outcome.
    async fn delete_result(&self, work: &Work) -> anyhow::Result<()> {
        let (store, bucket, name) = (&self.base.store, &work.identity.bucket, work.output());
        if work.pack.is_none()
            && let Some(found) = store.describe(bucket, &name, None).await?
        {
            tracing::warn!(object = name, "deleting a result that was written after another outcome");
            store.delete(bucket, &name, found.generation).await?;
        }
        Ok(())
    }
}

/// Sets what an outcome says of its message.
pub(crate) fn set_origin(outcome: &mut Outcome, origin: &Origin) {
    outcome.message_id = Some(origin.message_id.clone()).filter(|id| !id.is_empty());
    outcome.timestamps.published = origin.published;
    outcome.timestamps.received = Some(origin.received);
}

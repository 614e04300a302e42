//! Admits work: outcome lookup, session control, a check of old inputs, and the Job itself.

use std::sync::Arc;

use anyhow::Context as _;
use contract::{
    Outcome,
    identity::INLINE_GENERATION,
    message::Work,
    outcome::{self, State},
};
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;

use self::{error::AdmitError, lookup::OutcomeLookup, packs::Packs};
use crate::{
    base::Base,
    execute::{
        create::{self, Created, Creates},
        job::{self, Origin},
        pool::Pool,
    },
    hooks::Step,
    intake::received::Received,
    sessions::{self, Controls, SessionState},
    settle::{
        conclude::{conclude, republish_event},
        outcome::input_missing,
        record::delete_settled,
        settled_cache::SettledCache,
    },
    watch::jobs::Slot,
};

pub(crate) mod error;
pub(crate) mod gate;
pub(crate) mod locate;
pub(crate) mod lookup;
pub(crate) mod packs;
mod split;

/// Least time between two deliveries of a message: its lease, or the back-off of its subscription.
const REDELIVERY_MIN: SignedDuration = SignedDuration::from_secs(10);

/// Admits work.
pub(crate) struct Admission {
    pub(crate) base: Arc<Base>,
    pub(crate) controls: Arc<Controls>,
    pub(crate) settled: Arc<SettledCache>,
    pub(crate) lookup: OutcomeLookup,
    pub(crate) creates: Creates,
    pub(crate) packs: Arc<Packs>,
    /// The pool, of a business that has one.
    pub(crate) pool: Option<Arc<Pool>>,
}

impl Admission {
    /// Creates the Job of this work unless it is settled, its session is paused or cancelled, or its input is missing.
    pub(crate) async fn admit(&self, origin: &Origin, work: &Work, slot: &mut Slot) -> Result<(), AdmitError> {
        // For a message of any age: a Job that a person deleted has an outcome and no Job.
        if self.is_settled(work).await? {
            return Ok(());
        }
        if !self.apply_session_control(origin, work).await? || Box::pin(self.is_without_input(origin, work)).await? {
            return Ok(());
        }
        self.create(origin, work, slot).await
    }

    /// Computes the payload of a message in the pool without writing it as an object. Returns whether it did: a payload
    /// that may have an outcome, or whose session has a decision, becomes an input as without a pool.
    pub(crate) async fn admit_inline(&self, message: &Received, work: &Work) -> Result<bool, AdmitError> {
        let Some(pool) = self.pool.as_ref().filter(|_| work.resources.is_default()) else { return Ok(false) };
        let age = message.published.map(|published| (self.base.clock)().duration_since(published));
        // A message that is delivered again is older.
        let is_new = age.is_some_and(|age| age < REDELIVERY_MIN);
        if self.controls.decision(&work.session).is_some() {
            return Ok(false);
        }
        if !is_new && locate::settled_generation(&self.base, work).await?.is_some() {
            return Ok(false);
        }
        let mut work = work.clone();
        work.identity.generation = INLINE_GENERATION;
        if self.settled.contains(&work.identity.job_name()) {
            self.base.metrics.duplicates.inc();
            return Ok(true);
        }
        let input = (message.payload.data.clone(), message.content_type().to_owned());
        Box::pin(pool.compute(&message.origin(), &work, Some(input))).await?;
        Ok(true)
    }

    /// Whether the input of an old message is missing; then its work has an outcome. Without this check the pods would
    /// fail to read the input until their retries are used up. A young message costs no request.
    async fn is_without_input(&self, origin: &Origin, work: &Work) -> Result<bool, AdmitError> {
        let age = origin.published.map(|published| (self.base.clock)().duration_since(published));
        let is_old = age.is_some_and(|age| age.unsigned_abs() >= self.base.timing.sweep_age && age.is_positive());
        let identity = &work.identity;
        if !is_old || self.base.jobs.view().contains(&identity.job_name()) {
            return Ok(false);
        }
        if self.base.store.describe(&identity.bucket, &identity.object, Some(identity.generation)).await?.is_some() {
            return Ok(false);
        }
        // It may have succeeded just now: the outcome is written before the input is deleted.
        if !self.is_settled(work).await? {
            let outcome::Reason { code, message } = input_missing(work);
            let outcome = Outcome::new(&work.business, State::Failed, &code, message);
            conclude(&self.base, origin, work, outcome).await?;
        }
        Ok(true)
    }

    /// Whether this work has an outcome; then its event is published once more.
    pub(crate) async fn is_settled(&self, work: &Work) -> Result<bool, AdmitError> {
        if !self.lookup.is_settled(&self.base.store, work).await? {
            return Ok(false);
        }
        tracing::info!(job = work.job, session = work.session, "the work has an outcome already");
        let outcome = Box::pin(republish_event(&self.base, work)).await?;
        if self.pool.is_some() && outcome.is_some_and(|outcome| outcome.state == State::Succeeded) {
            // No finalizer makes sure of it.
            Box::pin(delete_settled(&self.base, &self.packs, work)).await?;
        }
        self.base.metrics.duplicates.inc();
        Ok(true)
    }

    /// Applies the session control to work that has no outcome: writes a cancelled outcome or parks the message.
    /// Returns whether the work may start.
    pub(crate) async fn apply_session_control(&self, origin: &Origin, work: &Work) -> Result<bool, AdmitError> {
        match self.controls.state_of_session(&self.base, work, origin.published).await? {
            SessionState::Open => return Ok(true),
            SessionState::Cancelled => {
                Box::pin(conclude(&self.base, origin, work, sessions::cancelled_outcome(work))).await?
            }
            SessionState::Paused => Box::pin(self.controls.park(&self.base, origin, work)).await?,
        }
        Ok(false)
    }

    /// Computes this work in the pool, or creates its Job; an existing Job for the same work is fine. An attempt with
    /// resources of its own needs a Job of its own.
    pub(crate) async fn create(&self, origin: &Origin, work: &Work, slot: &mut Slot) -> Result<(), AdmitError> {
        if let Some(pool) = &self.pool
            && work.resources.is_default()
        {
            return Box::pin(pool.compute(origin, work, None)).await;
        }
        let name = work.identity.job_name();
        self.base.hooks.reached(Step::BeforeCreate, Some(&origin.message_id), Some(&work.identity)).await;
        slot.creating(name.clone());
        let body = || serde_json::to_vec(&self.base.template.job(work, origin)?).context("encode the Job");
        match self.creates.create(&self.base, slot, &name, body, [origin.published]).await? {
            Created::New(uid) => {
                self.base.hooks.reached(Step::Created, Some(&origin.message_id), Some(&work.identity)).await;
                tracing::info!(
                    job = work.job,
                    session = work.session,
                    object = work.identity.object,
                    generation = work.identity.generation,
                    kubernetes_job = name,
                    "created the Job"
                );
                // The Job is superfluous when its work was settled between the lookup and the create, or its session
                // was cancelled. Settling it finds the existing outcome, or writes a cancelled one.
                let state = self.controls.state_of_session(&self.base, work, origin.published).await?;
                if self.settled.contains(&name) || state == SessionState::Cancelled {
                    Box::pin(self.base.cluster.delete(&name, &uid)).await?;
                }
                Ok(())
            }
            Created::Exists => {
                Box::pin(create::check_existing(&self.base, &name, |job| is_for(job, work))).await?;
                self.base.metrics.duplicates.inc();
                Ok(())
            }
            Created::Rejected(why) => {
                let message = format!("the API server does not accept the Job: {why}");
                let outcome = Outcome::new(&work.business, State::Refused, "invalid-job", message);
                Ok(Box::pin(conclude(&self.base, origin, work, outcome)).await?)
            }
        }
    }
}

/// Checks that an existing Job is for this work; the error says what it is for.
fn is_for(job: &Job, work: &Work) -> Result<(), String> {
    let theirs = job::read_work(job).map_err(|error| format!("{error:#}"))?.identity;
    match theirs == work.identity {
        true => Ok(()),
        false => Err(format!("the Job {} is for {theirs:?}, not for {:?}", theirs.job_name(), work.identity)),
    }
}

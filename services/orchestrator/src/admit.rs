//! Admits work: outcome lookup, session control, a check of old inputs, and the Job itself.

use std::sync::Arc;

use contract::{
    Outcome,
    identity::INLINE_GENERATION,
    message::Work,
    outcome::{Reason, State},
};
use jiff::SignedDuration;
use kube::api::PropagationPolicy;

use self::{error::AdmitError, lookup::OutcomeLookup};
use crate::{
    base::Base,
    execute::{Executor, create::Created, job::Origin},
    hooks::Step,
    intake::received::Received,
    sessions::{self, Controls, SessionState},
    settle::{outcome::input_missing, record::Records},
    watch::jobs::Slot,
};

pub(crate) mod error;
pub(crate) mod gate;
pub(crate) mod layouts;
mod locate;
mod lookup;
mod split;

/// Least time between two deliveries of a message: its lease, or the back-off of its subscription.
const REDELIVERY_MIN: SignedDuration = SignedDuration::from_secs(10);

/// Admits work.
pub(crate) struct Admission {
    base: Arc<Base>,
    controls: Arc<Controls>,
    pub(crate) records: Arc<Records>,
    executor: Arc<Executor>,
    lookup: OutcomeLookup,
}

impl Admission {
    pub(crate) fn new(
        base: &Arc<Base>,
        controls: &Arc<Controls>,
        records: &Arc<Records>,
        executor: &Arc<Executor>,
    ) -> Self {
        let (base, controls, records) = (base.clone(), controls.clone(), records.clone());
        Self { base, controls, records, executor: executor.clone(), lookup: OutcomeLookup::default() }
    }

    /// Admits an input, a pack, or a range of one.
    pub(crate) async fn admit(&self, origin: &Origin, work: &Work, slot: &mut Slot) -> Result<(), AdmitError> {
        match work.pack.is_some() {
            false => self.admit_one(origin, work, slot).await,
            true => Box::pin(self.admit_pack(origin, work, slot)).await,
        }
    }

    /// Starts this work unless it is settled, its session is paused or cancelled, or its input is missing.
    async fn admit_one(&self, origin: &Origin, work: &Work, slot: &mut Slot) -> Result<(), AdmitError> {
        // For a message of any age: a Job that a person deleted has an outcome and no Job.
        if self.is_settled(work).await? {
            return Ok(());
        }
        if !self.apply_session_control(origin, work).await? || Box::pin(self.is_without_input(origin, work)).await? {
            return Ok(());
        }
        self.start(origin, work, slot).await
    }

    /// Computes the payload of a message in the pool without writing it as an object. Returns whether it did: a payload
    /// that may have an outcome, or whose session has a decision, becomes an input as without a pool.
    pub(crate) async fn admit_inline(&self, message: &Received, work: &Work) -> Result<bool, AdmitError> {
        let Some(pool) = self.executor.pool_of(work) else { return Ok(false) };
        let age = message.published.map(|published| (self.base.clock)().duration_since(published));
        // A message that is delivered again is older.
        let is_new = age.is_some_and(|age| age < REDELIVERY_MIN);
        if self.controls.has_decision(&work.session) {
            return Ok(false);
        }
        if !is_new && self.settled_generation(work).await?.is_some() {
            return Ok(false);
        }
        let mut work = work.clone();
        work.identity.generation = INLINE_GENERATION;
        if self.records.settled.contains(&work.identity.job_name()) {
            self.base.metrics.duplicates.inc();
            return Ok(true);
        }
        let input = (message.data.clone(), message.content_type().to_owned());
        Box::pin(pool.compute(&message.origin(), &work, Some(input))).await?;
        Ok(true)
    }

    /// Whether the input of an old message is missing; then its work has an outcome. Without this check the pods would
    /// fail to read the input until their retries are used up. A young message costs no request.
    async fn is_without_input(&self, origin: &Origin, work: &Work) -> Result<bool, AdmitError> {
        let age = origin.published.map(|published| (self.base.clock)().duration_since(published));
        let is_old = age.is_some_and(|age| age.unsigned_abs() >= self.base.timing.sweep_age && age.is_positive());
        if !is_old || self.executor.is_in_progress(&work.identity) || self.base.input(work).await?.is_some() {
            return Ok(false);
        }
        // It may have succeeded just now: the outcome is written before the input is deleted.
        if !self.is_settled(work).await? {
            self.fail(origin, work, input_missing(work)).await?;
        }
        Ok(true)
    }

    /// Whether this work has an outcome; then its event is published once more.
    async fn is_settled(&self, work: &Work) -> Result<bool, AdmitError> {
        if !self.lookup.is_settled(&self.base.store, work).await? {
            return Ok(false);
        }
        tracing::info!(job = work.job, session = work.session, "the work has an outcome already");
        let outcome = Box::pin(self.records.republish(work)).await?;
        if self.executor.pool.is_some() && outcome.is_some_and(|outcome| outcome.state == State::Succeeded) {
            // No finalizer makes sure of it.
            Box::pin(self.records.delete_input(work)).await?;
        }
        self.base.metrics.duplicates.inc();
        Ok(true)
    }

    /// Applies the session control to work that has no outcome: writes a cancelled outcome or parks the message.
    /// Returns whether the work may start.
    async fn apply_session_control(&self, origin: &Origin, work: &Work) -> Result<bool, AdmitError> {
        match self.controls.state_of_session(work, origin.published).await? {
            SessionState::Open => return Ok(true),
            SessionState::Cancelled => {
                Box::pin(self.records.conclude(origin, work, sessions::cancelled_outcome(work))).await?;
            }
            SessionState::Paused => Box::pin(self.controls.park(origin, work)).await?,
        }
        Ok(false)
    }

    /// Records that this work failed before it had a Job.
    async fn fail(&self, origin: &Origin, work: &Work, reason: Reason) -> anyhow::Result<()> {
        let outcome = Outcome::new(&work.business, State::Failed, &reason.code, reason.message);
        Box::pin(self.records.conclude(origin, work, outcome)).await
    }

    /// Computes this work in the pool, or creates its Job; an existing Job for the same work is fine.
    async fn start(&self, origin: &Origin, work: &Work, slot: &mut Slot) -> Result<(), AdmitError> {
        if let Some(pool) = self.executor.pool_of(work) {
            return Box::pin(pool.compute(origin, work, None)).await;
        }
        let name = work.identity.job_name();
        self.base.hooks.reached(Step::BeforeCreate, Some(&origin.message_id), Some(&work.identity)).await;
        match self.executor.creator.create(origin, work, slot).await? {
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
                let state = self.controls.state_of_session(work, origin.published).await?;
                if self.records.settled.contains(&name) || state == SessionState::Cancelled {
                    Box::pin(self.base.cluster.delete(&name, &uid, PropagationPolicy::Background)).await?;
                }
            }
            Created::Exists => drop(self.base.metrics.duplicates.inc()),
            Created::Rejected(why) => {
                let message = format!("the API server does not accept the Job: {why}");
                let outcome = Outcome::new(&work.business, State::Refused, "invalid-job", message);
                Box::pin(self.records.conclude(origin, work, outcome)).await?;
            }
        }
        Ok(())
    }
}

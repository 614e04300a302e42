//! New attempts at Jobs that did not succeed, in the same session.
//!
//! The number of the attempt is written to the input's metadata before the message is published. From then on the Job
//! waits, the retry is not lost when this program stops in between, and two operators who retry at once make one retry.

use anyhow::{Context as _, bail};
use cloud::{outcomes, storage::Store};
use contract::{
    config::Business,
    labels,
    message::{self, Resources, Work},
};
use google_cloud_pubsub::{
    client::{BasePublisher, Publisher},
    model::Message,
};
use jiff::Timestamp;
use serde::Serialize;

use crate::jobs::{Job, LOST, State, attempt_of};

/// Which Jobs to retry; an empty list selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// How they ended.
    pub states: Vec<State>,
    /// Reason codes.
    pub codes: Vec<String>,
    /// Job ids.
    pub jobs: Vec<String>,
}

/// A Job to retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// Session.
    pub session: String,
    /// Job id.
    pub job: String,
    /// How it ended.
    pub state: State,
    /// Reason code.
    pub code: String,
    /// How it is retried.
    pub doing: Doing,
}

/// How a Job is retried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// With a new attempt after the one of this outcome.
    Anew {
        /// Number of the new attempt.
        attempt: u32,
        /// Outcome of the last one.
        outcome: String,
    },
    /// By publishing its message again: a requested retry has not begun, or the outcome has expired.
    Again {
        /// Name of the input.
        input: String,
    },
    /// Not at all: its input is deleted.
    InputGone,
}

/// The result of a retry.
#[derive(Debug)]
pub enum Retried {
    /// Its message is published.
    Published {
        /// The attempt.
        attempt: u32,
        /// Id of the message.
        message_id: String,
    },
    /// Its input is deleted.
    InputGone,
}

impl Selection {
    /// Selects the Jobs to retry from the latest Jobs (see [`super::latest`]). Pure.
    pub fn choose(&self, jobs: &[Job]) -> Vec<Chosen> {
        let is_wanted = |job: &Job, state: State, code: &str| {
            (self.states.is_empty() || self.states.contains(&state))
                && (self.codes.is_empty() || self.codes.iter().any(|wanted| wanted == code))
                && (self.jobs.is_empty() || self.jobs.contains(&job.job))
        };
        let chosen = jobs.iter().filter_map(|job| {
            let code = job.reason.as_ref().map(|reason| reason.code.clone()).unwrap_or_default();
            let (state, doing) = match (job.state, &job.outcome, &job.input) {
                (Some(State::Waiting), _, Some(input)) if job.attempt > 0 || code == LOST => {
                    // The state and the code of the last attempt are not known here.
                    let is_named = self.jobs.is_empty() || self.jobs.contains(&job.job);
                    return is_named.then(|| Chosen {
                        session: job.session.clone(),
                        job: job.job.clone(),
                        state: State::Waiting,
                        code,
                        doing: Doing::Again { input: input.clone() },
                    });
                }
                (Some(State::Expired), _, Some(input)) => (Some(State::Expired), Doing::Again { input: input.clone() }),
                (Some(State::Succeeded | State::Waiting | State::Running), ..) | (_, None, _) => return None,
                (state, Some(_), None) => (state, Doing::InputGone),
                (state, Some(outcome), Some(_)) => {
                    (state, Doing::Anew { attempt: job.attempt + 1, outcome: outcome.clone() })
                }
            };
            let state = state.unwrap_or(State::Failed);
            // A refused message has no input: it is replayed, not retried.
            let is_message = job.session == crate::jobs::REFUSED_SESSION;
            (!is_message && is_wanted(job, state, &code)).then(|| Chosen {
                session: job.session.clone(),
                job: job.job.clone(),
                state,
                code,
                doing,
            })
        });
        chosen.collect()
    }
}

/// Requests new attempts for Jobs of one business.
#[derive(Clone, Debug)]
pub struct Retrier {
    store: Store,
    publisher: Publisher,
    business: Business,
}

impl Retrier {
    /// For Jobs of `business`.
    pub fn new(store: Store, publisher: &BasePublisher, business: Business) -> Self {
        let publisher = publisher.publisher(&business.topic).build();
        Self { store, publisher, business }
    }

    /// Requests a new attempt.
    ///
    /// # Errors
    /// When the resources are outside the limits, or Cloud Storage or Pub/Sub fails.
    pub async fn retry(&self, chosen: &Chosen, resources: &Resources) -> anyhow::Result<Retried> {
        let work = match &chosen.doing {
            Doing::InputGone => return Ok(Retried::InputGone),
            Doing::Again { input } => {
                let Some(input) = self.store.describe(&self.business.bucket, input, None).await? else {
                    return Ok(Retried::InputGone);
                };
                self.stored(&input.name, input.generation, &input.metadata)?
            }
            Doing::Anew { attempt, outcome } => match self.record_attempt(*attempt, outcome, resources).await? {
                Some(work) => work,
                None => return Ok(Retried::InputGone),
            },
        };
        let message_id = self.publish(&work).await?;
        Ok(Retried::Published { attempt: work.identity.attempt, message_id })
    }

    /// Writes the attempt to the metadata of the input, and returns its work; `None` when the input is deleted.
    async fn record_attempt(&self, attempt: u32, name: &str, resources: &Resources) -> anyhow::Result<Option<Work>> {
        let bucket = &self.business.bucket;
        let Some(last) = outcomes::read(&self.store, bucket, name).await? else {
            bail!("the outcome {name} does not exist any more");
        };
        let Some(mut work) = last?.work else { bail!("the outcome {name} names no Job") };
        (work.identity.attempt, work.identity.first, work.only) = (attempt, None, None);
        work.resources = Resources {
            memory: resources.memory.clone().or(work.resources.memory),
            timeout_secs: resources.timeout_secs.or(work.resources.timeout_secs),
        };
        work.resources
            .check(&self.business)
            .and_then(|()| work.check_message())
            .map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        let retried = Timestamp::now().to_string();
        let generation = work.identity.generation;
        let mut refused = None;
        let recorded = self
            .store
            .amend_unread(bucket, &work.identity.object, |input| {
                let is_recorded = attempt_of(&input.metadata) >= attempt;
                if input.generation != generation || is_recorded {
                    return None;
                }
                let mut metadata = input.metadata.clone();
                metadata.extend(work.metadata());
                metadata.insert(labels::METADATA_RETRIED.to_owned(), retried.clone());
                // Before the attempt is recorded: options that are refused would leave the Job waiting.
                refused = self.stored(&input.name, generation, &metadata).err();
                refused.is_none().then_some(metadata)
            })
            .await?;
        if let Some(refused) = refused {
            return Err(refused.context("use the options in the metadata of the input; upload it with correct ones"));
        }
        match recorded {
            Some(input) if input.generation == generation => {
                Ok(Some(self.stored(&input.name, input.generation, &input.metadata)?))
            }
            Some(_) => bail!("the input was replaced meanwhile"),
            None => Ok(None),
        }
    }

    fn stored(
        &self,
        name: &str,
        generation: i64,
        metadata: &std::collections::BTreeMap<String, String>,
    ) -> anyhow::Result<Work> {
        message::stored(name, generation, metadata, &self.business).map_err(|refusal| anyhow::anyhow!(refusal.message))
    }

    pub(crate) async fn publish(&self, work: &Work) -> anyhow::Result<String> {
        let (data, attributes) = work.encode();
        let message = Message::new().set_data(data).set_attributes(attributes);
        self.publisher.publish(message).await.with_context(|| format!("publish to {}", self.business.topic))
    }
}

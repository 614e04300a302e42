//! Another attempt at Jobs that did not succeed, in the same session.
//!
//! The attempt wanted is noted in the input's metadata before its message is published, so a retry is seen as waiting
//! from then on, is not lost when this program stops in between, and is the same retry when two operators ask at once.

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

use crate::jobs::{Job, State};

/// Which Jobs to try again; an empty list chooses all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// How they ended.
    pub states: Vec<State>,
    /// Reason codes.
    pub codes: Vec<String>,
    /// Job ids.
    pub jobs: Vec<String>,
}

/// What the next attempt is given more of; what is not named stays as it was in the last one.
pub type More = Resources;

/// A Job that is to be tried again.
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
    /// What is to be done.
    pub doing: Doing,
}

/// What is to be done for a Job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// A new attempt of this number, after the one with this outcome object.
    Anew {
        /// Number of the new attempt.
        attempt: u32,
        /// Outcome of the last one.
        outcome: String,
    },
    /// A retry of this input was asked for and has not begun, or nobody knows how it ended: its message is published
    /// again.
    Again {
        /// Name of the input.
        input: String,
    },
    /// Nothing: its input is gone.
    InputGone,
}

/// What became of one.
#[derive(Debug)]
pub enum Retried {
    /// Its message is published.
    Published {
        /// The attempt.
        attempt: u32,
        /// Id of the message.
        message_id: String,
    },
    /// Its input is gone.
    InputGone,
}

impl Selection {
    /// The Jobs to try again, among those that count (see [`super::latest`]). Pure.
    pub fn choose(&self, jobs: &[Job]) -> Vec<Chosen> {
        let is_wanted = |job: &Job, state: State, code: &str| {
            (self.states.is_empty() || self.states.contains(&state))
                && (self.codes.is_empty() || self.codes.iter().any(|wanted| wanted == code))
                && (self.jobs.is_empty() || self.jobs.contains(&job.job))
        };
        let chosen = jobs.iter().filter_map(|job| {
            let code = job.reason.as_ref().map(|reason| reason.code.clone()).unwrap_or_default();
            let (state, doing) = match (job.state, &job.outcome, &job.input) {
                (Some(State::Waiting), _, Some(input)) if job.attempt > 0 => {
                    // It is not known any more how it ended before.
                    let named = self.jobs.is_empty() || self.jobs.contains(&job.job);
                    return named.then(|| Chosen {
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
            // A refused message is replayed, not retried: there is no input.
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

/// Asks for new attempts in one business.
#[derive(Clone, Debug)]
pub struct Retrier {
    store: Store,
    publisher: Publisher,
    business: Business,
}

impl Retrier {
    /// For a business.
    pub fn new(store: Store, publisher: &BasePublisher, business: Business) -> Self {
        let publisher = publisher.publisher(&business.topic).build();
        Self { store, publisher, business }
    }

    /// Asks for one new attempt.
    ///
    /// # Errors
    /// When more is asked for than an attempt may have, or the bucket or Pub/Sub refuses.
    pub async fn retry(&self, chosen: &Chosen, more: &More) -> anyhow::Result<Retried> {
        let work = match &chosen.doing {
            Doing::InputGone => return Ok(Retried::InputGone),
            Doing::Again { input } => {
                let Some(input) = self.store.describe(&self.business.bucket, input, None).await? else {
                    return Ok(Retried::InputGone);
                };
                self.stored(&input.name, input.generation, &input.metadata)?
            }
            Doing::Anew { attempt, outcome } => match self.note(*attempt, outcome, more).await? {
                Some(work) => work,
                None => return Ok(Retried::InputGone),
            },
        };
        let message_id = self.publish(&work).await?;
        Ok(Retried::Published { attempt: work.identity.attempt, message_id })
    }

    /// Notes the attempt with the input, and returns what it asks for then; `None` when the input is gone.
    async fn note(&self, attempt: u32, name: &str, more: &More) -> anyhow::Result<Option<Work>> {
        let bucket = &self.business.bucket;
        let Some(last) = outcomes::read(&self.store, bucket, name).await? else {
            bail!("the outcome {name} is gone");
        };
        let Some(mut work) = last?.work else { bail!("the outcome {name} does not say what it is of") };
        work.identity.attempt = attempt;
        work.resources = Resources {
            memory: more.memory.clone().or(work.resources.memory),
            timeout_secs: more.timeout_secs.or(work.resources.timeout_secs),
        };
        work.resources.check(&self.business).map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        let retried = Timestamp::now().to_string();
        let generation = work.identity.generation;
        let noted = self
            .store
            .amend(bucket, &work.identity.object, |input| {
                let is_noted = attempt_of(&input.metadata) >= attempt;
                if input.generation != generation || is_noted {
                    return None;
                }
                let mut metadata = input.metadata.clone();
                metadata.extend(work.metadata());
                metadata.insert(labels::METADATA_RETRIED.to_owned(), retried.clone());
                Some(metadata)
            })
            .await?;
        match noted {
            Some(input) if input.generation == generation => {
                Ok(Some(self.stored(&input.name, input.generation, &input.metadata)?))
            }
            Some(_) => bail!("there is another input of this name by now"),
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

/// The attempt that an input's metadata asks for.
pub(crate) fn attempt_of(metadata: &std::collections::BTreeMap<String, String>) -> u32 {
    let key = format!("{}{}", labels::METADATA_PREFIX, labels::ATTRIBUTE_ATTEMPT);
    metadata.get(&key).and_then(|text| text.parse().ok()).unwrap_or_default()
}

//! Dead letters: outcomes `failed` and `refused` that nobody has replayed or discarded.
//!
//! Replaying one makes a new attempt in the same session; a refused message is published again, unchanged or corrected.
//! Discarding one marks its outcome. The outcome stays, and so does its input unless it is deleted too.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use bytes::Bytes;
use cloud::{
    outcomes,
    storage::{Properties, Replaced, Store},
};
use contract::{
    Outcome,
    config::Business,
    labels,
    message::{self, Resources},
    pack::{self, Format, Pack},
};
use google_cloud_pubsub::{
    client::{BasePublisher, Publisher},
    model::Message,
};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    Chosen, Doing, Retried, Retrier,
    jobs::{self, Job, Objects, State},
};

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize)]
pub struct DeadLetter {
    /// Business.
    pub business: String,
    /// Session; `refused` for a refused message.
    pub session: String,
    /// Job id, or the id of the refused message.
    pub job: String,
    /// `failed` or `refused`.
    pub state: State,
    /// Reason code.
    pub code: String,
    /// When its outcome was written.
    pub since: Option<Timestamp>,
    /// Generation of its input; 0 for a refused message.
    pub generation: i64,
    /// Attempt that failed.
    pub attempt: u32,
    /// Name of its outcome.
    pub outcome: String,
    /// Name of its input, if it exists.
    pub input: Option<String>,
    /// When a person discarded it.
    pub discarded: Option<String>,
    /// Names of all its outcomes, one for each range of a pack.
    #[serde(skip)]
    pub outcomes: Vec<String>,
}

impl DeadLetter {
    /// Whether it is a refused message.
    pub fn is_message(&self) -> bool {
        self.session == jobs::REFUSED_SESSION
    }
}

/// How to correct what is replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correction {
    /// Bytes that replace the input, or the message's data.
    pub contents: Option<Bytes>,
    /// Attributes of a message to set; an empty value removes the attribute.
    pub attributes: BTreeMap<String, String>,
    /// Resources of the new attempt that differ from the last one.
    pub resources: Resources,
}

/// The dead letters among the objects of a business, the oldest first, without replayed ones; with `discarded`, also
/// the discarded ones. Pure.
pub fn among(business: &str, session: Option<&str>, objects: &Objects, discarded: bool) -> Vec<DeadLetter> {
    let metadata: HashMap<&str, &BTreeMap<String, String>> =
        objects.outcomes.iter().map(|outcome| (outcome.name.as_str(), &outcome.metadata)).collect();
    let jobs = crate::latest(jobs::merge(business, session, objects, &[]));
    let mut letters: Vec<DeadLetter> = jobs
        .into_iter()
        .filter_map(
            |Job {
                 business,
                 session,
                 job,
                 generation,
                 attempt,
                 state,
                 reason,
                 changed,
                 input,
                 outcome,
                 outcomes,
                 ..
             }| {
                let outcome = outcome?;
                let state = state.unwrap_or(State::Failed);
                let marks = metadata.get(outcome.as_str())?;
                let is_dead = matches!(state, State::Failed | State::Refused);
                let mark = marks.get(labels::METADATA_DISCARDED).cloned();
                if !is_dead || marks.contains_key(labels::METADATA_REPLAYED) || (mark.is_some() && !discarded) {
                    return None;
                }
                let code = reason.map(|reason| reason.code).unwrap_or_default();
                Some(DeadLetter {
                    business,
                    session,
                    job,
                    state,
                    code,
                    since: changed,
                    generation,
                    attempt,
                    outcome,
                    input,
                    discarded: mark,
                    outcomes,
                })
            },
        )
        .collect();
    letters.sort_by_key(|letter| letter.since);
    letters
}

/// Marks a dead letter as discarded; `false` when its outcome was deleted. With `input`, then deletes that generation
/// of its input.
///
/// # Errors
/// When the outcome cannot be changed, or the input cannot be deleted.
pub async fn discard(store: &Store, business: &Business, letter: &DeadLetter, input: bool) -> anyhow::Result<bool> {
    let now = Timestamp::now().to_string();
    let mut marked = false;
    for outcome in &letter.outcomes {
        marked |= mark(store, business, outcome, labels::METADATA_DISCARDED, &now).await?;
    }
    if let Some(name) = letter.input.as_ref().filter(|_| input) {
        store.delete(&business.bucket, name, letter.generation).await?;
    }
    Ok(marked)
}

async fn mark(store: &Store, business: &Business, outcome: &str, key: &str, value: &str) -> anyhow::Result<bool> {
    let marked = store.amend(&business.bucket, outcome, |object| {
        if object.metadata.contains_key(key) {
            return None;
        }
        let mut metadata = object.metadata.clone();
        metadata.insert(key.to_owned(), value.to_owned());
        Some(metadata)
    });
    Ok(marked.await?.is_some())
}

/// Replays dead letters of one business.
#[derive(Clone, Debug)]
pub struct Replayer {
    store: Store,
    business: Business,
    publisher: Publisher,
    retrier: Retrier,
}

impl Replayer {
    /// For dead letters of `business`.
    pub fn new(store: Store, publisher: &BasePublisher, business: Business) -> Self {
        let retrier = Retrier::new(store.clone(), publisher, business.clone());
        let publisher = publisher.publisher(&business.topic).build();
        Self { store, business, publisher, retrier }
    }

    /// Replays one: a message is published again, a Job gets another attempt, or a corrected input.
    ///
    /// # Errors
    /// When its outcome was deleted, or Cloud Storage or Pub/Sub fails.
    pub async fn replay(&self, letter: &DeadLetter, correction: &Correction) -> anyhow::Result<Retried> {
        if letter.is_message() {
            return self.message(letter, correction).await;
        }
        if let Some(contents) = &correction.contents {
            return self.corrected(letter, contents.clone()).await;
        }
        let doing = match &letter.input {
            None => Doing::InputGone,
            Some(_) => Doing::Anew { attempt: letter.attempt + 1, outcome: letter.outcome.clone() },
        };
        let chosen = Chosen {
            session: letter.session.clone(),
            job: letter.job.clone(),
            state: letter.state,
            code: letter.code.clone(),
            doing,
        };
        self.retrier.retry(&chosen, &correction.resources).await
    }

    /// Publishes a refused message again, and marks the refusal after that. When this program stops in between, a
    /// second replay makes a second message, which is harmless: it has the same input, or is refused again.
    async fn message(&self, letter: &DeadLetter, correction: &Correction) -> anyhow::Result<Retried> {
        let outcome = self.outcome(letter).await?;
        let data = match (&correction.contents, &outcome.message_data) {
            (Some(contents), _) => contents.clone(),
            (None, Some(kept)) => {
                let kept = base64::engine::general_purpose::STANDARD.decode(kept);
                kept.with_context(|| format!("read the message in {}", letter.outcome))?.into()
            }
            (None, None) => bail!("the outcome {} does not contain the message's data", letter.outcome),
        };
        let mut attributes = outcome.message_attributes.unwrap_or_default();
        attributes.extend(correction.attributes.clone());
        attributes.retain(|_, value| !value.is_empty());
        let message = Message::new().set_data(data).set_attributes(attributes);
        let message_id =
            self.publisher.publish(message).await.with_context(|| format!("publish to {}", self.business.topic))?;
        mark(&self.store, &self.business, &letter.outcome, labels::METADATA_REPLAYED, &message_id).await?;
        Ok(Retried::Published { attempt: 0, message_id })
    }

    /// Replaces the input with corrected bytes: a new generation, hence a new identity, with the same options.
    async fn corrected(&self, letter: &DeadLetter, contents: Bytes) -> anyhow::Result<Retried> {
        let outcome = self.outcome(letter).await?;
        let Some(mut work) = outcome.work else { bail!("the outcome {} names no Job", letter.outcome) };
        let (bucket, name) = (&self.business.bucket, work.identity.object.clone());
        let live = self.store.describe(bucket, &name, None).await?;
        if let Some(live) = live.as_ref().filter(|_| outcome.state == contract::outcome::State::Refused) {
            // Its outcome does not have the options that were refused.
            message::stored(&name, live.generation, &live.metadata, &self.business).map_err(|refusal| {
                anyhow::anyhow!("{}; upload the input with correct options in its metadata", refusal.message)
            })?;
        }
        let content_type = live.as_ref().map_or("application/octet-stream", |live| &live.content_type).to_owned();
        let before = live.map_or(0, |live| live.generation);
        if before > work.identity.generation {
            bail!("gs://{bucket}/{name} was replaced after the failure; its new contents are another input");
        }
        (work.identity.attempt, work.identity.first, work.only) = (0, None, None);
        if let Some(pack) = &mut work.pack {
            let rows = match pack.format {
                Format::Table => kernel::table::rows(&contents),
                Format::Lines => pack::lines(&contents).count(),
                Format::Whole => pack.items as usize,
                Format::Files => {
                    let mut files = 0;
                    let read = pack::files::read(&contents[..], false, |_| files += 1);
                    read.map_err(|why| anyhow::anyhow!("the archive {why}"))?;
                    files
                }
            };
            pack.items = Pack::items_for(rows, pack.rows_per_item).context("count the items of the corrected pack")?;
            pack.check().map_err(anyhow::Error::msg).context("use the corrected pack")?;
        }
        let properties = Properties { content_type, metadata: work.metadata() };
        match self.store.replace(bucket, &name, contents, properties, before).await? {
            Replaced::Done { generation, .. } => work.identity.generation = generation,
            Replaced::Changed => bail!("gs://{bucket}/{name} was replaced by somebody else at the same time"),
        }
        message::stored(&name, work.identity.generation, &work.metadata(), &self.business)
            .map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        let message_id = self.retrier.publish(&work).await?;
        Ok(Retried::Published { attempt: 0, message_id })
    }

    async fn outcome(&self, letter: &DeadLetter) -> anyhow::Result<Outcome> {
        let Some(outcome) = outcomes::read(&self.store, &self.business.bucket, &letter.outcome).await? else {
            bail!("the outcome {} does not exist any more", letter.outcome);
        };
        Ok(outcome?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloud::storage::Object;

    #[test]
    fn dead_letters_are_what_failed_or_was_refused_and_nobody_dealt_with() {
        let object = |name: &str, generation, state: &str, mark: &str| {
            let mut metadata = BTreeMap::new();
            if !state.is_empty() {
                metadata.insert(labels::METADATA_STATE.to_owned(), state.to_owned());
                metadata.insert(labels::METADATA_REASON.to_owned(), "why".to_owned());
            }
            if !mark.is_empty() {
                metadata.insert(mark.to_owned(), "1".to_owned());
            }
            let created = Timestamp::from_second(generation).ok();
            Object { name: name.into(), generation, size: 1, created, content_type: String::new(), metadata }
        };
        let objects = Objects {
            inputs: vec![
                object("bu1/input/s/failed", 1, "", ""),
                object("bu1/input/s/retried", 2, "", "deskgrid-attempt"),
                object("bu1/input/s/corrected", 9, "", ""),
            ],
            outcomes: vec![
                object("bu1/outcome/s/failed/1-0.json", 30, "failed", ""),
                object("bu1/outcome/s/retried/2-0.json", 11, "failed", ""),
                object("bu1/outcome/s/corrected/3-0.json", 12, "failed", ""),
                object("bu1/outcome/s/fine/4-0.json", 13, "succeeded", ""),
                object("bu1/outcome/s/stopped/5-0.json", 14, "cancelled", ""),
                object("bu1/outcome/s/given-up/6-0.json", 15, "failed", labels::METADATA_DISCARDED),
                object("bu1/outcome/s/invalid/7-0.json", 16, "refused", ""),
                object("bu1/outcome/refused/21.json", 17, "refused", ""),
                object("bu1/outcome/refused/22.json", 18, "refused", labels::METADATA_REPLAYED),
            ],
            expired_before: None,
            lost_before: None,
        };
        let names = |discarded| -> Vec<String> {
            among("bu1", None, &objects, discarded).into_iter().map(|letter| letter.job).collect()
        };
        assert_eq!(names(false), ["invalid", "21", "failed"], "the oldest first");
        let failed = among("bu1", None, &objects, false).pop().unwrap();
        assert_eq!((failed.input.as_deref(), failed.generation), (Some("bu1/input/s/failed"), 1));
        assert_eq!(names(true), ["given-up", "invalid", "21", "failed"]);
        let all = among("bu1", Some("s"), &objects, false);
        assert!(all.iter().all(|letter| !letter.is_message()) && all.len() == 2);
    }
}

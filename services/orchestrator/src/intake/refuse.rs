//! Outcomes of messages that are refused.

use anyhow::Context as _;
use base64::Engine as _;
use contract::{Outcome, message::Refusal, object, outcome::State};

use crate::{
    admit::error::AdmitError,
    hooks::Step,
    intake::{accept::Acceptor, received::Received},
};

/// Bytes from which a message is large. Its outcome holds all of it as text, several times while it is encoded.
const LARGE: usize = 1024 * 1024;

impl Acceptor {
    /// Records the outcome of a message that cannot become a Job; large ones wait for each other.
    pub(super) async fn refuse(&self, message: &Received, refusal: &Refusal) -> Result<(), AdmitError> {
        let (base, records) = (&self.base, &self.admission.records);
        let Refusal { code, message: why, work } = refusal;
        if let Some(work) = work {
            return Ok(records.refuse(&message.origin(), work, refusal).await?);
        }
        let _permit = match message.data.len() > LARGE {
            true => Some(self.large_refusals.acquire().await.context("wait for other large messages")?),
            false => None,
        };
        let mut outcome = Outcome::new(&base.business.name, State::Refused, code, &**why);
        outcome.message_data = Some(base64::engine::general_purpose::STANDARD.encode(&message.data));
        outcome.message_attributes = Some(message.attributes.clone());
        // Pub/Sub's ids are short numbers; any other id is hashed.
        let id = &message.id;
        let is_plain = !id.is_empty() && id.len() <= 100 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let id = if is_plain { id.clone() } else { contract::names::hash(&[id], 32) };
        let object = object::refused(&base.business.name, &id);
        let written = records.write_without_job(&message.origin(), &object, outcome).await?;
        if let Some((outcome, is_new)) = written {
            if is_new {
                tracing::warn!(code, "refused the message: {why}");
            }
            records.events.publish(&outcome).await;
        }
        base.hooks.reached(Step::EventPublished, Some(&message.id), None).await;
        Ok(())
    }
}

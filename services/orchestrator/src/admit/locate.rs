//! Finds the input of a message that does not name it in full: the live generation of an object, or the message's own
//! bytes, which are written as an object.

use cloud::storage::{Properties, Written};
use contract::{message::Work, object, outcome::Reason};
use futures::TryStreamExt as _;

use crate::{
    admit::{Admission, error::AdmitError},
    hooks::Step,
    intake::received::Received,
};

impl Admission {
    /// The work at the live generation of its input; `None` when it has an outcome.
    pub(crate) async fn live(&self, message: &Received, work: &Work) -> Result<Option<Work>, AdmitError> {
        let mut work = work.clone();
        if let Some(found) = self.base.store.describe(&work.identity.bucket, &work.identity.object, None).await? {
            work.identity.generation = found.generation;
            return Ok(Some(work));
        }
        if let Some(settled) = self.settled_generation(&work).await? {
            work.identity.generation = settled;
            self.records.republish(&work).await?;
            return Ok(None);
        }
        // The generation is unknown, so the outcome has generation 0.
        let message_of = format!("there is no object {} in the bucket", work.identity.object);
        let reason = Reason { code: "input-missing".to_owned(), message: message_of };
        self.fail(&message.origin(), &work, reason).await?;
        Ok(None)
    }

    /// The work whose input is the message's own bytes; `None` when it has an outcome.
    pub(crate) async fn inline(&self, message: &Received, work: &Work) -> Result<Option<Work>, AdmitError> {
        let mut work = work.clone();
        let (bucket, object) = (work.identity.bucket.clone(), work.identity.object.clone());
        // The input of a success is deleted, so a redelivery would write it once more and run it as new work.
        if let Some(settled) = self.settled_generation(&work).await? {
            if let Some(left) =
                self.base.store.describe(&bucket, &object, None).await?.filter(|o| o.generation != settled)
            {
                self.base.store.delete(&bucket, &object, left.generation).await?;
            }
            return Ok(None);
        }
        let properties = Properties { content_type: message.content_type().to_owned(), metadata: work.metadata() };
        match self.base.store.write_once(&bucket, &object, message.data.clone(), properties).await? {
            Written::New(generation) => {
                work.identity.generation = generation;
                self.base.hooks.reached(Step::InlineWritten, Some(&message.id), Some(&work.identity)).await;
                // An outcome is written before its input is deleted, so if an earlier input was deleted just now, its
                // outcome is visible.
                if self.settled_generation(&work).await?.is_some() {
                    self.base.store.delete(&bucket, &object, generation).await?;
                    return Ok(None);
                }
            }
            Written::Exists => match self.base.store.describe(&bucket, &object, None).await? {
                Some(found) => work.identity.generation = found.generation,
                // Another process deleted it after a success.
                None if self.settled_generation(&work).await?.is_some() => return Ok(None),
                None => return Err(anyhow::anyhow!("{object} was deleted while it was read").into()),
            },
        }
        Ok(Some(work))
    }

    /// The generation for which this attempt has an outcome, if any.
    pub(super) async fn settled_generation(&self, work: &Work) -> anyhow::Result<Option<i64>> {
        let prefix = format!("{}{}/", object::outcome_prefix(&work.business, Some(&work.session)), work.job);
        let mut outcomes = self.base.store.list_stream(&work.identity.bucket, &prefix);
        while let Some(found) = outcomes.try_next().await? {
            if let Some(name) = object::parse_outcome(&work.business, &found.name)
                && (&name.session, &name.job, name.attempt) == (&work.session, &work.job, work.identity.attempt)
            {
                return Ok(Some(name.generation));
            }
        }
        Ok(None)
    }
}

//! Submitting what comes only once, such as an upload that is passed on: it is never held as a whole.

use std::collections::BTreeMap;

use anyhow::bail;
use cloud::storage::{Fingerprint, Incoming, Properties, Written};
use contract::{labels, message::Work, object};

use super::{Fate, Options, Step, Submitter, send::is_same};

/// A session has another object of this name already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs(pub String);

impl std::fmt::Display for Differs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Differs {}

impl Submitter {
    /// Submits one Job whose bytes are `incoming`. Who may create inputs need not be allowed to read them, so one that
    /// is there already is compared by what a listing tells. Never returns [`Fate::Failed`].
    ///
    /// # Errors
    /// What `incoming` came to; [`Differs`] when the session has another input of this name; or when the bucket or
    /// Pub/Sub refuses.
    pub async fn submit_incoming(
        &self,
        job: &str,
        content_type: &str,
        incoming: &Incoming,
        options: &Options,
    ) -> anyhow::Result<Fate> {
        let mut work = options.work(&self.business, job);
        let (bucket, name) = (work.identity.bucket.clone(), work.identity.object.clone());
        let [inputs, outcomes] = [name.clone(), object::outcome_prefix(&self.business.name, Some(&options.session))];
        let settled = async || self.look_again(job, &options.session).await;
        if self.store.listed(&bucket, &inputs).await?.is_none()
            && let Step::Settled { generation } = settled().await?
        {
            return Ok(Fate::Settled { generation });
        }
        let properties = Properties { content_type: content_type.to_owned(), metadata: work.metadata() };
        match self.store.write_incoming_once(&bucket, &name, incoming, properties).await? {
            Written::New(generation) => {
                work.identity.generation = generation;
                self.publish(&work, false).await
            }
            Written::Exists => {
                let ours = incoming.rest().await?;
                match self.store.listed(&bucket, &name).await? {
                    Some((there, metadata)) => {
                        check_same(&work, &there, &metadata, ours)?;
                        work.identity.generation = there.generation;
                        self.publish(&work, true).await
                    }
                    None => match settled().await? {
                        Step::Settled { generation } => Ok(Fate::Settled { generation }),
                        _ => {
                            bail!("the input gs://{bucket}/{name} was there and is gone, and {outcomes} has no outcome")
                        }
                    },
                }
            }
        }
    }

    /// As [`Submitter::place_common`], from what comes once.
    ///
    /// # Errors
    /// As [`Submitter::submit_incoming`].
    pub async fn place_incoming_common(
        &self,
        name: &str,
        content_type: &str,
        incoming: &Incoming,
        session: &str,
    ) -> anyhow::Result<()> {
        let bucket = &self.business.bucket;
        let object = object::common(&self.business.name, session, name);
        let properties = Properties { content_type: content_type.to_owned(), ..Properties::default() };
        if let Written::New(_) = self.store.write_incoming_once(bucket, &object, incoming, properties).await? {
            return Ok(());
        }
        let ours = incoming.rest().await?;
        match self.store.listed(bucket, &object).await? {
            Some((there, _)) if !is_same(&there, ours) => bail!(Differs(format!(
                "session {session} already has other shared data called {name}; choose another session or another name"
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether what is there is the same submission as ours (its size and CRC32C), in all that changes the result.
///
/// # Errors
/// [`Differs`] when it is not.
pub(super) fn check_same(
    work: &Work,
    there: &Fingerprint,
    written: &BTreeMap<String, String>,
    ours: (i64, u32),
) -> Result<(), Differs> {
    if !is_same(there, ours) {
        return Err(Differs(format!(
            "session {} already has another input of this name, with other contents \
             (gs://{}/{}); choose another session or another name",
            work.session, work.identity.bucket, work.identity.object
        )));
    }
    let wanted = work.metadata();
    for option in [labels::ATTRIBUTE_TASKS, labels::ATTRIBUTE_ROWS_PER_TASK, labels::ATTRIBUTE_COMMON] {
        let key = format!("{}{option}", labels::METADATA_PREFIX);
        if written.get(&key) != wanted.get(&key) {
            return Err(Differs(format!(
                "session {} already has this input with {option}={}; choose another session",
                work.session,
                written.get(&key).map_or("none", String::as_str)
            )));
        }
    }
    Ok(())
}

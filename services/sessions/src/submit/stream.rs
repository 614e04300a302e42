//! Submits streams that can be read only once, such as an upload that is passed on, without holding them in memory.

use anyhow::bail;
use cloud::storage::{Incoming, Properties, Written};
use contract::object;

use super::{
    compare::{Differs, check_same, is_same},
    existing::Step,
    options::{Fate, Options},
    send::Submitter,
};

impl Submitter {
    /// Submits one Job with the bytes of `incoming`. The permission to create inputs does not include reading them, so
    /// an existing input is compared by its listing. Never returns [`Fate::Failed`].
    ///
    /// # Errors
    /// When `incoming` fails; [`Differs`] when the session has another input of this name; or when Cloud Storage or
    /// Pub/Sub fails.
    pub async fn submit_incoming(
        &self,
        job: &str,
        content_type: &str,
        incoming: &Incoming,
        options: &Options,
    ) -> anyhow::Result<Fate> {
        let mut work = options.work(&self.business, job);
        work.check_message().map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        let (bucket, name) = (work.identity.bucket.clone(), work.identity.object.clone());
        let [inputs, outcomes] = [name.clone(), object::outcome_prefix(&self.business.name, Some(&options.session))];
        let settled = async || self.step_after_deletion(job, &options.session).await;
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
                            bail!("the input gs://{bucket}/{name} was deleted meanwhile, and {outcomes} has no outcome")
                        }
                    },
                }
            }
        }
    }

    /// As [`Submitter::place_common`], from a stream.
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
                "session {session} already has other common data called {name}; choose another session or another name"
            ))),
            _ => Ok(()),
        }
    }
}

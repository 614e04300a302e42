//! Creates a Job and reads the API server's answer.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use contract::message::Work;
use tokio::sync::Semaphore;

use crate::{
    admit::{error::AdmitError, gate},
    base::Base,
    clock::seconds_between,
    cluster::answers::{Answer, classify},
    execute::job::{self, Origin, Template},
    metrics::retry,
    watch::jobs::Slot,
};

/// Limit of concurrent creates. Each has a connection with its buffers and its handshake, and more of them do not make
/// an API server quicker.
const CREATES_MAX: usize = 32;

/// The result of a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// The Job is created: its uid.
    New(String),
    /// The Job exists.
    Exists,
    /// The API server rejects it but accepts the bare template: its message.
    Rejected(String),
}

/// Creates Jobs, a limited number at the same time.
pub(crate) struct Creator {
    base: Arc<Base>,
    pub(crate) template: Template,
    permits: Semaphore,
}

impl Creator {
    pub(crate) fn new(base: &Arc<Base>, template: Template) -> Self {
        Self { base: base.clone(), template, permits: Semaphore::new(CREATES_MAX) }
    }

    /// Creates the Job of this work, which takes the slot.
    ///
    /// # Errors
    /// When the answer is about the API server or the template, and not about this Job.
    pub(crate) async fn create(&self, origin: &Origin, work: &Work, slot: &mut Slot) -> Result<Created, AdmitError> {
        let (base, name) = (&self.base, work.identity.job_name());
        let created = {
            let _permit = self.permits.acquire().await.context("wait for other creates")?;
            // Encoded only now, so that waiting creates use little memory.
            let job = self.template.job(work, origin).and_then(|job| Ok(serde_json::to_vec(&job)?));
            base.cluster.create(job.map_err(|error| AdmitError::OurFault(format!("{error:#}")))?).await
        };
        let error = match created {
            Ok(uid) => {
                slot.created(&name);
                base.metrics.created.inc();
                if let Some(published) = origin.published {
                    base.metrics.publish_to_created.observe(seconds_between(published, (base.clock)()));
                }
                return Ok(Created::New(uid));
            }
            Err(error) => error,
        };
        match classify(&error) {
            Answer::Exists => Box::pin(self.check_existing(&name, work)).await.map(|()| Created::Exists),
            Answer::Retry { reason, after } => {
                Err(AdmitError::Transient { reason, after, why: format!("create the Job {name}: {error}") })
            }
            Answer::OurFault(why) => Err(AdmitError::OurFault(format!("the API server refuses to create Jobs: {why}"))),
            Answer::Rejected(why) => match Box::pin(gate::probe(base, &self.template)).await {
                Err(fault) => Err(AdmitError::OurFault(fault)),
                Ok(()) => Ok(Created::Rejected(why)),
            },
        }
    }

    /// Checks that the existing Job of this name is for this work and is not being deleted.
    async fn check_existing(&self, name: &str, work: &Work) -> Result<(), AdmitError> {
        let deleted = |why: &str| AdmitError::Transient {
            reason: retry::DELETING,
            after: Duration::ZERO,
            why: format!("the Job {name} {why}; its outcome must be written first"),
        };
        let Some(job) = self.base.cluster.job(name).await? else {
            return Err(deleted("was just removed"));
        };
        let theirs = job::read_work(&job).map_err(|error| AdmitError::Stuck(format!("{error:#}")))?.identity;
        if theirs != work.identity {
            return Err(AdmitError::Stuck(format!("the Job {name} is for {theirs:?}, not for {:?}", work.identity)));
        }
        match job.metadata.deletion_timestamp {
            Some(_) => Err(deleted("is being deleted")),
            None => Ok(()),
        }
    }
}

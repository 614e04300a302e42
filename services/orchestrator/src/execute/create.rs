//! Creates a Job and reads the API server's answer.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use tokio::sync::Semaphore;

use crate::{
    admit::{error::AdmitError, gate},
    base::Base,
    clock::seconds_between,
    cluster::answers::{Answer, classify},
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
    /// A Job of that name exists.
    Exists,
    /// The API server rejects it but accepts the bare template: its message.
    Rejected(String),
}

/// Creates Jobs, a limited number at the same time.
#[derive(Debug)]
pub(crate) struct Creates(Semaphore);

impl Default for Creates {
    fn default() -> Self {
        Self(Semaphore::new(CREATES_MAX))
    }
}

impl Creates {
    /// Creates the Job of this name, which takes the slot. `body` encodes it only when a permit is free, so that
    /// waiting creates use little memory. `published` has the publish times of its messages.
    ///
    /// # Errors
    /// When the answer is about the API server or the template, and not about this Job.
    pub(crate) async fn create(
        &self,
        base: &Base,
        slot: &mut Slot,
        name: &str,
        body: impl FnOnce() -> anyhow::Result<Vec<u8>>,
        published: impl IntoIterator<Item = Option<Timestamp>>,
    ) -> Result<Created, AdmitError> {
        let created = {
            let _permit = self.0.acquire().await.map_err(|error| AdmitError::Stuck(error.to_string()))?;
            let body = body().map_err(|error| AdmitError::OurFault(format!("{error:#}")))?;
            base.cluster.create(body).await
        };
        let error = match created {
            Ok(uid) => {
                slot.created();
                record_created(base, published);
                return Ok(Created::New(uid));
            }
            Err(error) => error,
        };
        match classify(&error) {
            Answer::Exists => Ok(Created::Exists),
            Answer::Retry { reason, after } => {
                Err(AdmitError::Transient { reason, after, why: format!("create the Job {name}: {error}") })
            }
            Answer::OurFault(why) => Err(AdmitError::OurFault(format!("the API server refuses to create Jobs: {why}"))),
            Answer::Rejected(why) => match Box::pin(gate::probe(base)).await {
                Err(fault) => Err(AdmitError::OurFault(fault)),
                Ok(()) => Ok(Created::Rejected(why)),
            },
        }
    }
}

/// Counts a created Job whose messages were published at these times.
fn record_created(base: &Base, published: impl IntoIterator<Item = Option<Timestamp>>) {
    base.metrics.created.inc();
    for published in published.into_iter().flatten() {
        base.metrics.publish_to_created.observe(seconds_between(published, (base.clock)()));
    }
}

/// Reads the existing Job of this name and checks that it is for the same work and is not being deleted.
///
/// # Errors
/// When it is deleted or being deleted, which is transient, or when it is for other work.
pub(crate) async fn check_existing(
    base: &Base,
    name: &str,
    check: impl FnOnce(&Job) -> Result<(), String>,
) -> Result<(), AdmitError> {
    let deleted = |why: &str| AdmitError::Transient {
        reason: retry::DELETING,
        after: Duration::ZERO,
        why: format!("the Job {name} {why}; its outcome must be written first"),
    };
    let Some(job) = base.cluster.job(name).await? else {
        return Err(deleted("was just removed"));
    };
    check(&job).map_err(AdmitError::Stuck)?;
    match job.metadata.deletion_timestamp {
        Some(_) => Err(deleted("is being deleted")),
        None => Ok(()),
    }
}

//! Asking the API server for a Job, and what its answer means: the same for the Job of one message and of a batch.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use crate::{
    accept::Obstacle,
    answers::{Answer, classify},
    clock::seconds_between,
    context::Context,
    gate,
    jobs::Slot,
    metrics::retry,
};

/// What came of asking for a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// The API server has it: its uid.
    New(String),
    /// There is one of that name.
    Exists,
    /// It is not accepted, though the bare template is: the server's words.
    Rejected(String),
}

/// Asks for the Job of this name, which takes the slot. `body` makes it only when it is its turn, so that those that
/// wait for theirs are small. `published` is when its messages were.
///
/// # Errors
/// When the answer is about the API server or the template, and not about this Job.
pub(crate) async fn create(
    context: &Context,
    slot: &mut Slot,
    name: &str,
    body: impl FnOnce() -> anyhow::Result<Vec<u8>>,
    published: impl IntoIterator<Item = Option<Timestamp>>,
) -> Result<Created, Obstacle> {
    let created = {
        let _permit = context.creates.acquire().await.map_err(|error| Obstacle::Stuck(error.to_string()))?;
        let body = body().map_err(|error| Obstacle::OurFault(format!("{error:#}")))?;
        context.cluster.create(body).await
    };
    let error = match created {
        Ok(uid) => {
            slot.created();
            note(context, published);
            return Ok(Created::New(uid));
        }
        Err(error) => error,
    };
    match classify(&error) {
        Answer::Exists => Ok(Created::Exists),
        Answer::Retry { reason, after } => {
            Err(Obstacle::Passing { reason, after, why: format!("create the Job {name}: {error}") })
        }
        Answer::OurFault(why) => Err(Obstacle::OurFault(format!("the API server refuses to create Jobs: {why}"))),
        Answer::Rejected(why) => match Box::pin(gate::probe(context)).await {
            Err(fault) => Err(Obstacle::OurFault(fault)),
            Ok(()) => Ok(Created::Rejected(why)),
        },
    }
}

/// Counts a Job that was created, for messages that were published then.
fn note(context: &Context, published: impl IntoIterator<Item = Option<Timestamp>>) {
    context.metrics.created.inc();
    for published in published.into_iter().flatten() {
        context.metrics.publish_to_created.observe(seconds_between(published, (context.clock)()));
    }
}

/// Looks at the Job of this name, which is there already: fine, if `check` finds it to be for the same and it stays.
///
/// # Errors
/// When it is gone or going, which passes, or for something else.
pub(crate) async fn existing(
    context: &Context,
    name: &str,
    check: impl FnOnce(&Job) -> Result<(), String>,
) -> Result<(), Obstacle> {
    let gone = |why: &str| Obstacle::Passing {
        reason: retry::DELETING,
        after: Duration::ZERO,
        why: format!("the Job {name} {why}; what it is for has its outcome first"),
    };
    let Some(job) = context.cluster.job(name).await? else {
        return Err(gone("was just removed"));
    };
    check(&job).map_err(Obstacle::Stuck)?;
    match job.metadata.deletion_timestamp {
        Some(_) => Err(gone("is being deleted")),
        None => Ok(()),
    }
}

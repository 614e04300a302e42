//! One message, from its bytes to a Job that the API server has, an outcome that says why not, or back to Pub/Sub.
//!
//! Every try starts from the beginning and looks at the state of the world: nothing is taken over from the try before,
//! so a retry, a redelivery and another replica all go the same way.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use common::{
    Outcome, labels,
    message::{self, Request, Work},
    object,
    outcome::State,
    storage::{self, Properties, Written},
};
use futures::TryStreamExt as _;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    answers::{Answer, classify},
    clock::seconds_between,
    conclude::{conclude, refuse},
    context::Context,
    controls::{self, Stand},
    gate,
    hooks::Step,
    job::{self, Origin},
    jobs::{Slot, Waiting},
    metrics::retry,
};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// A received message.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) data: Bytes,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) published: Option<Timestamp>,
    pub(crate) received: Timestamp,
}

impl Received {
    pub(crate) fn origin(&self) -> Origin {
        Origin { message_id: self.id.clone(), published: self.published, received: self.received }
    }
}

/// What to tell Pub/Sub about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done with: a Job or an outcome exists.
    Ack,
    /// It is to be delivered again.
    Nack,
}

/// What a message has taken to be worked on.
pub(crate) enum Place {
    /// A slot, which its Job will take.
    Slot(Slot),
    /// A place among those that wait for slots together.
    Waiting(#[expect(dead_code, reason = "it counts as long as it is held")] Waiting),
}

/// Why one try came to nothing.
#[derive(Clone, Debug)]
pub(crate) enum Obstacle {
    /// A retry may cure it.
    Passing { reason: &'static str, after: Duration, why: String },
    /// Every message would meet it.
    OurFault(String),
    /// This message meets it, and it takes a person; the message goes back.
    Stuck(String),
    /// It cannot be part of a batch, and perhaps be a Job of its own.
    NotInABatch,
    /// It is time to stop.
    Stopping,
}

impl From<anyhow::Error> for Obstacle {
    /// Errors that are not of creating a Job come from Cloud Storage or from reading a Job. Access that is denied is
    /// never taken for an object that is gone.
    fn from(error: anyhow::Error) -> Self {
        let why = format!("{error:#}");
        if storage::is_denied(&error) {
            return Self::OurFault(why);
        }
        match error.downcast_ref::<kube::Error>().map(classify) {
            Some(Answer::Retry { reason, after }) => Self::Passing { reason, after, why },
            Some(_) => Self::OurFault(why),
            None => Self::Passing { reason: retry::STORAGE, after: Duration::ZERO, why },
        }
    }
}

/// Carries a message through. Returns only when Pub/Sub can be told; gives up early when `stop` is cancelled.
pub(crate) async fn accept(
    context: &Context,
    message: &Received,
    mut place: Place,
    stop: &CancellationToken,
) -> Verdict {
    context.metrics.received.inc();
    let decoded = message::decode(
        message::Received { message_id: &message.id, data: &message.data, attributes: &message.attributes },
        &context.business,
    );
    let identity = decoded.as_ref().ok().map(|request| match request {
        Request::Run(work) | Request::RunLive(work) | Request::Inline(work) => &work.identity,
    });
    context.hooks.at(Step::Received, Some(&message.id), identity).await;
    let give_up = Instant::now() + context.timing.retry_within;
    let mut backoff = RETRY_FIRST;
    let mut alone = message.attributes.get(labels::ATTRIBUTE_ALONE).is_some_and(|value| value == "true");
    loop {
        // On the heap, since many messages wait together in a batch, and each future is as large as its largest part.
        let tried = match &decoded {
            Ok(request) => Box::pin(run(context, message, request, &mut place, alone)).await,
            Err(refusal) => Box::pin(refuse(context, message, refusal)).await,
        };
        if let Place::Slot(slot) = &mut place {
            slot.not_created();
        }
        let (reason, after, why) = match tried {
            Ok(()) => {
                context.breaker().succeeded();
                return Verdict::Ack;
            }
            Err(Obstacle::Passing { reason, after, why }) => (reason, after, why),
            Err(Obstacle::OurFault(why)) => {
                context.metrics.retried(retry::OUR_FAULT);
                context.gate.close(why);
                return Verdict::Nack;
            }
            Err(Obstacle::NotInABatch) => {
                alone = true;
                continue;
            }
            Err(Obstacle::Stopping) => return Verdict::Nack,
            Err(Obstacle::Stuck(why)) => {
                tracing::error!("the message goes back to Pub/Sub: {why}");
                return Verdict::Nack;
            }
        };
        context.metrics.retried(reason);
        if reason != retry::DELETING {
            context.breaker().failed(Instant::now());
        }
        tracing::warn!(reason, "will try the message again: {why}");
        let wait = after.max(backoff.mul_f64(0.5 + rand::random::<f64>()));
        backoff = (backoff * 2).min(RETRY_MOST);
        if Instant::now() + wait > give_up {
            return Verdict::Nack;
        }
        tokio::select! {
            () = stop.cancelled() => return Verdict::Nack,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One try. What most messages never come to is on the heap, so that the future of one in hand is small.
async fn run(
    context: &Context,
    message: &Received,
    request: &Request,
    place: &mut Place,
    alone: bool,
) -> Result<(), Obstacle> {
    let work = match request {
        Request::Run(work) => Some(work.clone()),
        Request::RunLive(work) => Box::pin(live(context, message, work)).await?,
        Request::Inline(work) => Box::pin(inline(context, message, work)).await?,
    };
    let Some(work) = work else {
        context.metrics.duplicates.inc();
        return Ok(());
    };
    match place {
        Place::Slot(slot) => create_unless_settled(context, &message.origin(), &work, slot).await,
        Place::Waiting(_) => {
            let origin = message.origin();
            // What is decided about its session need not wait for a slot.
            let decided = context.controls.of(&work.session).is_some();
            if decided && (settled(context, &work).await? || !heed(context, &origin, &work).await?) {
                return Ok(());
            }
            Box::pin(context.batcher.join(work, origin, alone)).await
        }
    }
}

/// Makes sure that the API server has the Job of this work, unless it has its outcome.
pub(crate) async fn create_unless_settled(
    context: &Context,
    origin: &Origin,
    work: &Work,
    slot: &mut Slot,
) -> Result<(), Obstacle> {
    // Always, not only for old redeliveries: a Job deleted by hand leaves an outcome and no Job, at any age.
    if settled(context, work).await? {
        return Ok(());
    }
    if !heed(context, origin, work).await? {
        return Ok(());
    }
    create(context, origin, work, slot).await
}

/// Whether there is an outcome of this work already.
async fn settled(context: &Context, work: &Work) -> Result<bool, Obstacle> {
    if context.store.describe(&work.identity.bucket, &work.outcome(), None).await?.is_none() {
        return Ok(false);
    }
    tracing::info!(job = work.job, session = work.session, "there is an outcome already");
    Box::pin(controls::tell_again(context, work)).await?;
    context.metrics.duplicates.inc();
    Ok(true)
}

/// Heeds what is decided about the session of work that has no outcome: ends it, or puts it aside. Tells whether it may
/// start.
pub(crate) async fn heed(context: &Context, origin: &Origin, work: &Work) -> Result<bool, Obstacle> {
    match controls::stand(context, work, origin.published).await? {
        Stand::Go => return Ok(true),
        Stand::Cancelled => Box::pin(conclude(context, origin, work, controls::cancelled(work))).await?,
        Stand::Paused => Box::pin(controls::park(context, origin, work)).await?,
    }
    Ok(false)
}

/// Makes sure that the API server has the Job of this work.
pub(crate) async fn create(context: &Context, origin: &Origin, work: &Work, slot: &mut Slot) -> Result<(), Obstacle> {
    let name = work.identity.job_name();
    context.hooks.at(Step::BeforeCreate, Some(&origin.message_id), Some(&work.identity)).await;
    slot.creating(name.clone());
    let created = {
        let _permit = context.creates.acquire().await.map_err(|error| Obstacle::Stuck(error.to_string()))?;
        // Made only now, so that those that wait for their turn are small.
        let body = context.template.job(work, origin).map_err(|error| Obstacle::OurFault(format!("{error:#}")))?;
        context.cluster.create(&body).await
    };
    let error = match created {
        Ok(uid) => {
            slot.created();
            note_created(context, [origin.published]);
            context.hooks.at(Step::Created, Some(&origin.message_id), Some(&work.identity)).await;
            tracing::info!(
                job = work.job,
                session = work.session,
                object = work.identity.object,
                generation = work.identity.generation,
                kubernetes_job = name,
                "created the Job"
            );
            // It was settled between the look at its outcome and the create. The Job is superfluous; its settling
            // finds the outcome that is there. Or its session was cancelled meanwhile.
            let stand = controls::stand(context, work, origin.published).await?;
            if context.recent.has(&work.identity) || stand == Stand::Cancelled {
                Box::pin(context.cluster.delete(&name, &uid)).await?;
            }
            return Ok(());
        }
        Err(error) => error,
    };
    match classify(&error) {
        Answer::Exists => Box::pin(existing(context, work, &name)).await,
        Answer::Retry { reason, after } => {
            Err(Obstacle::Passing { reason, after, why: format!("create the Job {name}: {error}") })
        }
        Answer::OurFault(why) => Err(Obstacle::OurFault(format!("the API server refuses to create Jobs: {why}"))),
        Answer::Rejected(why) => match Box::pin(gate::probe(context)).await {
            Err(fault) => Err(Obstacle::OurFault(fault)),
            Ok(()) => {
                let message_text = format!("the API server does not accept the Job: {why}");
                let outcome = Outcome::new(&work.business, State::Refused, "invalid-job", message_text);
                Box::pin(conclude(context, origin, work, outcome)).await
            }
        },
    }
}

/// Counts a Job that was created, for messages that were published then.
pub(crate) fn note_created(context: &Context, published: impl IntoIterator<Item = Option<Timestamp>>) {
    context.metrics.created.inc();
    for published in published.into_iter().flatten() {
        context.metrics.publish_to_created.observe(seconds_between(published, (context.clock)()));
    }
}

/// There is a Job of that name: fine, if it is for the same work and stays.
async fn existing(context: &Context, work: &Work, name: &str) -> Result<(), Obstacle> {
    let gone = |why: &str| Obstacle::Passing {
        reason: retry::DELETING,
        after: Duration::ZERO,
        why: format!("the Job {name} {why}; its outcome comes first"),
    };
    let Some(job) = context.cluster.job(name).await? else {
        return Err(gone("was just removed"));
    };
    match job::work_of(&job) {
        Ok(theirs) if theirs.identity != work.identity => Err(Obstacle::Stuck(format!(
            "the Job {name} is there for {:?}, not for {:?}",
            theirs.identity, work.identity
        ))),
        Err(error) => Err(Obstacle::Stuck(format!("{error:#}"))),
        Ok(_) if job.metadata.deletion_timestamp.is_some() => Err(gone("is being deleted")),
        Ok(_) => {
            context.metrics.duplicates.inc();
            Ok(())
        }
    }
}

/// The work at the live generation of its input; `None` when it is done with.
async fn live(context: &Context, message: &Received, work: &Work) -> Result<Option<Work>, Obstacle> {
    let mut work = work.clone();
    if let Some(found) = context.store.describe(&work.identity.bucket, &work.identity.object, None).await? {
        work.identity.generation = found.generation;
        return Ok(Some(work));
    }
    if settled_generation(context, &work).await?.is_none() {
        // No generation was ever known, so the outcome is that of generation 0.
        let why = format!("there is no object {} in the bucket", work.identity.object);
        let outcome = Outcome::new(&work.business, State::Failed, "input-missing", why);
        conclude(context, &message.origin(), &work, outcome).await?;
    }
    Ok(None)
}

/// The work whose input is the message's own bytes; `None` when it is done with.
async fn inline(context: &Context, message: &Received, work: &Work) -> Result<Option<Work>, Obstacle> {
    let mut work = work.clone();
    let (bucket, object) = (work.identity.bucket.clone(), work.identity.object.clone());
    // The input is deleted once it succeeded, so a redelivery could write it anew and with it make new work.
    if let Some(settled) = settled_generation(context, &work).await? {
        if let Some(left) = context.store.describe(&bucket, &object, None).await?.filter(|o| o.generation != settled) {
            context.store.delete(&bucket, &object, left.generation).await?;
        }
        return Ok(None);
    }
    let content_type = message.attributes.get("content-type").map_or("text/plain", String::as_str).to_owned();
    let properties = Properties { content_type, metadata: work.metadata() };
    match context.store.write_once(&bucket, &object, message.data.clone(), properties).await? {
        Written::New(generation) => {
            work.identity.generation = generation;
            context.hooks.at(Step::InlineWritten, Some(&message.id), Some(&work.identity)).await;
            // An outcome is written before its input is deleted: had there been an input until just now, its outcome
            // would show by now.
            if settled_generation(context, &work).await?.is_some() {
                context.store.delete(&bucket, &object, generation).await?;
                return Ok(None);
            }
        }
        Written::Exists => match context.store.describe(&bucket, &object, None).await? {
            Some(found) => work.identity.generation = found.generation,
            None => {
                return Err(Obstacle::Passing {
                    reason: retry::STORAGE,
                    after: Duration::ZERO,
                    why: format!("{object} was there and is gone"),
                });
            }
        },
    }
    Ok(Some(work))
}

/// The generation of the input that this attempt has an outcome for, if there is one.
async fn settled_generation(context: &Context, work: &Work) -> anyhow::Result<Option<i64>> {
    let prefix = format!("{}{}/", object::outcome_prefix(&work.business, Some(&work.session)), work.job);
    let mut outcomes = context.store.list_stream(&work.identity.bucket, &prefix);
    while let Some(found) = outcomes.try_next().await? {
        if let Some((session, job, generation, attempt)) = object::parse_outcome(&work.business, &found.name)
            && (session, job, attempt) == (work.session.clone(), work.job.clone(), work.identity.attempt)
        {
            return Ok(Some(generation));
        }
    }
    Ok(None)
}

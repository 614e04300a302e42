//! One message, from its bytes to a Job that the API server has, an outcome that says why not, or back to Pub/Sub.
//!
//! Every try starts from the beginning and looks at the state of the world: nothing is taken over from the try before,
//! so a retry, a redelivery and another replica all go the same way.

use std::time::Duration;

use cloud::storage;
use contract::{
    Outcome, labels,
    message::{self, Request, Work},
    outcome::{self, State},
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    answers::{Answer, classify},
    conclude::{conclude, refuse},
    context::Context,
    controls::{self, Stand},
    create::{self, Created},
    hooks::Step,
    job::{self, Origin},
    jobs::{Slot, Waiting},
    locate,
    metrics::retry,
    outcome::input_missing,
    payload::Payload,
};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// A received message.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) payload: Payload,
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
    message: &mut Received,
    mut place: Place,
    stop: &CancellationToken,
) -> Verdict {
    context.metrics.received.inc();
    let Payload { data, attributes, .. } = &message.payload;
    let mut decoded =
        message::decode(message::Received { message_id: &message.id, data, attributes }, &context.business);
    let mut alone = attributes.get(labels::ATTRIBUTE_ALONE).is_some_and(|value| value == "true");
    if matches!(decoded, Ok(Request::Run(_) | Request::RunLive(_))) {
        message.payload.let_go();
    }
    let identity = decoded.as_ref().ok().map(|request| match request {
        Request::Run(work) | Request::RunLive(work) | Request::Inline(work) => &work.identity,
    });
    context.hooks.at(Step::Received, Some(&message.id), identity).await;
    let give_up = Instant::now() + context.timing.retry_within;
    let mut backoff = RETRY_FIRST;
    loop {
        // On the heap, since many messages wait together in a batch, and each future is as large as its largest part.
        let tried = match &mut decoded {
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
    message: &mut Received,
    request: &mut Request,
    place: &mut Place,
    alone: bool,
) -> Result<(), Obstacle> {
    let work = match request {
        Request::Run(work) => Some(work.clone()),
        Request::RunLive(work) => Box::pin(locate::live(context, message, work)).await?,
        Request::Inline(work) => {
            let located = Box::pin(locate::inline(context, message, work)).await?;
            if let Some(work) = &located {
                // Its bytes are an input in the bucket now: for a further try it is as any other message.
                message.payload.let_go();
                *request = Request::Run(work.clone());
            }
            located
        }
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
    if !heed(context, origin, work).await? || Box::pin(is_without_input(context, origin, work)).await? {
        return Ok(());
    }
    create(context, origin, work, slot).await
}

/// Whether the input of an old message is gone, and its work done with: its pods would only be told that they may not
/// read it, again and again. A message that is not old costs no look.
async fn is_without_input(context: &Context, origin: &Origin, work: &Work) -> Result<bool, Obstacle> {
    let age = origin.published.map(|published| (context.clock)().duration_since(published));
    let is_old = age.is_some_and(|age| age.unsigned_abs() >= context.timing.sweep_age && age.is_positive());
    let identity = &work.identity;
    if !is_old || context.jobs.look().has(&identity.job_name()) {
        return Ok(false);
    }
    if context.store.describe(&identity.bucket, &identity.object, Some(identity.generation)).await?.is_some() {
        return Ok(false);
    }
    // It may have succeeded just now: its outcome was there before its input went.
    if !settled(context, work).await? {
        let outcome::Reason { code, message } = input_missing(work);
        let outcome = Outcome::new(&work.business, State::Failed, &code, message);
        conclude(context, origin, work, outcome).await?;
    }
    Ok(true)
}

/// Whether there is an outcome of this work already.
async fn settled(context: &Context, work: &Work) -> Result<bool, Obstacle> {
    if !context.looks.is_settled(&context.store, work).await? {
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
    let body = || context.template.text(work, name.clone(), origin);
    match create::create(context, slot, &name, body, [origin.published]).await? {
        Created::New(uid) => {
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
            if context.recent.has(&name) || stand == Stand::Cancelled {
                Box::pin(context.cluster.delete(&name, &uid)).await?;
            }
            Ok(())
        }
        Created::Exists => {
            Box::pin(create::existing(context, &name, |job| is_for(job, work))).await?;
            context.metrics.duplicates.inc();
            Ok(())
        }
        Created::Rejected(why) => {
            let message = format!("the API server does not accept the Job: {why}");
            let outcome = Outcome::new(&work.business, State::Refused, "invalid-job", message);
            Box::pin(conclude(context, origin, work, outcome)).await
        }
    }
}

/// Whether a Job of this work's name is for this work; what it is for else.
fn is_for(job: &Job, work: &Work) -> Result<(), String> {
    let theirs = job::work_of(job).map_err(|error| format!("{error:#}"))?.identity;
    match theirs == work.identity {
        true => Ok(()),
        false => Err(format!("the Job {} is there for {theirs:?}, not for {:?}", theirs.job_name(), work.identity)),
    }
}

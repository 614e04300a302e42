//! Hooks at the steps between which a crash must lose nothing, so that tests can stop the program at each.

use std::sync::Arc;

use contract::Identity;
use futures::future::BoxFuture;

/// A step in the life of a message or of a Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A message was received, and nothing else has happened.
    Received,
    /// The payload of an inline message is in the bucket.
    InlineWritten,
    /// The outcome of a refused message is written.
    RefusedWritten,
    /// The outcome was handed to the events topic.
    EventPublished,
    /// The layout of a pack is in the bucket; the messages of its ranges are about to be published.
    LayoutWritten,
    /// The messages of the ranges of a pack are published.
    RangesPublished,
    /// A message of a paused session was parked.
    Parked,
    /// A parked message is requeued; its record still exists.
    Released,
    /// The Job is about to be created.
    BeforeCreate,
    /// The Job is created.
    Created,
    /// The message is about to be acknowledged.
    BeforeAck,
    /// The acknowledgement was handed to the Pub/Sub client, which sends it within about 100 ms.
    AfterAck,
    /// A Job has ended, or was deleted.
    Finished,
    /// Its outcome is written.
    OutcomeWritten,
    /// Its input is deleted (only when it succeeded).
    InputDeleted,
    /// Our finalizer is removed.
    FinalizerRemoved,
}

/// A [`Step`] that was reached.
#[derive(Clone, Copy, Debug)]
pub struct Reached<'a> {
    /// The step.
    pub step: Step,
    /// Id of the message, if any.
    pub message_id: Option<&'a str>,
    /// Identity of the work, if known; its generation is 0 before the input was read.
    pub identity: Option<&'a Identity>,
}

type Hook = dyn Fn(Reached<'_>) -> BoxFuture<'static, ()> + Send + Sync;

/// A hook that is called and awaited at every [`Step`]. A hook that never returns stops that message or Job there, and
/// dropping the runtime then has the effect of SIGKILL.
#[derive(Clone, Default)]
pub struct Hooks(Option<Arc<Hook>>);

impl Hooks {
    /// No hook, as in production.
    pub fn none() -> Self {
        Self(None)
    }

    /// Calls `hook` at every step.
    pub fn new(hook: impl Fn(Reached<'_>) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    pub(crate) async fn reached(&self, step: Step, message_id: Option<&str>, identity: Option<&Identity>) {
        if let Some(hook) = &self.0 {
            let future = hook(Reached { step, message_id, identity });
            future.await;
        }
    }
}

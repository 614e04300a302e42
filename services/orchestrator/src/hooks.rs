//! The points between which a crash must lose nothing, so that tests can stop the program at each.

use std::{fmt, sync::Arc};

use contract::Identity;
use futures::future::BoxFuture;

/// A point in the life of a message or of a Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A message was received; nothing was done with it.
    Received,
    /// The payload of an inline message is in the bucket.
    InlineWritten,
    /// The outcome of a refused message is written.
    RefusedWritten,
    /// The outcome was handed to the events topic.
    EventPublished,
    /// The manifest of a batch is in the bucket; its Job is about to be created.
    ManifestWritten,
    /// A message of a paused session was put aside.
    Parked,
    /// A message that had been put aside is published again; the record of it is still there.
    Released,
    /// The Job is about to be created.
    BeforeCreate,
    /// The API server has the Job.
    Created,
    /// The message is about to be acknowledged.
    BeforeAck,
    /// The acknowledgement was handed to the Pub/Sub client, which sends it within about 100 ms.
    AfterAck,
    /// A Job was found to have ended, or to be deleted by somebody.
    Finished,
    /// Its outcome is written.
    OutcomeWritten,
    /// Its input is deleted (only when it succeeded).
    InputDeleted,
    /// An input of a batch that no pod could bring to an end is published again, to get a Job of its own.
    PublishedAlone,
    /// The manifest and the reports of a batch are deleted.
    BatchDeleted,
    /// Our finalizer is gone from it.
    FinalizerRemoved,
}

/// What is at a [`Step`].
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The point.
    pub step: Step,
    /// The message, when there is one in hand.
    pub message_id: Option<&'a str>,
    /// The work, as far as it is known; its generation is 0 before it was looked up.
    pub identity: Option<&'a Identity>,
}

type Hook = dyn Fn(At<'_>) -> BoxFuture<'static, ()> + Send + Sync;

/// Called and awaited at every [`Step`]. One that never returns holds that message or Job there for good, and dropping
/// the runtime then is what SIGKILL is to a process.
#[derive(Clone, Default)]
pub struct Hooks(Option<Arc<Hook>>);

impl Hooks {
    /// Does nothing; what production uses.
    pub fn none() -> Self {
        Self(None)
    }

    /// Calls `hook` at every step.
    pub fn new(hook: impl Fn(At<'_>) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    pub(crate) async fn at(&self, step: Step, message_id: Option<&str>, identity: Option<&Identity>) {
        if let Some(hook) = &self.0 {
            let future = hook(At { step, message_id, identity });
            future.await;
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hooks(set)" } else { "Hooks(none)" })
    }
}

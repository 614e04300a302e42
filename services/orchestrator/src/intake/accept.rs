//! Carries one message to its end: a Job that the API server has, an outcome that says why there is none, or a nack.
//!
//! Every attempt starts from the beginning and reads the current state. Nothing is kept from the attempt before, so a
//! retry, a redelivery and another replica all take the same steps.

use std::{sync::Arc, time::Duration};

use cloud::retries::WarningLimit;
use contract::message::{self, Request};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    admit::{Admission, error::AdmitError, gate::Gate},
    base::Base,
    hooks::Step,
    intake::received::Received,
    metrics::retry,
    watch::jobs::Slot,
};

const RETRY_MIN: Duration = Duration::from_millis(50);
/// While a server fails, each message that has a slot is retried as often as this.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Large messages that are refused at the same time.
const LARGE_CONCURRENCY: usize = 2;

/// What happens to a message at Pub/Sub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Acknowledge it: a Job or an outcome exists.
    Ack,
    /// Nack it, so that Pub/Sub delivers it again.
    Nack,
}

/// Accepts messages.
pub(crate) struct Acceptor {
    pub(super) base: Arc<Base>,
    pub(super) admission: Admission,
    pub(crate) gate: Arc<Gate>,
    /// Limits how many large messages are refused at the same time.
    pub(super) large_refusals: Semaphore,
    /// Every message of an outage fails.
    warnings: WarningLimit,
}

impl Acceptor {
    pub(crate) fn new(base: &Arc<Base>, admission: Admission, gate: &Arc<Gate>) -> Self {
        let large_refusals = Semaphore::new(LARGE_CONCURRENCY);
        Self { base: base.clone(), admission, gate: gate.clone(), large_refusals, warnings: WarningLimit::default() }
    }

    /// Carries a message to its end. Nacks it early when `stop` is cancelled.
    pub(crate) async fn accept(&self, message: &mut Received, mut slot: Slot, stop: &CancellationToken) -> Verdict {
        self.base.metrics.received.inc();
        let Received { data, attributes, .. } = &*message;
        let mut decoded =
            message::decode(message::Received { message_id: &message.id, data, attributes }, &self.base.business);
        if matches!(decoded, Ok(Request::Run(_) | Request::RunLive(_))) {
            message.release();
        }
        let identity = decoded.as_ref().ok().and_then(|request| match request {
            Request::Run(work) | Request::RunLive(work) | Request::Inline(work) => Some(&work.identity),
            Request::FolderMarker => None,
        });
        self.base.hooks.reached(Step::Received, Some(&message.id), identity).await;
        let give_up = Instant::now() + self.base.timing.retry_timeout;
        let mut backoff = RETRY_MIN;
        loop {
            let attempt = match &mut decoded {
                Ok(request) => Box::pin(self.attempt(message, request, &mut slot)).await,
                Err(refusal) => Box::pin(self.refuse(message, refusal)).await,
            };
            let (reason, after, why) = match attempt {
                Ok(()) => return Verdict::Ack,
                Err(AdmitError::Transient { reason, after, why }) => (reason, after, why),
                Err(AdmitError::OurFault(why)) => {
                    self.base.metrics.retried(retry::OUR_FAULT);
                    self.gate.close(why);
                    return Verdict::Nack;
                }
                Err(AdmitError::Refused(refusal)) => {
                    decoded = Err(refusal);
                    continue;
                }
                Err(AdmitError::Stopping) => return Verdict::Nack,
                Err(AdmitError::Stuck(why)) => {
                    tracing::error!("nacked the message: {why}");
                    return Verdict::Nack;
                }
            };
            self.base.metrics.retried(reason);
            if reason == retry::DELETING {
                tracing::info!("the message waits for the end of an earlier Job: {why}");
            } else if self.warnings.is_due(reason, std::time::Instant::now()) {
                tracing::warn!(
                    reason,
                    "failed to admit the message, will retry: {why}; more of the same is logged with level debug"
                );
            } else {
                tracing::debug!(reason, "failed to admit the message, will retry: {why}");
            }
            let wait = after.max(backoff.mul_f64(0.5 + rand::random::<f64>()));
            backoff = (backoff * 2).min(RETRY_MAX);
            if Instant::now() + wait > give_up {
                return Verdict::Nack;
            }
            tokio::select! {
                () = stop.cancelled() => return Verdict::Nack,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One attempt. The rare paths are boxed, so that the future of a message stays small.
    async fn attempt(&self, message: &mut Received, request: &mut Request, slot: &mut Slot) -> Result<(), AdmitError> {
        let work = match request {
            Request::Run(work) => Some(work.clone()),
            Request::RunLive(work) => Box::pin(self.admission.live(message, work)).await?,
            Request::Inline(work) => {
                if Box::pin(self.admission.admit_inline(message, work)).await? {
                    return Ok(());
                }
                let located = Box::pin(self.admission.inline(message, work)).await?;
                if let Some(work) = &located {
                    // Its bytes are an input in the bucket now, so the next attempt treats it as any other message.
                    message.release();
                    *request = Request::Run(work.clone());
                }
                located
            }
            Request::FolderMarker => {
                tracing::debug!("a folder is no submission");
                return Ok(());
            }
        };
        let Some(work) = work else {
            self.base.metrics.duplicates.inc();
            return Ok(());
        };
        self.admission.admit(&message.origin(), &work, slot).await
    }
}

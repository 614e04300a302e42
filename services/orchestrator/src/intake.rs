//! Receives messages, and acknowledges or nacks each. Only this file holds handlers.
//!
//! Pub/Sub sends a stream a limited number of messages and bytes that are not acknowledged, so the backlog stays there.
//! A message that arrived waits here for a free slot, with its lease extended: a nacked one would come back only after
//! the back-off of its subscription. In a pool every message starts at once, and is held until its outcome is written.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use contract::message;
use futures::StreamExt as _;
use google_cloud_pubsub::{
    client::Subscriber,
    model::Message,
    subscriber::{ShutdownBehavior, handler::Handler},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::{
    accept::{Acceptor, Verdict},
    priority::{Priority, Rank},
    received::Received,
};
use crate::{base::Base, execute::pool::Pool, hooks::Step, watch::jobs::Slot};

pub(crate) mod accept;
pub(crate) mod priority;
pub(crate) mod received;
mod refuse;

/// Messages of a stream that are not acknowledged. Acknowledgements are sent every 100 ms, so this allows for some 2,500
/// messages a second.
const MESSAGES_MAX: i64 = 256;
/// The same in a pool, which holds each message until its outcome is written.
const POOL_MESSAGES_MAX: i64 = 1000;
/// Limit of the bytes of these messages; a message may have 10 MB.
const BYTES_MAX: i64 = 16 * 1024 * 1024;
const POOL_BYTES_MAX: i64 = 32 * 1024 * 1024;
/// How long Pub/Sub waits before it redelivers the messages of a process that died.
const LEASE: Duration = Duration::from_secs(20);
/// How often an open stream is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a message that waits is checked for a slot that the other subscription does not need.
const SHARE_INTERVAL: Duration = Duration::from_millis(50);
const REOPEN_MIN: Duration = Duration::from_millis(100);
const REOPEN_MAX: Duration = Duration::from_secs(30);

/// Receives messages.
pub(crate) struct Intake {
    pub(crate) base: Arc<Base>,
    pub(crate) acceptor: Acceptor,
    pub(crate) priority: Priority,
    /// The pool, of a business that has one.
    pub(crate) pool: Option<Arc<Pool>>,
}

impl Intake {
    /// Receives messages of a subscription until `stop`, then finishes or nacks the accepted ones.
    ///
    /// # Errors
    /// None for failures of Pub/Sub or of a message: they are logged, make the process not ready, and are retried.
    pub(crate) async fn run(
        self: Arc<Self>,
        subscriber: Subscriber,
        subscription: String,
        rank: Rank,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let (mut reopen, mut closing) = (REOPEN_MIN, JoinSet::new());
        while self.wait_until_open(&stop).await {
            while closing.try_join_next().is_some() {}
            let opened = Instant::now();
            self.priority.record_opened(rank, opened);
            let ended = self.stream(&subscriber, &subscription, rank, &stop, &mut closing).await;
            self.priority.record_closed(rank);
            let Err(error) = ended else {
                reopen = REOPEN_MIN;
                continue;
            };
            tracing::error!(subscription, "failed to receive messages: {error:#}");
            self.priority.record_failure(rank);
            self.base.health.not_ready(rank.readiness(), format!("receive from {subscription}: {error:#}"));
            if opened.elapsed() > REOPEN_MAX {
                reopen = REOPEN_MIN;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(reopen) => reopen = (reopen * 2).min(REOPEN_MAX),
            }
        }
        while closing.join_next().await.is_some() {}
        Ok(())
    }

    /// Whether messages may be received: each of them can become a Job, and it is known how many Jobs are active.
    fn is_open(&self) -> bool {
        self.acceptor.gate.is_open() && (self.pool.is_some() || self.base.jobs.view().is_current())
    }

    /// Waits until messages may be received; `false` after `stop`.
    async fn wait_until_open(&self, stop: &CancellationToken) -> bool {
        let (mut gate, mut jobs) = (self.acceptor.gate.changes(), self.base.jobs.changes());
        while !stop.is_cancelled() {
            gate.borrow_and_update();
            jobs.borrow_and_update();
            if self.is_open() {
                return true;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = gate.changed() => {}
                _ = jobs.changed() => {}
            }
        }
        false
    }

    /// How many messages of a stream may be held, and how many bytes. While a queue has admitted no engine of the pool
    /// yet, one message is enough to request it: what is held here is not with another replica.
    fn limits(&self, rank: Rank) -> (i64, i64) {
        match &self.pool {
            None => (MESSAGES_MAX, BYTES_MAX),
            Some(pool) if self.base.business.queue.is_some() && pool.counts().0 == 0 => (1, POOL_BYTES_MAX),
            Some(_) if rank == Rank::First => (MESSAGES_MAX, POOL_BYTES_MAX),
            Some(_) => (POOL_MESSAGES_MAX, POOL_BYTES_MAX),
        }
    }

    /// A slot for a message of this rank, if it may start. Engines of a pool need none.
    fn reserve(&self, rank: Rank) -> Option<Slot> {
        let max = usize::try_from(self.base.business.max_active_jobs).unwrap_or(usize::MAX);
        self.base
            .jobs
            .reserve(|view| self.pool.is_some() || self.priority.may_start(rank, view.room(max), max, Instant::now()))
    }

    /// Receives from one stream, until its limits change, messages may not be received any more, or `stop`.
    ///
    /// # Errors
    /// When Pub/Sub ends the stream.
    async fn stream(
        self: &Arc<Self>,
        subscriber: &Subscriber,
        subscription: &str,
        rank: Rank,
        stop: &CancellationToken,
        closing: &mut JoinSet<()>,
    ) -> anyhow::Result<()> {
        let limits = self.limits(rank);
        let retention = Duration::from_secs(u64::try_from(message::RETENTION_DAYS).unwrap_or(7) * 24 * 3600);
        let stream = subscriber
            .subscribe(subscription)
            .set_max_outstanding_messages(limits.0)
            .set_max_outstanding_bytes(limits.1)
            .set_max_lease(retention)
            .set_max_lease_extension(LEASE)
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
            .build();
        let token = stream.shutdown_token();
        // The future of `next` is not cancellation-safe: dropping it would lose a message. So it is kept. It is polled
        // also when no slot is free: the client extends the leases of the messages that it has read, and of no others.
        let messages = futures::stream::unfold(stream, |mut stream| async move {
            let item = stream.next().await?;
            Some((item, stream))
        });
        let mut messages = Box::pin(messages.fuse());
        let (mut held, mut tasks) = (VecDeque::<(Message, Handler)>::new(), JoinSet::new());
        let (mut gate, mut jobs) = (self.acceptor.gate.changes(), self.base.jobs.changes());
        // Not at once: a stream that cannot be opened fails soon.
        let mut checks = tokio::time::interval_at(Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
        let ended = loop {
            gate.borrow_and_update();
            jobs.borrow_and_update();
            if stop.is_cancelled() || !self.is_open() {
                break Ok(());
            }
            while !held.is_empty()
                && let Some(slot) = self.reserve(rank)
            {
                if let Some((message, handler)) = held.pop_front() {
                    self.start(message, handler, slot, stop, &mut tasks);
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = gate.changed() => {}
                _ = jobs.changed(), if !held.is_empty() => {}
                () = tokio::time::sleep(SHARE_INTERVAL), if !held.is_empty() => {}
                Some(ended) = tasks.join_next() => report(ended),
                message = messages.next() => match message {
                    Some(Ok(message)) => {
                        self.priority.record_receipt(rank, Instant::now());
                        held.push_back(message);
                    }
                    Some(Err(error)) => break Err(error.into()),
                    None => break Err(anyhow::anyhow!("the stream ended")),
                },
                _ = checks.tick() => {
                    self.base.health.clear(rank.readiness());
                    if self.limits(rank) != limits {
                        break Ok(());
                    }
                }
            }
        };
        // Dropped handlers nack what has not begun; the messages in progress go on beside the next stream.
        drop((messages, held));
        closing.spawn(async move {
            while let Some(ended) = tasks.join_next().await {
                report(ended);
            }
            // Waits until the acknowledgements are sent.
            token.shutdown().await;
        });
        ended
    }

    /// Starts the task of a message, which acknowledges or nacks it.
    fn start(
        self: &Arc<Self>,
        message: Message,
        handler: Handler,
        slot: Slot,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        let (intake, stop) = (self.clone(), stop.clone());
        let mut message = Received::new(message, (self.base.clock)());
        let span = tracing::info_span!("message", message_id = message.id);
        let task = async move {
            match intake.acceptor.accept(&mut message, slot, &stop).await {
                Verdict::Ack => {
                    intake.base.hooks.reached(Step::BeforeAck, Some(&message.id), None).await;
                    handler.ack();
                    intake.base.hooks.reached(Step::AfterAck, Some(&message.id), None).await;
                }
                Verdict::Nack => handler.nack(),
            }
        };
        tasks.spawn(task.instrument(span));
    }
}

/// Reports a task that ended unexpectedly. Its handler was dropped with it, which nacks the message.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && !error.is_cancelled()
    {
        tracing::error!("the task of a message ended unexpectedly: {error}");
    }
}

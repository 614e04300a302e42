//! Receives the messages of a business with a pool. Each is held until its outcome is written; what Pub/Sub may send is
//! limited by the stream, so the backlog stays there.

use std::{sync::Arc, time::Duration};

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

use crate::{
    base::Base,
    execute::pool::Pool,
    hooks::Step,
    intake::{
        accept::{Acceptor, Verdict},
        priority::Rank,
        received::{Payloads, Received},
    },
};

/// Messages that are held at the same time, of each rank.
const MESSAGES_MAX: i64 = 1000;
const FIRST_MESSAGES_MAX: i64 = 250;
/// Limit of their bytes.
const BYTES_MAX: i64 = 32 * 1024 * 1024;
/// How long Pub/Sub waits before it redelivers the messages of a process that died.
const LEASE: Duration = Duration::from_secs(20);
/// How often an open stream is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const REOPEN_MIN: Duration = Duration::from_millis(100);
const REOPEN_MAX: Duration = Duration::from_secs(30);

/// Receives messages for the pool.
pub(crate) struct PoolIntake {
    pub(crate) base: Arc<Base>,
    pub(crate) acceptor: Arc<Acceptor>,
    pub(crate) payloads: Payloads,
    pub(crate) pool: Arc<Pool>,
}

/// Receives messages until `stop`, then finishes or nacks the accepted ones.
pub(crate) async fn run(
    intake: Arc<PoolIntake>,
    subscriber: Subscriber,
    subscription: String,
    rank: Rank,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (mut reopen, mut closing) = (REOPEN_MIN, JoinSet::new());
    while let Some(limit) = intake.wait_for_room(rank, &stop).await {
        while closing.try_join_next().is_some() {}
        let opened = Instant::now();
        let Err(error) = intake.stream(&subscriber, &subscription, rank, limit, &stop, &mut closing).await else {
            reopen = REOPEN_MIN;
            continue;
        };
        tracing::error!(subscription, "failed to receive messages: {error:#}");
        intake.base.health.not_ready(rank.readiness(), format!("receive from {subscription}: {error:#}"));
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

impl PoolIntake {
    /// How many messages may be held. While a queue has admitted no engine yet, one is enough to request it: what is
    /// held here is not with another replica.
    fn limit(&self, rank: Rank) -> i64 {
        let is_waiting = self.base.business.queue.is_some() && self.pool.counts().0 == 0;
        match rank {
            _ if is_waiting => 1,
            Rank::First => FIRST_MESSAGES_MAX,
            Rank::Ordinary => MESSAGES_MAX,
        }
    }

    /// Waits until the gate is open; `None` after `stop`.
    async fn wait_for_room(&self, rank: Rank, stop: &CancellationToken) -> Option<i64> {
        let mut gate = self.acceptor.gate.changes();
        while !stop.is_cancelled() {
            gate.borrow_and_update();
            if self.acceptor.gate.is_open() {
                return Some(self.limit(rank));
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = gate.changed() => {}
            }
        }
        None
    }

    /// Receives from one stream, until the limit of messages is another one, the gate closes, or `stop`.
    ///
    /// # Errors
    /// When Pub/Sub ends the stream.
    async fn stream(
        self: &Arc<Self>,
        subscriber: &Subscriber,
        subscription: &str,
        rank: Rank,
        limit: i64,
        stop: &CancellationToken,
        closing: &mut JoinSet<()>,
    ) -> anyhow::Result<()> {
        let retention = Duration::from_secs(u64::try_from(message::RETENTION_DAYS).unwrap_or(7) * 24 * 3600);
        let stream = subscriber
            .subscribe(subscription)
            .set_max_outstanding_messages(limit)
            .set_max_outstanding_bytes(BYTES_MAX)
            .set_max_lease(retention)
            .set_max_lease_extension(LEASE)
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
            .build();
        let token = stream.shutdown_token();
        // The future of `next` is not cancellation-safe: dropping it would lose a message. So it is kept.
        let messages = futures::stream::unfold(stream, |mut stream| async move {
            let item = stream.next().await?;
            Some((item, stream))
        });
        let mut messages = Box::pin(messages.fuse());
        let mut tasks = JoinSet::new();
        let mut gate = self.acceptor.gate.changes();
        // Not at once: a stream that cannot be opened fails soon.
        let mut checks = tokio::time::interval_at(Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
        let ended = loop {
            if stop.is_cancelled() || !self.acceptor.gate.is_open() {
                break Ok(());
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = gate.changed() => {}
                Some(ended) = tasks.join_next() => report(ended),
                message = messages.next() => match message {
                    Some(Ok((message, handler))) => self.start(message, handler, stop, &mut tasks),
                    Some(Err(error)) => break Err(error.into()),
                    None => break Err(anyhow::anyhow!("the stream ended")),
                },
                _ = checks.tick() => {
                    self.base.health.clear(rank.readiness());
                    if self.limit(rank) != limit {
                        break Ok(());
                    }
                }
            }
        };
        drop(messages);
        // Those in progress go on beside the next stream.
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
    fn start(self: &Arc<Self>, message: Message, handler: Handler, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
        let (intake, stop) = (self.clone(), stop.clone());
        let mut message = Received::new(message, &self.payloads, &self.base);
        let span = tracing::info_span!("message", message_id = message.id);
        let task = async move {
            let slot = intake.base.jobs.reserve();
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

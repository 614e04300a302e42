//! Receives messages while slots are free, and acknowledges or nacks each. Only this file holds handlers.
//!
//! A message is received only for a free slot, so the backlog stays in Pub/Sub.
//!
//! At capacity the stream is closed, and opened once more when slots are free. `flow.rs` limits what a stream may send,
//! so that next to nothing has to be nacked then. Closing waits for the accepted messages, whose Jobs are created, and
//! never nacks them.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
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
    breaker::Allowance,
    flow::Flow,
    priority::{Priority, Rank},
    received::{Payloads, Received},
};
use crate::{base::Base, hooks::Step};

pub(crate) mod accept;
pub(crate) mod breaker;
mod flow;
pub(crate) mod pool;
pub(crate) mod priority;
pub(crate) mod received;

/// How long no message must arrive until no message counts as in transit: acknowledgements are sent within 100 ms.
const QUIET_FOR: Duration = Duration::from_millis(300);
/// Limit of the wait of an acknowledgement for a slot; then a new stream is opened.
const RENEW_AFTER: Duration = Duration::from_secs(10);
/// How long a stream without a slot stays open while a message may be in transit, in case a slot frees first.
const FULL_FOR: Duration = Duration::from_secs(2);
/// How long Pub/Sub waits before it redelivers the messages of a process that died.
const LEASE: Duration = Duration::from_secs(20);
/// How long slots are gathered after a stream was closed for lack of them.
const GATHER: Duration = Duration::from_millis(20);
/// How long every message may fail before the stream is closed and Pub/Sub keeps its messages.
const FAILING_FOR: Duration = Duration::from_secs(3);
/// How long a stream stays narrow when there is much more room than when it was opened.
const NARROW_FOR: Duration = Duration::from_secs(1);
/// Limit of the bytes of one stream that are not acknowledged.
const STREAM_BYTES: i64 = 16 * 1024 * 1024;
const REOPEN_MAX: Duration = Duration::from_secs(30);

/// A processed message, with the handler that acknowledges or nacks it.
struct Done {
    handler: Handler,
    id: String,
    verdict: Verdict,
}

/// Why a stream was closed.
enum Closed {
    /// No slot is free, the gate is closed, or nothing gets through.
    Full,
    /// To open a new one, for another number of messages.
    Renew,
    /// Pub/Sub ended it.
    Failed(anyhow::Error),
}

/// Receives messages.
pub(crate) struct Intake {
    pub(crate) base: Arc<Base>,
    pub(crate) acceptor: Arc<Acceptor>,
    pub(crate) payloads: Payloads,
    pub(crate) priority: Priority,
}

impl Intake {
    /// How many messages a stream of this rank may receive.
    fn room_for(&self, rank: Rank) -> usize {
        let base = &self.base;
        let room = if self.payloads.are_too_large() { 0 } else { base.jobs.view().room(base.slots()) };
        self.priority.share(rank, room, base.slots(), Instant::now())
    }
}

/// Receives messages until `stop`, then finishes the accepted ones.
///
/// # Errors
/// None for failures of Pub/Sub or of a message: they are logged, make the process not ready, and are retried.
pub(crate) async fn run(
    intake: Arc<Intake>,
    subscriber: Subscriber,
    subscription: String,
    rank: Rank,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut closing = JoinSet::new();
    let mut reopen = Duration::from_millis(100);
    while let Some(room) = wait_for_room(&intake, rank, &stop).await {
        while closing.try_join_next().is_some() {}
        let opened = Instant::now();
        intake.priority.ready(rank, opened);
        let closed = stream(&intake, &subscriber, &subscription, rank, room, &stop, &mut closing).await;
        intake.priority.closed(rank);
        match closed {
            Closed::Renew => {}
            Closed::Full => tokio::time::sleep(GATHER).await,
            Closed::Failed(error) => {
                tracing::error!(subscription, "failed to receive messages: {error:#}");
                intake.priority.failed(rank);
                intake.base.health.not_ready(rank.readiness(), format!("receive from {subscription}: {error:#}"));
                if opened.elapsed() > REOPEN_MAX {
                    reopen = Duration::from_millis(100);
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(reopen) => reopen = (reopen * 2).min(REOPEN_MAX),
                }
            }
        }
    }
    while closing.join_next().await.is_some() {}
    Ok(())
}

/// Waits until messages may be received, and returns how many; `None` after `stop`.
async fn wait_for_room(intake: &Intake, rank: Rank, stop: &CancellationToken) -> Option<usize> {
    let mut jobs = intake.base.jobs.changes();
    let mut gate = intake.acceptor.gate.changes();
    loop {
        if stop.is_cancelled() {
            return None;
        }
        jobs.borrow_and_update();
        gate.borrow_and_update();
        let room = match intake.acceptor.breaker().allowance(Instant::now()) {
            Allowance::Free => intake.room_for(rank),
            Allowance::One => intake.room_for(rank).min(1),
            Allowance::Nothing => 0,
        };
        if intake.acceptor.gate.is_open() && room > 0 {
            return Some(room);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            _ = jobs.changed() => {}
            _ = gate.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

/// Opens a stream and receives messages from it until there is a reason to close it.
async fn stream(
    intake: &Arc<Intake>,
    subscriber: &Subscriber,
    subscription: &str,
    rank: Rank,
    room: usize,
    stop: &CancellationToken,
    closing: &mut JoinSet<()>,
) -> Closed {
    let mut flow = Flow::new(room);
    let stream = subscriber
        .subscribe(subscription)
        .set_max_outstanding_messages(i64::try_from(flow.limit()).unwrap_or(i64::MAX))
        .set_max_outstanding_bytes(STREAM_BYTES)
        .set_max_lease_extension(LEASE)
        .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
        .build();
    let token = stream.shutdown_token();
    // The future of `next` is not cancellation-safe: dropping it would lose a message. So it is kept across iterations.
    // Fused, since it is polled once more after its end.
    let messages = futures::stream::unfold(stream, |mut stream| async move {
        let item = stream.next().await?;
        Some((item, stream))
    });
    let mut messages = Box::pin(messages.fuse());
    let mut tasks = JoinSet::new();
    let mut waiting: Vec<Done> = Vec::new();
    let (mut waiting_since, mut full_since) = (None, None);
    let mut jobs = intake.base.jobs.changes();
    let mut gate = intake.acceptor.gate.changes();
    let opened = Instant::now();
    // When a message last arrived or an acknowledgement was last sent.
    let mut last = opened;
    let closed = loop {
        jobs.borrow_and_update();
        let room = intake.room_for(rank);
        while !waiting.is_empty() && flow.try_ack(room) {
            if let Some(done) = waiting.pop() {
                last = Instant::now();
                acknowledge(&intake.base, done).await;
            }
        }
        waiting_since = if waiting.is_empty() { None } else { waiting_since.or_else(|| Some(Instant::now())) };
        let now = Instant::now();
        let (held, failing_for) = {
            let breaker = intake.acceptor.breaker();
            (breaker.allowance(now) == Allowance::Nothing, breaker.failing_for(now))
        };
        if stop.is_cancelled() || !intake.acceptor.gate.is_open() || (held && failing_for >= FAILING_FOR) {
            break Closed::Full;
        }
        full_since = if room == 0 { full_since.or(Some(now)) } else { None };
        let full = full_since.is_some_and(|since: Instant| flow.is_exhausted() || since.elapsed() >= FULL_FOR);
        if full {
            break Closed::Full;
        }
        let held = held || room == 0;
        if held || flow.is_exhausted() {
            intake.priority.ready(rank, now);
        }
        let overdue = waiting_since.is_some_and(|since: Instant| since.elapsed() >= RENEW_AFTER);
        let quiet = flow.is_exhausted() || last.elapsed() >= QUIET_FOR;
        let narrow = flow.is_narrow(room) && opened.elapsed() >= NARROW_FOR;
        if overdue || (quiet && (narrow || !waiting.is_empty())) {
            break Closed::Renew;
        }
        if opened.elapsed() >= NARROW_FOR {
            intake.base.health.clear(rank.readiness());
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Some(done) = tasks.join_next() => collect(done, &mut waiting),
            item = messages.next(), if !held => match item {
                Some(Ok((message, handler))) => {
                    flow.record_receipt();
                    last = Instant::now();
                    intake.priority.record_receipt(rank, last);
                    start(intake, message, handler, stop, &mut tasks);
                }
                Some(Err(error)) => break Closed::Failed(error.into()),
                None => break Closed::Failed(anyhow::anyhow!("the stream ended")),
            },
            _ = jobs.changed() => {}
            _ = gate.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(50)), if held || !waiting.is_empty() => {}
            () = tokio::time::sleep(NARROW_FOR) => {}
        }
    };
    // Messages that have arrived are accepted rather than nacked.
    while !stop.is_cancelled()
        && intake.acceptor.gate.is_open()
        && intake.room_for(rank) > 0
        && intake.acceptor.breaker().allowance(Instant::now()) == Allowance::Free
    {
        match messages.next().now_or_never() {
            Some(Some(Ok((message, handler)))) => start(intake, message, handler, stop, &mut tasks),
            _ => break,
        }
    }
    drop(messages);
    let base = intake.base.clone();
    closing.spawn(async move {
        for done in waiting {
            acknowledge(&base, done).await;
        }
        let mut finished = Vec::new();
        while let Some(done) = tasks.join_next().await {
            collect(done, &mut finished);
            for done in finished.drain(..) {
                acknowledge(&base, done).await;
            }
        }
        // Waits until the acknowledgements are sent.
        token.shutdown().await;
    });
    closed
}

/// Reserves a slot for a message and starts its task.
fn start(
    intake: &Arc<Intake>,
    message: Message,
    handler: Handler,
    stop: &CancellationToken,
    tasks: &mut JoinSet<Done>,
) {
    let slot = intake.base.jobs.reserve();
    intake.acceptor.breaker().record_receipt(Instant::now());
    let mut message = Received::new(message, &intake.payloads, &intake.base);
    let span = tracing::info_span!("message", message_id = message.id);
    let (intake, stop) = (intake.clone(), stop.clone());
    let task = async move {
        let verdict = intake.acceptor.accept(&mut message, slot, &stop).await;
        if verdict == Verdict::Ack {
            intake.base.hooks.reached(Step::BeforeAck, Some(&message.id), None).await;
        }
        Done { handler, id: message.id, verdict }
    };
    tasks.spawn(task.instrument(span));
}

/// Keeps a finished message until it may be acknowledged; nacks a failed one.
fn collect(done: Result<Done, tokio::task::JoinError>, waiting: &mut Vec<Done>) {
    match done {
        Ok(done) if done.verdict == Verdict::Ack => waiting.push(done),
        Ok(done) => done.handler.nack(),
        // The runtime shuts down.
        Err(error) if error.is_cancelled() => {}
        // Its handler was dropped with it, which nacks the message.
        Err(error) => tracing::error!("the task of a message ended unexpectedly: {error}"),
    }
}

/// Acknowledges a message.
async fn acknowledge(base: &Base, done: Done) {
    done.handler.ack();
    base.hooks.reached(Step::AfterAck, Some(&done.id), None).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_has_its_own_readiness_reason() {
        assert_ne!(Rank::First.readiness(), Rank::Ordinary.readiness());
    }
}

//! Takes messages while there are slots, and tells Pub/Sub what became of each. The one place that holds handlers.
//!
//! With dispatch in batches there are as many places as one batch and the next have inputs; they wait for slots there.
//!
//! A message is taken only into a free slot, so the backlog stays in Pub/Sub. At capacity the stream is closed and
//! opened again when slots are free; what a stream may send is bounded by `flow.rs`, so that next to nothing has to be
//! given back at that. Closing waits for the messages in hand, whose Jobs are then made, and never nacks them.

use std::{sync::Arc, time::Duration};

use contract::config::Dispatch;
use futures::{FutureExt as _, StreamExt as _};
use google_cloud_pubsub::{
    client::Subscriber,
    model::Message,
    subscriber::{ShutdownBehavior, handler::Handler},
};
use jiff::Timestamp;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    accept::{Place, Received, Verdict, accept},
    breaker::Allowance,
    context::Context,
    flow::Flow,
    hooks::Step,
    priority::Rank,
};

/// How long nothing must have come until it counts as nothing being on its way: acknowledgements are sent within 100 ms.
const QUIET_FOR: Duration = Duration::from_millis(300);
/// How long an acknowledgement waits for a slot at most before the stream is opened anew.
const RENEW_AFTER: Duration = Duration::from_secs(10);
/// How long a stream without a slot stays open while a message may be on its way in it, in case a slot frees first.
const FULL_FOR: Duration = Duration::from_secs(2);
/// How long Pub/Sub waits for us before it delivers a message again that this process died with.
const LEASE: Duration = Duration::from_secs(20);
/// How long slots are gathered before a stream is opened after it was full.
const GATHER: Duration = Duration::from_millis(20);
/// How long nothing may get through before what the stream has in store is given back.
const FAILING_FOR: Duration = Duration::from_secs(3);
/// How long a stream stays narrow when there is much more room than it was opened for.
const NARROW_FOR: Duration = Duration::from_secs(1);
/// Bytes that one stream may hand us before they are acknowledged.
const STREAM_BYTES: i64 = 16 * 1024 * 1024;
const REOPEN_MOST: Duration = Duration::from_secs(30);

/// What became of a message, with what tells Pub/Sub so.
struct Done {
    handler: Handler,
    id: String,
    verdict: Verdict,
}

/// Why a stream was closed.
enum Closed {
    /// No slot is free, the gate is closed, or nothing gets through.
    Full,
    /// To open it anew, for another number of messages.
    Renew,
    /// Pub/Sub ended it for good.
    Failed(anyhow::Error),
}

/// Takes messages until `stop`, then finishes those in hand.
///
/// # Errors
/// Never for what Pub/Sub or a message does: that is logged, shown as not ready, and tried again.
pub(crate) async fn run(
    context: Arc<Context>,
    subscriber: Subscriber,
    subscription: String,
    rank: Rank,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut closing = JoinSet::new();
    let mut reopen = Duration::from_millis(100);
    while let Some(room) = wait_for_room(&context, rank, &stop).await {
        while closing.try_join_next().is_some() {}
        let opened = Instant::now();
        context.priority.ready(rank, opened);
        let closed = stream(&context, &subscriber, &subscription, rank, room, &stop, &mut closing).await;
        context.priority.closed(rank);
        match closed {
            Closed::Renew => {}
            Closed::Full => tokio::time::sleep(GATHER).await,
            Closed::Failed(error) => {
                tracing::error!(subscription, "failed to receive messages: {error:#}");
                context.priority.failed(rank);
                context.health.not_ready(readiness(rank), format!("receive from {subscription}: {error:#}"));
                if opened.elapsed() > REOPEN_MOST {
                    reopen = Duration::from_millis(100);
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(reopen) => reopen = (reopen * 2).min(REOPEN_MOST),
                }
            }
        }
    }
    while closing.join_next().await.is_some() {}
    Ok(())
}

/// The readiness reason that a stream of this rank sets and takes back.
fn readiness(rank: Rank) -> &'static str {
    match rank {
        Rank::First => "priority subscription",
        Rank::Ordinary => "subscription",
    }
}

/// Waits until a message may be taken, and tells how many; `None` when it is time to stop.
async fn wait_for_room(context: &Context, rank: Rank, stop: &CancellationToken) -> Option<usize> {
    let mut jobs = context.jobs.changes();
    let mut gate = context.gate.changes();
    loop {
        if stop.is_cancelled() {
            return None;
        }
        jobs.borrow_and_update();
        gate.borrow_and_update();
        let room = match context.breaker().allowance(Instant::now()) {
            Allowance::Free => context.room_for(rank),
            Allowance::One => context.room_for(rank).min(1),
            Allowance::Nothing => 0,
        };
        if context.gate.is_open() && room > 0 {
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

/// Opens a stream and takes messages from it until there is a reason to close it.
async fn stream(
    context: &Arc<Context>,
    subscriber: &Subscriber,
    subscription: &str,
    rank: Rank,
    room: usize,
    stop: &CancellationToken,
    closing: &mut JoinSet<()>,
) -> Closed {
    let mut flow = match context.business.dispatch {
        Dispatch::Job => Flow::new(room),
        Dispatch::Batch => Flow::together(room),
    };
    let stream = subscriber
        .subscribe(subscription)
        .set_max_outstanding_messages(i64::try_from(flow.limit()).unwrap_or(i64::MAX))
        .set_max_outstanding_bytes(STREAM_BYTES)
        .set_max_lease_extension(LEASE)
        .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
        .build();
    let token = stream.shutdown_token();
    // Dropping the future of `next` in the middle would lose what Pub/Sub was about to send, so it is kept across turns.
    // Fused, since it is asked once more after it has ended.
    let messages = futures::stream::unfold(stream, |mut stream| async move {
        let item = stream.next().await?;
        Some((item, stream))
    });
    let mut messages = Box::pin(messages.fuse());
    let mut tasks = JoinSet::new();
    let mut waiting: Vec<Done> = Vec::new();
    let (mut waiting_since, mut full_since) = (None, None);
    let mut jobs = context.jobs.changes();
    let mut gate = context.gate.changes();
    let opened = Instant::now();
    // When a message last came or an acknowledgement last went.
    let mut last = opened;
    let closed = loop {
        jobs.borrow_and_update();
        let room = context.room_for(rank);
        while !waiting.is_empty() && flow.ack(room) {
            if let Some(done) = waiting.pop() {
                last = Instant::now();
                tell(context, done).await;
            }
        }
        waiting_since = if waiting.is_empty() { None } else { waiting_since.or_else(|| Some(Instant::now())) };
        let now = Instant::now();
        let (held, failing_for) = {
            let breaker = context.breaker();
            (breaker.allowance(now) == Allowance::Nothing, breaker.failing_for(now))
        };
        if stop.is_cancelled() || !context.gate.is_open() || (held && failing_for >= FAILING_FOR) {
            break Closed::Full;
        }
        full_since = if room == 0 { full_since.or(Some(now)) } else { None };
        let full = full_since.is_some_and(|since: Instant| flow.is_exhausted() || since.elapsed() >= FULL_FOR);
        if full {
            break Closed::Full;
        }
        let held = held || room == 0;
        if held || flow.is_exhausted() {
            context.priority.ready(rank, now);
        }
        let overdue = waiting_since.is_some_and(|since: Instant| since.elapsed() >= RENEW_AFTER);
        let quiet = flow.is_exhausted() || last.elapsed() >= QUIET_FOR;
        let narrow = flow.is_narrow(room) && opened.elapsed() >= NARROW_FOR;
        if overdue || (quiet && (narrow || !waiting.is_empty())) {
            break Closed::Renew;
        }
        if opened.elapsed() >= NARROW_FOR {
            context.health.clear(readiness(rank));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            Some(done) = tasks.join_next() => collect(done, &mut waiting),
            item = messages.next(), if !held => match item {
                Some(Ok((message, handler))) => {
                    flow.took();
                    last = Instant::now();
                    context.priority.took(rank, last);
                    take(context, message, handler, stop, &mut tasks);
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
    // What has arrived already is taken rather than given back.
    while !stop.is_cancelled()
        && context.gate.is_open()
        && context.room_for(rank) > 0
        && context.breaker().allowance(Instant::now()) == Allowance::Free
    {
        match messages.next().now_or_never() {
            Some(Some(Ok((message, handler)))) => take(context, message, handler, stop, &mut tasks),
            _ => break,
        }
    }
    drop(messages);
    let context = context.clone();
    closing.spawn(async move {
        for done in waiting {
            tell(&context, done).await;
        }
        let mut finished = Vec::new();
        while let Some(done) = tasks.join_next().await {
            collect(done, &mut finished);
            for done in finished.drain(..) {
                tell(&context, done).await;
            }
        }
        // Waits until the acknowledgements are sent.
        token.shutdown().await;
    });
    closed
}

/// Gives a message a place and a task.
fn take(
    context: &Arc<Context>,
    message: Message,
    handler: Handler,
    stop: &CancellationToken,
    tasks: &mut JoinSet<Done>,
) {
    let place = match context.business.dispatch {
        Dispatch::Job => Place::Slot(context.jobs.take(1)),
        Dispatch::Batch => Place::Waiting(context.jobs.wait_for_slot()),
    };
    context.breaker().took(Instant::now());
    let mut message = Received {
        id: message.message_id,
        payload: context.payloads.hold(message.data, message.attributes.into_iter().collect()),
        published: message.publish_time.and_then(|time| Timestamp::new(time.seconds(), time.nanos()).ok()),
        received: (context.clock)(),
    };
    let span = tracing::info_span!("message", message_id = message.id);
    let (context, stop) = (context.clone(), stop.clone());
    let task = async move {
        let verdict = accept(&context, &mut message, place, &stop).await;
        if verdict == Verdict::Ack {
            context.hooks.at(Step::BeforeAck, Some(&message.id), None).await;
        }
        Done { handler, id: message.id, verdict }
    };
    tasks.spawn(task.instrument(span));
}

/// Puts a message that is done with among those that wait to be acknowledged; one that is not goes back at once.
fn collect(done: Result<Done, tokio::task::JoinError>, waiting: &mut Vec<Done>) {
    match done {
        Ok(done) if done.verdict == Verdict::Ack => waiting.push(done),
        Ok(done) => done.handler.nack(),
        // Its handler is gone with it, which gives the message back.
        Err(error) => tracing::error!("a message's task ended: {error}"),
    }
}

/// Acknowledges a message.
async fn tell(context: &Context, done: Done) {
    done.handler.ack();
    context.hooks.at(Step::AfterAck, Some(&done.id), None).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subscription_has_a_reason_of_its_own_so_that_one_that_works_does_not_hide_the_other() {
        assert_ne!(readiness(Rank::First), readiness(Rank::Ordinary));
    }
}

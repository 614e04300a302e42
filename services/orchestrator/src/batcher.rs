//! Dispatch in batches: messages of one session that wait together become one Indexed Job.
//!
//! A message waits here with others of its session until slots are free, and for a moment in any case. Then as many as
//! a batch may have become one: their outcomes are looked for, the manifest is written, the Job is created, and each
//! message is told. A batch that would have one input, and work that is split into tasks or that a batch could not
//! bring to an end, becomes a Job of its own.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contract::{batch::INPUTS_MAX, message::Work};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::queue::{Pending, Queue};
use crate::{accept::Obstacle, batch_job::pods, context::Context, job::Origin};

mod dispatch;
mod queue;

/// Most messages that wait at a time: one batch that is full, and the next.
pub(crate) const WAITING_MAX: usize = 2 * INPUTS_MAX;
/// How long until slots are looked at again, should a change of them be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

type Told = Result<(), Obstacle>;

/// The messages that wait.
#[derive(Debug, Default)]
pub(crate) struct Batcher {
    queue: Mutex<Queue>,
    joined: Notify,
}

impl Batcher {
    /// Waits with others of the session, until the API server has the Job or there is an outcome. With `alone` the
    /// Job is this work's own.
    pub(crate) async fn join(&self, work: Work, origin: Origin, alone: bool) -> Told {
        let (told, answer) = oneshot::channel();
        {
            let mut queue = self.queue();
            if queue.closed {
                return Err(Obstacle::Stopping);
            }
            let own = alone || work.tasks.is_some() || !work.resources.is_default();
            queue.add(Pending { work, origin, since: Instant::now(), told }, own);
        }
        self.joined.notify_one();
        answer.await.unwrap_or(Err(Obstacle::Stopping))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes Jobs of the messages that wait, until `stop`; then brings to an end what is under way.
pub(crate) async fn run(context: Arc<Context>, stop: CancellationToken) -> anyhow::Result<()> {
    let batcher = &context.batcher;
    let mut under_way = JoinSet::new();
    let mut changes = context.jobs.changes();
    loop {
        changes.borrow_and_update();
        let now = Instant::now();
        let mut wake = now + LOOK_AGAIN;
        let mut full = false;
        let next = batcher.queue().next(now);
        match next {
            Ok(key) => {
                let waiting = batcher.queue().groups.get(&key).map_or(0, VecDeque::len);
                match context.jobs.take_free(pods(waiting.min(INPUTS_MAX), context.slots()), context.slots()) {
                    Some(slot) => {
                        let pending = batcher.queue().take(&key);
                        let span = tracing::info_span!("batch", session = key.session);
                        let context = context.clone();
                        under_way
                            .spawn(async move { dispatch::dispatch(&context, pending, slot).await }.instrument(span));
                        continue;
                    }
                    None => full = true,
                }
            }
            Err(Some(at)) => wake = wake.min(at),
            Err(None) => {}
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = under_way.join_next() => {}
            _ = changes.changed(), if full => {}
            () = batcher.joined.notified(), if !full => {}
            () = tokio::time::sleep_until(wake) => {}
        }
    }
    let groups = {
        let mut queue = batcher.queue();
        queue.closed = true;
        std::mem::take(&mut queue.groups)
    };
    for pending in groups.into_values().flatten() {
        let _ = pending.told.send(Err(Obstacle::Stopping));
    }
    while under_way.join_next().await.is_some() {}
    Ok(())
}

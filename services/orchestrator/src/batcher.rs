//! Dispatch in batches: messages of one session that wait together become one Indexed Job.
//!
//! A message waits with others of its session until slots are free, and for a moment in any case. Then as many as a
//! batch may have become one: after the outcome lookup the manifest is written and the Job is created, and each message
//! gets the reply. A single message becomes a Job of its own, as does work that is split into tasks or that a batch
//! could not settle.

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

use self::queue::{Pending, Queue, Reply};
use crate::{admit::Admission, admit_error::AdmitError, batch_job::pod_count, job::Origin};

mod dispatch;
mod queue;

/// Limit of the messages that wait: one full batch, and the next.
pub(crate) const WAITING_MAX: usize = 2 * INPUTS_MAX;
/// How long until the slots are checked once more, in case a change was missed.
const RECHECK_AFTER: Duration = Duration::from_secs(1);

/// The messages that wait.
#[derive(Debug, Default)]
pub(crate) struct Batcher {
    queue: Mutex<Queue>,
    joined: Notify,
}

impl Batcher {
    /// Waits with others of the session until the Job is created or the work has an outcome. With `alone` the Job has
    /// no other input.
    pub(crate) async fn join(&self, work: Work, origin: Origin, alone: bool) -> Reply {
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.queue();
            if queue.closed {
                return Err(AdmitError::Stopping);
            }
            let is_single = alone || work.tasks.is_some() || !work.resources.is_default();
            queue.add(Pending { work, origin, since: Instant::now(), reply }, is_single);
        }
        self.joined.notify_one();
        answer.await.unwrap_or(Err(AdmitError::Stopping))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates Jobs for the messages that wait, until `stop`; then finishes the batches in progress.
pub(crate) async fn run(batcher: &Batcher, admission: Arc<Admission>, stop: CancellationToken) -> anyhow::Result<()> {
    let base = &admission.base;
    let mut under_way = JoinSet::new();
    let mut changes = base.jobs.changes();
    loop {
        changes.borrow_and_update();
        let now = Instant::now();
        let mut wake = now + RECHECK_AFTER;
        let mut full = false;
        let next = batcher.queue().next(now);
        match next {
            Ok(key) => {
                let waiting = batcher.queue().groups.get(&key).map_or(0, VecDeque::len);
                match base.jobs.reserve_free(pod_count(waiting.min(INPUTS_MAX), base.slots()), base.slots()) {
                    Some(slot) => {
                        let pending = batcher.queue().take(&key);
                        let span = tracing::info_span!("batch", session = key.session);
                        let admission = admission.clone();
                        under_way
                            .spawn(async move { dispatch::dispatch(&admission, pending, slot).await }.instrument(span));
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
        let _ = pending.reply.send(Err(AdmitError::Stopping));
    }
    while under_way.join_next().await.is_some() {}
    Ok(())
}

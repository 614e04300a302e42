//! Dispatch in batches: messages of one session that wait together become one Indexed Job.
//!
//! A message waits here with others of its session until slots are free, and for a moment in any case. Then as many as
//! a batch may have become one: their outcomes are looked for, the manifest is written, the Job is created, and each
//! message is told. A batch that would have one input, and work that is split into tasks or that a batch could not
//! bring to an end, becomes a Job of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::{
    Identity,
    batch::{self, Batch, Entry, INPUTS_MAX, Manifest},
    message::Work,
    storage::Properties,
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    accept::{self, Obstacle},
    answers::{Answer, classify},
    batch_job::{batch_of, pods},
    context::Context,
    controls::{self, Stand},
    gate,
    hooks::Step,
    job::Origin,
    jobs::Slot,
    metrics::retry,
};

/// Most messages that wait at a time: one batch that is full, and the next.
pub(crate) const WAITING_MAX: usize = 2 * INPUTS_MAX;
/// How long a message waits for others when slots are free.
const GATHER: Duration = Duration::from_millis(30);
/// How long until slots are looked at again, should a change of them be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

type Told = Result<(), Obstacle>;

/// The messages that wait.
#[derive(Debug, Default)]
pub(crate) struct Batcher {
    queue: Mutex<Queue>,
    joined: Notify,
}

/// Groups in the order in which they are served: priority first.
#[derive(Debug, Default)]
struct Queue {
    groups: BTreeMap<Key, VecDeque<Pending>>,
    singles: u64,
    closed: bool,
}

/// What becomes one Kubernetes Job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// False sorts first.
    ordinary: bool,
    session: String,
    /// Not 0 for work that gets a Job of its own.
    single: u64,
}

/// A message that waits.
#[derive(Debug)]
struct Pending {
    work: Work,
    origin: Origin,
    since: Instant,
    told: oneshot::Sender<Told>,
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
            let single = if own {
                queue.singles += 1;
                queue.singles
            } else {
                0
            };
            let key = Key { ordinary: !work.priority, session: work.session.clone(), single };
            let pending = Pending { work, origin, since: Instant::now(), told };
            queue.groups.entry(key).or_default().push_back(pending);
        }
        self.joined.notify_one();
        answer.await.unwrap_or(Err(Obstacle::Stopping))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// The group that is next: of those that are ready, priority first, then the one that has waited longest. Else when
    /// one will be ready.
    fn next(&self, now: Instant) -> Result<Key, Option<Instant>> {
        let due = |key: &Key, group: &VecDeque<Pending>| {
            let since = group.front().map_or(now, |pending| pending.since);
            if key.single > 0 || group.len() >= INPUTS_MAX { since } else { since + GATHER }
        };
        let ready = self.groups.iter().map(|(key, group)| (key, due(key, group))).filter(|(_, due)| *due <= now);
        match ready.min_by_key(|(key, due)| (key.ordinary, *due)) {
            Some((key, _)) => Ok(key.clone()),
            None => Err(self.groups.iter().map(|(key, group)| due(key, group)).min()),
        }
    }

    /// Takes the oldest of a group, as many as a batch may have.
    fn take(&mut self, key: &Key) -> Vec<Pending> {
        let Some(group) = self.groups.get_mut(key) else { return Vec::new() };
        let taken = group.drain(..group.len().min(INPUTS_MAX)).collect();
        if group.is_empty() {
            self.groups.remove(key);
        }
        taken
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
                        under_way.spawn(async move { dispatch(&context, pending, slot).await }.instrument(span));
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

/// One input of a batch, and everybody who asked for it.
struct Asked {
    entry: Entry,
    told: Vec<oneshot::Sender<Told>>,
}

impl Asked {
    fn tell(self, answer: &Told) {
        for told in self.told {
            // Whoever asked may have given up.
            let _ = told.send(answer.clone());
        }
    }
}

/// Makes one Job of what waited together.
async fn dispatch(context: &Context, pending: Vec<Pending>, mut slot: Slot) {
    let asked = merge(pending);
    let left = match settled(context, &asked).await {
        Ok(settled) => {
            let (there, left): (Vec<_>, Vec<_>) =
                asked.into_iter().partition(|asked| settled.contains(&asked.entry.work.outcome()));
            for asked in there {
                context.metrics.duplicates.inc();
                let told = controls::tell_again(context, &asked.entry.work).await.map_err(Obstacle::from);
                asked.tell(&told);
            }
            startable(context, left).await
        }
        Err(error) => {
            let answer = Err(Obstacle::from(error));
            asked.into_iter().for_each(|asked| asked.tell(&answer));
            return;
        }
    };
    let answer = match left.as_slice() {
        [] => return,
        [one] => {
            let Entry { work, message_id, published, received } = one.entry.clone();
            let origin = Origin { message_id, published, received };
            accept::create(context, &origin, &work, &mut slot).await
        }
        many => create(context, many, &mut slot).await,
    };
    slot.not_created();
    left.into_iter().for_each(|asked| asked.tell(&answer));
}

/// Those of which the session is neither paused nor cancelled; the others are told what became of them.
async fn startable(context: &Context, asked: Vec<Asked>) -> Vec<Asked> {
    let mut startable = Vec::with_capacity(asked.len());
    for asked in asked {
        let Entry { message_id, published, received, .. } = asked.entry.clone();
        let origin = Origin { message_id, published, received };
        match accept::heed(context, &origin, &asked.entry.work).await {
            Ok(true) => startable.push(asked),
            Ok(false) => asked.tell(&Ok(())),
            Err(obstacle) => asked.tell(&Err(obstacle)),
        }
    }
    startable
}

/// Whether the session of all of these was cancelled while their Job was made.
async fn cancelled(context: &Context, asked: &[Asked]) -> anyhow::Result<bool> {
    for asked in asked {
        if controls::stand(context, &asked.entry.work, asked.entry.published).await? != Stand::Cancelled {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Messages that ask for the same are one input.
fn merge(pending: Vec<Pending>) -> Vec<Asked> {
    let mut positions: HashMap<Identity, usize> = HashMap::with_capacity(pending.len());
    let mut all: Vec<Asked> = Vec::with_capacity(pending.len());
    for Pending { work, origin: Origin { message_id, published, received }, told, .. } in pending {
        match positions.get(&work.identity) {
            Some(position) => all[*position].told.push(told),
            None => {
                positions.insert(work.identity.clone(), all.len());
                all.push(Asked { entry: Entry { work, message_id, published, received }, told: vec![told] });
            }
        }
    }
    all
}

/// The outcomes that exist already.
async fn settled(context: &Context, asked: &[Asked]) -> anyhow::Result<BTreeSet<String>> {
    let names = asked.iter().map(|asked| asked.entry.work.outcome()).collect();
    context.store.present(&context.business.bucket, names).await
}

/// Makes sure that the API server has the Job of this batch.
async fn create(context: &Context, asked: &[Asked], slot: &mut Slot) -> Told {
    let manifest = Manifest::new(asked.iter().map(|asked| asked.entry.clone()).collect());
    let (bytes, hash) = manifest.encode()?;
    let business = &context.business;
    let batch = Batch {
        schema: batch::SCHEMA,
        bucket: business.bucket.clone(),
        business: business.name.clone(),
        session: asked.first().map(|asked| asked.entry.work.session.clone()).unwrap_or_default(),
        hash,
        inputs: u32::try_from(asked.len()).unwrap_or(u32::MAX),
        indexes: slot.weight().min(pods(asked.len(), context.slots())),
    };
    let name = batch.job_name();
    // From here on the sweep knows that the manifest is not left over.
    slot.creating(name.clone());
    context.store.write_once(&business.bucket, &batch.manifest(), bytes, Properties::json()).await?;
    context.hooks.at(Step::ManifestWritten, None, None).await;
    context.hooks.at(Step::BeforeCreate, None, None).await;
    let created = {
        let _permit = context.creates.acquire().await.map_err(|error| Obstacle::Stuck(error.to_string()))?;
        let body = context.template.batch(&batch).map_err(|error| Obstacle::OurFault(format!("{error:#}")))?;
        context.cluster.create(&body).await
    };
    let error = match created {
        Ok(uid) => {
            slot.created();
            accept::note_created(context, asked.iter().map(|asked| asked.entry.published));
            context.hooks.at(Step::Created, None, None).await;
            tracing::info!(inputs = batch.inputs, pods = batch.indexes, kubernetes_job = name, "created the batch");
            if cancelled(context, asked).await? {
                context.cluster.delete(&name, &uid).await?;
            }
            return Ok(());
        }
        Err(error) => error,
    };
    match classify(&error) {
        Answer::Exists => existing(context, &name).await,
        Answer::Retry { reason, after } => {
            Err(Obstacle::Passing { reason, after, why: format!("create the Job {name}: {error}") })
        }
        Answer::OurFault(why) => Err(Obstacle::OurFault(format!("the API server refuses to create Jobs: {why}"))),
        Answer::Rejected(why) => match gate::probe(context).await {
            Err(fault) => Err(Obstacle::OurFault(fault)),
            Ok(()) => {
                tracing::warn!("the API server does not accept the batch, so each input gets a Job of its own: {why}");
                Err(Obstacle::NotInABatch)
            }
        },
    }
}

/// There is a Job of that name, so it has the same inputs: fine, if it stays.
async fn existing(context: &Context, name: &str) -> Told {
    let job = context.cluster.job(name).await?;
    match job.as_ref().map(|job| (batch_of(job), job.metadata.deletion_timestamp.is_some())) {
        Some((Err(error), _)) => Err(Obstacle::Stuck(format!("{error:#}"))),
        Some((Ok(_), false)) => Ok(()),
        Some((Ok(_), true)) | None => Err(Obstacle::Passing {
            reason: retry::DELETING,
            after: Duration::ZERO,
            why: format!("the Job {name} is being deleted; the outcomes of its inputs come first"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(session: &str, priority: bool, since: Instant) -> (Key, Pending) {
        let work = Work { session: session.into(), priority, ..crate::job::tests::work(None) };
        let origin = Origin { message_id: "1".into(), published: None, received: jiff::Timestamp::UNIX_EPOCH };
        let key = Key { ordinary: !priority, session: session.into(), single: 0 };
        (key, Pending { work, origin, since, told: oneshot::channel().0 })
    }

    #[test]
    fn a_group_is_ready_after_a_moment_or_when_it_is_full_and_priority_goes_first() {
        let start = Instant::now();
        let mut queue = Queue::default();
        assert_eq!(queue.next(start), Err(None));
        let mut add = |session, priority, since| {
            let (key, pending) = pending(session, priority, since);
            queue.groups.entry(key.clone()).or_default().push_back(pending);
            (key, queue.next(since))
        };
        let (first, next) = add("a", false, start);
        assert_eq!(next, Err(Some(start + GATHER)));
        let later = start + Duration::from_millis(1);
        for _ in 0..INPUTS_MAX - 1 {
            assert_eq!(add("b", false, later).1, Err(Some(start + GATHER)));
        }
        let (full, next) = add("b", false, later);
        assert_eq!(next, Ok(full.clone()));
        let (urgent, next) = add("c", true, later);
        assert_eq!(next, Ok(full.clone()), "it has not waited for others yet");
        assert_eq!(queue.next(later + GATHER), Ok(urgent.clone()));
        assert_eq!(queue.take(&urgent).len(), 1);
        let (_, extra) = pending("b", false, later);
        queue.groups.entry(full.clone()).or_default().push_back(extra);
        assert_eq!(queue.take(&full).len(), INPUTS_MAX);
        assert_eq!(queue.groups[&full].len(), 1);
        assert_eq!(queue.next(later + GATHER), Ok(first));
    }

    #[test]
    fn messages_for_the_same_are_one_input() {
        let now = Instant::now();
        let all = ["a", "b", "a"].map(|job| {
            let (_, mut pending) = pending("s", false, now);
            pending.work.identity.object = job.into();
            pending
        });
        let asked = merge(all.into());
        assert_eq!(asked.iter().map(|asked| asked.told.len()).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn half_of_the_slots_are_a_batchs() {
        assert_eq!([1, 100, 101, 1000].map(|inputs| pods(inputs, 8)), [1, 1, 2, 4]);
        assert_eq!([1, 2, 4, 1000].map(|slots| pods(1000, slots)), [1, 1, 2, 10]);
    }
}

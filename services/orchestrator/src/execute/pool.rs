//! Execution in a pool: the items of a range go to warm engines, and its message is acknowledged when the outcome is
//! written. Which item goes to which engine is decided by [`Dispatcher`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::pool::{
    Dispatcher, RangeName,
    dispatcher::{Action, Ended, EngineId, Request},
    proto::{self, FromEngine, Hello, ToEngine, from_engine, to_engine},
};
use anyhow::Context as _;
use bytes::Bytes;
use cloud::storage::{Properties, Written};
use contract::{
    Identity, Outcome, config,
    message::Work,
    outcome::{Reason, State},
    pack::{Item, ItemResult},
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    admit::error::AdmitError,
    base::Base,
    execute::job::Origin,
    hooks::Step,
    settle::{
        outcome::completed,
        ranges::{earlier_items, set_names},
        record::{Records, set_origin},
    },
};

pub(crate) mod report;
pub(crate) mod server;
pub(crate) mod slots;
pub(crate) mod tokens;

const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The engines of the business, and what they compute.
pub(crate) struct Pool {
    base: Arc<Base>,
    records: Arc<Records>,
    config: config::Pool,
    /// The beginning of the time that the dispatcher knows, by two clocks.
    began: (Instant, Timestamp),
    /// The process stops: what is in progress is nacked.
    stop: CancellationToken,
    state: Mutex<Inner>,
    /// Engines or their work changed.
    changed: Notify,
}

struct Inner {
    dispatcher: Dispatcher,
    streams: HashMap<EngineId, Stream>,
    executions: HashMap<RangeName, Execution>,
    next_stream: u64,
}

/// The open stream of an engine.
struct Stream {
    number: u64,
    frames: mpsc::UnboundedSender<ToEngine>,
}

/// A range in progress.
struct Execution {
    work: Work,
    published: Option<Timestamp>,
    ended: Option<oneshot::Sender<Ended>>,
    /// Whether it is settled. Messages that are delivered again wait for it.
    is_settled: watch::Sender<bool>,
}

/// Removes a range that nothing waits for any more.
struct Begun<'p>(&'p Pool, RangeName);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.lock().executions.remove(&self.1);
    }
}

impl Pool {
    /// The pool of a business that has one.
    pub(crate) fn new(base: &Arc<Base>, records: &Arc<Records>, stop: CancellationToken) -> Option<Self> {
        Some(Self {
            base: base.clone(),
            records: records.clone(),
            config: base.business.pool?,
            began: (Instant::now(), (base.clock)()),
            stop,
            state: Mutex::new(Inner {
                dispatcher: Dispatcher::new(Duration::ZERO),
                streams: HashMap::new(),
                executions: HashMap::new(),
                next_stream: 0,
            }),
            changed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.0.elapsed()
    }

    /// Computes a range or a single input, and settles it. A range that is in progress is not begun once more: the call
    /// waits for its end.
    ///
    /// # Errors
    /// When the process stops first.
    pub(crate) async fn compute(
        &self,
        origin: &Origin,
        work: &Work,
        input: Option<(Bytes, String)>,
    ) -> Result<(), AdmitError> {
        let name: RangeName = work.identity.job_name().into();
        self.base.hooks.reached(Step::BeforeCreate, Some(&origin.message_id), Some(&work.identity)).await;
        let begun =
            self.begin(&name, origin, work, input.clone()).map_err(|error| AdmitError::Stuck(format!("{error:#}")))?;
        let (ended, begun) = match begun {
            Ok(ended) => (ended, Begun(self, name.clone())),
            Err(mut is_settled) => {
                self.base.metrics.duplicates.inc();
                let settled = tokio::select! {
                    () = self.stop.cancelled() => false,
                    settled = is_settled.wait_for(|is_settled| *is_settled) => settled.is_ok(),
                };
                return if settled { Ok(()) } else { Err(AdmitError::Stopping) };
            }
        };
        let ended = tokio::select! {
            () = self.stop.cancelled() => return Err(AdmitError::Stopping),
            ended = ended => ended.map_err(|_| AdmitError::Stopping)?,
        };
        let finished = (self.base.clock)();
        self.base.hooks.reached(Step::Finished, None, Some(&work.identity)).await;
        let mut backoff = RETRY_MIN;
        // The results are here only, so this is repeated and not the computation.
        while let Err(error) = self.settle(origin, work, input.as_ref(), ended.clone(), finished).await {
            self.base.metrics.settle_failures.inc();
            tracing::warn!(job = work.job, session = work.session, "failed to settle, will retry: {error:#}");
            tokio::select! {
                () = self.stop.cancelled() => return Err(AdmitError::Stopping),
                () = tokio::time::sleep(backoff.mul_f64(0.5 + rand::random::<f64>())) => {}
            }
            backoff = (backoff * 2).min(RETRY_MAX);
        }
        let mut state = self.lock();
        if let Some(execution) = state.executions.get(&name) {
            execution.is_settled.send_replace(true);
        }
        let actions = state.dispatcher.settled(&name);
        state.carry_out(actions);
        drop(state);
        drop(begun);
        Ok(())
    }

    /// Begins a range; when it is in progress, returns how to wait for its end.
    fn begin(
        &self,
        name: &RangeName,
        origin: &Origin,
        work: &Work,
        input: Option<(Bytes, String)>,
    ) -> anyhow::Result<Result<oneshot::Receiver<Ended>, watch::Receiver<bool>>> {
        let mut state = self.lock();
        if let Some(execution) = state.executions.get(name) {
            return Ok(Err(execution.is_settled.subscribe()));
        }
        let items = if work.pack.is_some() { work.items() } else { vec![0] };
        let request = Request {
            range: name.clone(),
            session: work.session.as_str().into(),
            priority: work.priority,
            work: serde_json::to_vec(work).context("encode the work")?.into(),
            input,
            items,
        };
        let (sender, ended) = oneshot::channel();
        let execution = Execution {
            work: work.clone(),
            published: origin.published,
            ended: Some(sender),
            is_settled: watch::Sender::new(false),
        };
        state.executions.insert(name.clone(), execution);
        let actions = state.dispatcher.add(request, self.now());
        state.carry_out(actions);
        drop(state);
        self.changed.notify_one();
        Ok(Ok(ended))
    }

    /// Writes the outcome, deletes the input of a success, and publishes the event.
    async fn settle(
        &self,
        origin: &Origin,
        work: &Work,
        input: Option<&(Bytes, String)>,
        ended: Ended,
        finished: Timestamp,
    ) -> anyhow::Result<()> {
        let started = ended.started.and_then(|at| self.began.1.checked_add(SignedDuration::try_from(at).ok()?).ok());
        let mut outcome = outcome(work, ended, earlier_items(&self.base, work).await?);
        set_names(&self.base, work, &mut outcome).await?;
        set_origin(&mut outcome, origin);
        let times = &mut outcome.timestamps;
        (times.started, times.finished, times.settled) = (started, Some(finished), Some((self.base.clock)()));
        let work = match outcome.state {
            State::Succeeded => work.clone(),
            _ => self.with_input(work, input).await?,
        };
        outcome.work = Some(work.clone());
        let (outcome, _) = self.records.write(&work, outcome).await?;
        self.records.finish(&work, &outcome).await
    }

    /// The work with an input object: a payload that did not succeed is written, so that it can be retried.
    async fn with_input(&self, work: &Work, input: Option<&(Bytes, String)>) -> anyhow::Result<Work> {
        let mut work = work.clone();
        let (bucket, object) = (work.identity.bucket.clone(), work.identity.object.clone());
        let Some((bytes, content_type)) = input.filter(|_| !work.identity.has_object()) else { return Ok(work) };
        let properties = Properties { content_type: content_type.clone(), metadata: work.metadata() };
        work.identity.generation = match self.base.store.write_once(&bucket, &object, bytes.clone(), properties).await?
        {
            Written::New(generation) => generation,
            Written::Exists => {
                let found = self.base.store.describe(&bucket, &object, None).await?;
                found.with_context(|| format!("read {object}, which existed a moment ago"))?.generation
            }
        };
        Ok(work)
    }

    /// Whether this work is in progress here.
    pub(crate) fn contains(&self, identity: &Identity) -> bool {
        self.lock().executions.contains_key(&*identity.job_name())
    }

    /// Cancels the work in progress that fulfils a condition, given the time at which it was published.
    pub(crate) fn cancel(&self, is_cancelled: impl Fn(&Work, Option<Timestamp>) -> bool) {
        let mut state = self.lock();
        let cancelled =
            state.executions.iter().filter(|(_, execution)| is_cancelled(&execution.work, execution.published));
        for name in cancelled.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            let message = "it, or its session, was cancelled before it had ended".to_owned();
            let reason = Reason { code: "cancelled".to_owned(), message };
            let actions = state.dispatcher.cancel(&name, &reason, self.now());
            state.carry_out(actions);
        }
    }

    /// An engine opened a stream; returns the number of the stream.
    fn connected(&self, engine: &EngineId, hello: Hello, frames: mpsc::UnboundedSender<ToEngine>) -> u64 {
        let mut state = self.lock();
        state.next_stream += 1;
        let number = state.next_stream;
        state.streams.insert(engine.clone(), Stream { number, frames });
        let actions = state.dispatcher.connected(engine, hello, self.now());
        state.carry_out(actions);
        drop(state);
        self.changed.notify_one();
        number
    }

    /// The stream of an engine ended.
    fn disconnected(&self, engine: &EngineId, number: u64) {
        let mut state = self.lock();
        if state.streams.get(engine).is_none_or(|stream| stream.number != number) {
            // The engine has another stream already.
            return;
        }
        state.streams.remove(engine);
        let actions = state.dispatcher.disconnected(engine, self.now());
        state.carry_out(actions);
        drop(state);
        self.changed.notify_one();
    }

    /// A frame of an engine's current stream.
    fn received(&self, engine: &EngineId, number: u64, frame: FromEngine) {
        // Parsed before the lock is taken.
        let records = match &frame.frame {
            Some(from_engine::Frame::Ended(ended)) => records(ended),
            _ => Vec::new(),
        };
        let mut state = self.lock();
        if state.streams.get(engine).is_none_or(|stream| stream.number != number) {
            return;
        }
        let (now, dispatcher) = (self.now(), &mut state.dispatcher);
        let actions = match frame.frame {
            Some(from_engine::Frame::Window(window)) => dispatcher.set_window(engine, window, now),
            Some(from_engine::Frame::Ended(ended)) => {
                dispatcher.ended(engine, &ended.range.into(), records, ended.cpu_seconds, now)
            }
            Some(from_engine::Frame::Returned(items)) => dispatcher.returned(engine, &items, now),
            Some(from_engine::Frame::Orphaned(items)) => dispatcher.orphaned(engine, items, now),
            Some(from_engine::Frame::BegunAlone(_)) => {
                dispatcher.begun_alone(engine);
                Vec::new()
            }
            Some(from_engine::Frame::Leaving(_)) => {
                dispatcher.leaving(engine);
                Vec::new()
            }
            Some(from_engine::Frame::Hello(_)) | None => Vec::new(),
        };
        state.carry_out(actions);
    }

    /// The numbers for `/metrics`: engines with a stream, items that wait, items that are with engines.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let state = self.lock();
        (state.streams.len(), state.dispatcher.waiting(), state.dispatcher.assigned())
    }
}

impl Inner {
    /// Sends frames and reports ranges that are complete.
    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(engine, frame) => self.send(&engine, frame),
                Action::Complete(name, ended) => {
                    let execution = self.executions.get_mut(&name);
                    if let Some(sender) = execution.and_then(|execution| execution.ended.take()) {
                        // The receiver is gone only when the process stops.
                        let _ = sender.send(ended);
                    }
                }
            }
        }
    }

    fn send(&self, engine: &EngineId, frame: to_engine::Frame) {
        if let Some(stream) = self.streams.get(engine) {
            // A stream that has just ended is reported as such.
            let _ = stream.frames.send(ToEngine { frame: Some(frame) });
        }
    }
}

/// The items of a frame. One whose record cannot be read has failed: without one its range would never end.
fn records(ended: &proto::Ended) -> Vec<Item> {
    let read = |(position, record): (usize, &Bytes)| {
        let index = ended.index.get(position).copied();
        match serde_json::from_slice::<Item>(record) {
            Ok(item) if index.is_none_or(|index| index == item.index) => Some(item),
            read => {
                let why = read.err().map_or("it is of another item".to_owned(), |error| error.to_string());
                tracing::error!(range = ended.range, index, "failed to read the record of an item: {why}");
                let message = format!("the engine's record of the item cannot be read: {why}");
                let reason = Reason { code: "engine-error".to_owned(), message };
                index.map(|index| Item::without_result(index, State::Failed, reason))
            }
        }
    };
    ended.record.iter().enumerate().filter_map(read).collect()
}

/// The outcome of what engines recorded, and of what an earlier attempt computed.
fn outcome(work: &Work, ended: Ended, earlier: Vec<Item>) -> Outcome {
    let (state, code, message) = completed();
    let mut outcome = Outcome::new(&work.business, state, &code, message);
    outcome.work = Some(work.clone());
    outcome.cpu_seconds = Some(ended.cpu_seconds);
    outcome.pods = ended.engines;
    outcome.node = ended.node;
    let mut items: BTreeMap<u32, Item> = earlier.into_iter().map(|item| (item.index, item)).collect();
    items.extend(ended.items.into_iter().map(|item| (item.index, item)));
    match work.range() {
        Some(range) => outcome.set_items(&range, items.into_values()),
        None => {
            if let Some(item) = items.remove(&0) {
                outcome.state = item.state;
                outcome.reason = item.reason.unwrap_or(outcome.reason);
                (outcome.log_tail, outcome.row_errors) = (item.log_tail, item.row_errors);
                outcome.result = item.result.filter(|result| !matches!(result, ItemResult::Object { .. }));
            }
        }
    }
    outcome
}

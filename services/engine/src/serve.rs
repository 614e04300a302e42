//! `engine serve`: an engine of a pool. It computes one item after another, as orchestrators send them.
//!
//! [`pool::Worker`] decides which items the engine holds and begins; one loop owns it, gives it what happens, and
//! carries out its actions.

mod computation;
mod container;
mod inputs;
mod streams;

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use contract::quantity;
use futures::{
    FutureExt as _, StreamExt as _,
    future::{AbortHandle, Aborted, LocalBoxFuture, OptionFuture, abortable, ready},
    stream::FuturesUnordered,
};
use pool::{
    RangeName, Worker,
    proto::{Hello, from_engine, to_engine},
    worker::{Action, Held, Item, StreamId},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc::unbounded_channel, watch},
    task::consume_budget,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use crate::{
    VERSION,
    config::{PoolSettings, Step},
    failure::Failure,
    input::Done,
    process, run,
    store::Objects,
};
use computation::{Computation, Computed};
use container::Container;
use inputs::{Range, Reader};
use streams::{Event, Sender};

/// Inputs that are read ahead at the same time.
const READS_MAX: usize = 32;
/// Limit of the bytes of objects that are kept, and of those that are read ahead.
const KEPT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Memory of the engine's container beside that of a program, as the template of the pod has it.
const MEMORY_BESIDE_PROGRAM: u64 = 512 * 1024 * 1024;
/// How often time is checked.
const TICK: Duration = Duration::from_secs(1);
/// How long items may run on after SIGTERM: shorter than the grace period of the pod.
const STOP_GRACE: Duration = Duration::from_secs(25);
/// How long it may take to return what was stopped.
const RETURN_MAX: Duration = Duration::from_secs(1);
/// How long orchestrators may take to end their streams before the engine exits.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Runs `serve` and returns the exit code.
pub fn main() -> u8 {
    run::block_on(async |variables| {
        let settings =
            PoolSettings::read(variables).map_err(|error| Failure::transient("configuration", format!("{error:#}")))?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut stop = pin!(async {
            terminate.recv().await;
        });
        let prepare = async {
            let container = match &settings.business.engine.command[..] {
                [] => None,
                [..] => Some(Container::start(&settings.work_dir).await?),
            };
            Ok::<_, Failure>((run::connect(&settings.config, variables).await?, container))
        };
        let (objects, container) = tokio::select! {
            prepared = prepare => prepared?,
            () = &mut stop => return Ok(Done::Released),
        };
        serve(&settings, &objects, container, stop).await?;
        Ok(Done::Released)
    })
}

/// Computes items until no orchestrator needs this engine, or until `stop` is ready and what runs has ended.
///
/// # Errors
/// When streams cannot be kept.
async fn serve(
    settings: &PoolSettings,
    objects: &impl Objects,
    container: Option<Container>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let memory = match container {
        Some(_) => MEMORY_BESIDE_PROGRAM,
        None => quantity::bytes(&settings.business.engine.memory).unwrap_or(u64::MAX),
    };
    let kept_max = usize::try_from(KEPT_BYTES_MAX.min(memory / 4)).unwrap_or(usize::MAX);
    let work_dir = container.as_ref().map(|_| &*settings.work_dir);
    let (sender, mut computed) = unbounded_channel();
    let computation = Computation::new(settings, Reader::new(objects, kept_max, work_dir), container, sender);
    let mut engine = Engine::new(settings, &computation, kept_max);
    let (sender, mut events) = unbounded_channel();
    let mut streams = pin!(streams::keep(Arc::new(settings.orchestrators.clone()), sender));
    let mut stop = pin!(stop.fuse());
    // What has to be done after a SIGTERM, and when.
    let mut deadlines = VecDeque::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tracing::info!(slot = settings.slot, slots = settings.slots, "waiting for orchestrators");
    while !engine.is_done {
        // Frames are sent and received while items end one after another.
        consume_budget().await;
        let deadline = deadlines.front().copied();
        let actions = tokio::select! {
            Some(Ok(())) = OptionFuture::from(engine.suspects.as_mut().map(watch::Receiver::changed)) => engine.hold(),
            Some(event) = events.recv() => engine.handle(event),
            Some((item, computed)) = engine.running.next() => engine.end(&item, computed),
            Some(item) = computed.recv() => engine.worker.computed(&item),
            Some(()) = engine.reads.next() => Vec::new(),
            _ = ticks.tick() => engine.tick(),
            ended = &mut streams => return ended,
            () = &mut stop => {
                tracing::info!("received SIGTERM: returning the items that were not begun");
                let grace = Instant::now() + STOP_GRACE;
                deadlines.extend([grace, grace + RETURN_MAX]);
                engine.leave()
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                deadlines.pop_front();
                engine.stop_all();
                // Orchestrators give what was not returned by then to other engines.
                engine.is_done = deadlines.is_empty();
                Vec::new()
            }
        };
        engine.perform(actions);
        engine.read_ahead();
        if engine.has_sent && settings.stop.as_ref().is_some_and(|stop| stop.at == Step::PoolSent) {
            // Until the frame is on its way.
            sleep(Duration::from_millis(50)).await;
            process::kill_if_requested(settings.stop.as_ref(), Step::PoolSent);
        }
    }
    let mut open = engine.streams.len();
    engine.streams.clear();
    let flush = async {
        while open > 0
            && let Some(event) = events.recv().await
        {
            open -= usize::from(matches!(event, Event::Closed(_)));
        }
    };
    tokio::select! {
        // An orchestrator that does not end its stream has received its frames, or will never.
        _ = timeout(FLUSH_MAX, flush) => Ok(()),
        ended = streams => ended,
    }
}

/// The worker, and what belongs to its items.
struct Engine<'e, O> {
    settings: &'e PoolSettings,
    computation: &'e Computation<'e, O>,
    worker: Worker,
    /// Number of items whose company may end them.
    suspects: Option<watch::Receiver<usize>>,
    began: Instant,
    streams: HashMap<StreamId, Sender>,
    /// Ranges whose input is needed, read or not.
    ranges: HashMap<RangeName, Rc<Range>>,
    running: FuturesUnordered<LocalBoxFuture<'e, (Item, Result<Computed, Aborted>)>>,
    /// How to stop each running item, and when it began.
    handles: HashMap<Item, (AbortHandle, Instant)>,
    /// Ranges whose input may be read ahead, in the order in which they came.
    unread: VecDeque<RangeName>,
    reads: FuturesUnordered<LocalBoxFuture<'e, ()>>,
    ahead_max: usize,
    /// CPU time that was reported.
    cpu_seconds: f64,
    /// A computation that nobody needs was found at the last tick.
    has_abandoned: bool,
    is_leaving: bool,
    has_sent: bool,
    is_done: bool,
}

impl<'e, O: Objects> Engine<'e, O> {
    fn new(settings: &'e PoolSettings, computation: &'e Computation<'e, O>, ahead_max: usize) -> Self {
        Self {
            settings,
            computation,
            worker: Worker::new(settings.slots as usize, Duration::ZERO),
            suspects: computation.suspects(),
            began: Instant::now(),
            streams: HashMap::new(),
            ranges: HashMap::new(),
            running: FuturesUnordered::new(),
            handles: HashMap::new(),
            unread: VecDeque::new(),
            reads: FuturesUnordered::new(),
            ahead_max,
            cpu_seconds: process::cpu_seconds(),
            has_abandoned: false,
            is_leaving: false,
            has_sent: false,
            is_done: false,
        }
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Greeting(reply) => {
                // The stream may have been lost since.
                let _ = reply.send(self.hello());
                Vec::new()
            }
            Event::Opened(stream, sender) => {
                self.streams.insert(stream, sender);
                self.worker.connected(stream)
            }
            Event::Closed(stream) => {
                self.streams.remove(&stream);
                self.worker.disconnected(stream, self.began.elapsed())
            }
            Event::Frame(stream, frame) => match frame {
                to_engine::Frame::Tasks(tasks) => {
                    process::kill_if_requested(self.settings.stop.as_ref(), Step::PoolReceived);
                    self.unread.push_back(tasks.range.as_str().into());
                    self.worker.tasks(stream, tasks)
                }
                to_engine::Frame::Recall(items) => self.worker.recall(stream, &items),
                to_engine::Frame::Cancel(items) => self.worker.cancel(stream, &items),
                to_engine::Frame::Settled(range) => {
                    self.ranges.remove(range.as_str());
                    self.worker.settled(&range)
                }
                to_engine::Frame::Withdraw(is_withdrawn) => self.worker.withdraw(stream, is_withdrawn),
            },
        }
    }

    fn hello(&self) -> Hello {
        let PoolSettings { pod, uid, slot, slots, node, .. } = self.settings;
        Hello {
            pod: pod.clone(),
            uid: uid.clone(),
            slot: *slot,
            slots: *slots,
            node: node.clone(),
            version: VERSION.to_owned(),
            held: self.worker.held(),
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(stream, frame) => {
                    self.has_sent |= matches!(frame, from_engine::Frame::Ended(_));
                    if let Some(sender) = self.streams.get(&stream) {
                        // A stream that was lost reports that it is closed.
                        let _ = sender.send(frame);
                    }
                }
                Action::Start(item) => self.start(item),
                Action::Stop(item) => {
                    if let Some((handle, _)) = self.handles.get(&item) {
                        handle.abort();
                    }
                }
                Action::Exit => self.is_done = true,
            }
        }
    }

    fn start(&mut self, item: Item) {
        let slots = self.settings.slots as usize;
        let busy = 1 + self.running.len() + self.worker.next_items().take(slots).count();
        let threads = (self.settings.threads / busy.min(slots).max(1)).max(1);
        let Some(range) = self.range(&item.0) else {
            self.running.push(ready((item, Err(Aborted))).boxed_local());
            return;
        };
        let (computation, index) = (self.computation, item.1);
        let (computed, handle) = abortable(async move { computation.compute(&range, index, threads).await });
        self.handles.insert(item.clone(), (handle, Instant::now()));
        self.running.push(async move { (item, computed.await) }.boxed_local());
    }

    /// Reports the end of an item to the worker.
    fn end(&mut self, item: &Item, computed: Result<Computed, Aborted>) -> Vec<Action> {
        let began = self.handles.remove(item).map(|(_, began)| began);
        let (record, seconds) = match computed {
            Ok(Computed { record, seconds }) => (Some(record), seconds),
            Err(Aborted) => (None, began.map_or(0.0, |began| began.elapsed().as_secs_f64())),
        };
        let cpu_seconds = match &record {
            Some(_) => {
                let before = std::mem::replace(&mut self.cpu_seconds, self.computation.cpu_seconds());
                self.cpu_seconds - before
            }
            None => 0.0,
        };
        if self.ranges.get(&item.0).is_some_and(|range| range.len == 1) {
            self.ranges.remove(&item.0);
        }
        // Nothing takes the place of this item beside a suspect.
        let mut actions = self.hold();
        actions.extend(self.worker.ended(item, record, seconds, cpu_seconds));
        actions
    }

    fn hold(&mut self) -> Vec<Action> {
        let is_held = self.suspects.as_mut().is_some_and(|suspects| *suspects.borrow_and_update() > 0);
        self.worker.hold(is_held)
    }

    fn tick(&mut self) -> Vec<Action> {
        let mut actions = self.worker.tick(self.began.elapsed());
        let worker = &self.worker;
        self.ranges.retain(|name, _| worker.range(name).is_some());
        let has_abandoned = self.computation.threads() > self.running.len();
        if has_abandoned && self.has_abandoned && !self.is_leaving {
            tracing::info!(
                "an item whose result nobody needs is still computed: only the end of this process stops it"
            );
            actions.extend(self.leave());
        }
        self.has_abandoned = has_abandoned;
        actions
    }

    fn leave(&mut self) -> Vec<Action> {
        self.is_leaving = true;
        self.worker.leave()
    }

    fn stop_all(&mut self) {
        for (handle, _) in self.handles.values() {
            handle.abort();
        }
    }

    /// Reads inputs of items that wait, so that the items do not wait for storage.
    fn read_ahead(&mut self) {
        let reader = &self.computation.reader;
        while self.reads.len() < READS_MAX
            && reader.ahead_bytes.get() < self.ahead_max
            && let Some(name) = self.unread.pop_front()
        {
            let is_waiting = self.worker.range(&name).is_some_and(Held::is_waiting);
            if let Some(range) = self.range(&name).filter(|range| is_waiting && range.is_unread()) {
                self.reads.push(async move { range.read_ahead(reader).await }.boxed_local());
            }
        }
    }

    /// A range that the worker holds.
    fn range(&mut self, name: &RangeName) -> Option<Rc<Range>> {
        let held = self.worker.range(name)?;
        let range =
            self.ranges.entry(name.clone()).or_insert_with(|| Rc::new(Range::new(self.settings, name.clone(), held)));
        Some(range.clone())
    }
}

#[cfg(test)]
mod tests;

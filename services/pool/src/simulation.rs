//! The pool in simulated time: engines, orchestrators, streams and the queue of messages, with delays, lost streams,
//! kills, preemptions, items that end their engine, and orchestrators that crash. The transitions are the real ones.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use contract::{outcome::State, pack::Item as Record};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    Dispatcher, RangeName, Worker, dispatcher,
    dispatcher::{EngineId, Request},
    proto::{Hello, from_engine, to_engine},
    worker,
};

const RANGES: u32 = 12;
const ITEMS: u32 = 40;
const SLOTS: u32 = 3;
const LEASE: Duration = Duration::from_secs(20);
/// An engine that the kubelet evicts is asked to stop, and killed after that.
const EVICTION_GRACE: Duration = Duration::from_secs(1);
/// Faults happen until then.
const FAULTS_UNTIL: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// A stream between an orchestrator's and an engine's process.
type Link = (u64, u64);

#[derive(Debug)]
enum Event {
    Deliver(RangeName),
    ToEngine(Link, to_engine::Frame),
    ToOrchestrator(Link, from_engine::Frame),
    Connect(Link),
    Computed(u64, worker::Item, Duration),
    PodEnded {
        engine: u64,
        is_preempted: bool,
    },
    StartEngine(u32),
    StartOrchestrator,
    Kill {
        engine: u64,
        is_preempted: bool,
    },
    Evict(u64),
    /// What runs on the engine must stay without company, or may have it again.
    Hold(u64, bool),
    Tick,
    Fault,
}

struct Orchestrator {
    dispatcher: Dispatcher,
    holds: BTreeSet<RangeName>,
}

struct Engine {
    worker: Worker,
    slot: u32,
    is_held: bool,
    stopped: BTreeSet<worker::Item>,
}

/// What may go wrong.
#[derive(Clone, Copy, Default)]
struct Faults {
    links: bool,
    preemptions: bool,
    orchestrators: bool,
    holds: bool,
    /// Items that end their engine: by a kill, or by filling its disk, so that the kubelet evicts it.
    killers: u32,
}

struct World {
    random: SmallRng,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    pending: HashMap<u64, Event>,
    next: u64,
    orchestrators: BTreeMap<u64, Orchestrator>,
    engines: BTreeMap<u64, Engine>,
    links: BTreeMap<Link, [Duration; 2]>,
    queue: BTreeSet<RangeName>,
    outcomes: BTreeMap<RangeName, Vec<Record>>,
    killers: BTreeSet<worker::Item>,
    started: BTreeMap<worker::Item, u32>,
    faults: Faults,
}

impl World {
    fn new(seed: u64, faults: Faults, orchestrators: u64) -> Self {
        let mut world = Self {
            random: SmallRng::seed_from_u64(seed),
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            pending: HashMap::new(),
            next: 1,
            orchestrators: BTreeMap::new(),
            engines: BTreeMap::new(),
            links: BTreeMap::new(),
            queue: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            killers: BTreeSet::new(),
            started: BTreeMap::new(),
            faults,
        };
        for _ in 0..orchestrators {
            world.at(Duration::ZERO, Event::StartOrchestrator);
        }
        for slot in 0..SLOTS {
            world.at(Duration::ZERO, Event::StartEngine(slot));
        }
        for number in 0..RANGES {
            let name: RangeName = format!("range-{number}").into();
            world.queue.insert(name.clone());
            let delay = world.random.random_range(0..20_000);
            world.at(Duration::from_millis(delay), Event::Deliver(name));
        }
        for _ in 0..faults.killers {
            let range = world.random.random_range(0..RANGES);
            world.killers.insert((format!("range-{range}").into(), world.random.random_range(0..ITEMS)));
        }
        world.at(Duration::from_millis(300), Event::Tick);
        world.at(Duration::from_secs(1), Event::Fault);
        world
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.next += 1;
        self.pending.insert(self.next, event);
        self.events.push(Reverse((self.now + delay, self.next)));
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    /// Sends a frame; frames of one direction of a stream stay in order.
    fn send(&mut self, link: Link, direction: usize, event: Event) {
        let delay = Duration::from_micros(self.random.random_range(100..30_000));
        let Some(last) = self.links.get_mut(&link) else { return };
        let arrives = (self.now + delay).max(last[direction] + Duration::from_micros(1));
        last[direction] = arrives;
        let delay = arrives.saturating_sub(self.now);
        self.at(delay, event);
    }

    fn decided(&mut self, orchestrator: u64, actions: Vec<dispatcher::Action>) {
        for action in actions {
            match action {
                dispatcher::Action::Send(engine, frame) => {
                    let link = (orchestrator, engine.parse().unwrap());
                    self.send(link, 0, Event::ToEngine(link, frame));
                }
                dispatcher::Action::Complete(range, ended) => {
                    // The first outcome counts.
                    self.outcomes.entry(range.clone()).or_insert(ended.items);
                    self.queue.remove(&range);
                    let process = self.orchestrators.get_mut(&orchestrator).unwrap();
                    process.holds.remove(&range);
                    let actions = process.dispatcher.settled(&range);
                    self.decided(orchestrator, actions);
                }
            }
        }
    }

    fn acted(&mut self, engine: u64, actions: Vec<worker::Action>) {
        for action in actions {
            match action {
                worker::Action::Send(orchestrator, frame) => {
                    let link = (orchestrator, engine);
                    self.send(link, 1, Event::ToOrchestrator(link, frame));
                }
                worker::Action::Start(item) => {
                    *self.started.entry(item.clone()).or_default() += 1;
                    let process = self.engines.get_mut(&engine).unwrap();
                    assert!(!process.is_held, "an engine that is held begins {item:?}");
                    process.stopped.remove(&item);
                    let takes = self.millis(1..800);
                    let fills_disk = item.1 % 2 == 0;
                    let ends_after = match self.killers.contains(&item) {
                        true if fills_disk => {
                            self.at(takes, Event::Evict(engine));
                            takes + 2 * EVICTION_GRACE
                        }
                        true => {
                            self.at(takes, Event::Kill { engine, is_preempted: false });
                            takes
                        }
                        false => takes,
                    };
                    self.at(ends_after, Event::Computed(engine, item, takes));
                }
                worker::Action::Stop(item) => {
                    self.engines.get_mut(&engine).unwrap().stopped.insert(item);
                }
                worker::Action::Exit => self.end_engine(engine, true),
            }
        }
    }

    fn end_engine(&mut self, engine: u64, is_preempted: bool) {
        let Some(process) = self.engines.remove(&engine) else { return };
        let links: Vec<Link> = self.links.keys().filter(|link| link.1 == engine).copied().collect();
        links.into_iter().for_each(|link| self.cut(link));
        let seen = self.millis(10..3000);
        self.at(seen, Event::PodEnded { engine, is_preempted });
        let restart = self.millis(500..3000);
        self.at(restart, Event::StartEngine(process.slot));
    }

    /// A stream ends; what is under way on it is lost.
    fn cut(&mut self, link: Link) {
        self.links.remove(&link);
        let now = self.now;
        if let Some(process) = self.orchestrators.get_mut(&link.0) {
            let actions = process.dispatcher.disconnected(&link.1.to_string().into(), now);
            self.decided(link.0, actions);
        }
        if let Some(process) = self.engines.get_mut(&link.1) {
            let actions = process.worker.disconnected(link.0, now);
            self.acted(link.1, actions);
        }
        let delay = self.millis(50..4000);
        self.at(delay, Event::Connect(link));
    }

    fn fault(&mut self) {
        if self.now > FAULTS_UNTIL {
            return;
        }
        let delay = self.millis(100..4000);
        self.at(delay, Event::Fault);
        let pick = |random: &mut SmallRng, count: usize| (count > 0).then(|| random.random_range(0..count));
        match self.random.random_range(0..5) {
            0 if self.faults.links => {
                if let Some(number) = pick(&mut self.random, self.links.len()) {
                    let link = *self.links.keys().nth(number).unwrap();
                    self.cut(link);
                }
            }
            1 if self.faults.preemptions => {
                if let Some(number) = pick(&mut self.random, self.engines.len()) {
                    let engine = *self.engines.keys().nth(number).unwrap();
                    self.end_engine(engine, true);
                }
            }
            2 if self.faults.preemptions => {
                if let Some(number) = pick(&mut self.random, self.engines.len()) {
                    let engine = *self.engines.keys().nth(number).unwrap();
                    let actions = self.engines.get_mut(&engine).unwrap().worker.leave();
                    self.acted(engine, actions);
                    self.at(Duration::from_secs(30), Event::Kill { engine, is_preempted: true });
                }
            }
            3 if self.faults.orchestrators => {
                if let Some(number) = pick(&mut self.random, self.orchestrators.len()) {
                    let id = *self.orchestrators.keys().nth(number).unwrap();
                    let held = self.orchestrators.remove(&id).unwrap().holds;
                    let links: Vec<Link> = self.links.keys().filter(|link| link.0 == id).copied().collect();
                    links.into_iter().for_each(|link| self.cut(link));
                    for range in held {
                        self.at(LEASE, Event::Deliver(range));
                    }
                    let restart = self.millis(500..5000);
                    self.at(restart, Event::StartOrchestrator);
                }
            }
            4 if self.faults.holds => {
                if let Some(number) = pick(&mut self.random, self.engines.len()) {
                    let engine = *self.engines.keys().nth(number).unwrap();
                    self.at(Duration::ZERO, Event::Hold(engine, true));
                    let until = self.millis(10..2000);
                    self.at(until, Event::Hold(engine, false));
                }
            }
            _ => {}
        }
    }

    fn deliver(&mut self, range: RangeName) {
        if self.outcomes.contains_key(&range) {
            self.queue.remove(&range);
            return;
        }
        let Some(id) = self.orchestrators.keys().nth(self.random.random_range(0..2)).copied() else {
            self.at(Duration::from_secs(1), Event::Deliver(range));
            return;
        };
        let request = Request {
            range: range.clone(),
            session: format!("session-{}", range.len() % 2).into(),
            priority: range.ends_with('3'),
            work: Bytes::from_static(b"{}"),
            input: None,
            items: (0..ITEMS).collect(),
        };
        let now = self.now;
        let process = self.orchestrators.get_mut(&id).unwrap();
        process.holds.insert(range);
        let actions = process.dispatcher.add(request, now);
        self.decided(id, actions);
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Deliver(range) => self.deliver(range),
            Event::StartOrchestrator => {
                self.next += 1;
                let process = Orchestrator { dispatcher: Dispatcher::new(now), holds: BTreeSet::new() };
                let id = self.next;
                self.orchestrators.insert(id, process);
                for engine in self.engines.keys().copied().collect::<Vec<_>>() {
                    let delay = self.millis(10..3000);
                    self.at(delay, Event::Connect((id, engine)));
                }
            }
            Event::StartEngine(slot) => {
                self.next += 1;
                let id = self.next;
                self.engines
                    .insert(id, Engine { worker: Worker::new(2, now), slot, is_held: false, stopped: BTreeSet::new() });
                for orchestrator in self.orchestrators.keys().copied().collect::<Vec<_>>() {
                    let delay = self.millis(10..1000);
                    self.at(delay, Event::Connect((orchestrator, id)));
                }
            }
            Event::Connect(link) => {
                let is_open = self.links.contains_key(&link);
                let (Some(_), Some(engine)) = (self.orchestrators.get(&link.0), self.engines.get_mut(&link.1)) else {
                    return;
                };
                if is_open {
                    return;
                }
                self.links.insert(link, [now; 2]);
                let hello = Hello { slot: engine.slot, slots: 2, held: engine.worker.held(), ..Hello::default() };
                let actions = engine.worker.connected(link.0);
                self.send(link, 1, Event::ToOrchestrator(link, from_engine::Frame::Hello(hello)));
                self.acted(link.1, actions);
            }
            Event::ToEngine(link, frame) if self.links.contains_key(&link) => {
                let worker = &mut self.engines.get_mut(&link.1).unwrap().worker;
                let actions = match frame {
                    to_engine::Frame::Tasks(tasks) => worker.tasks(link.0, tasks),
                    to_engine::Frame::Recall(items) => worker.recall(link.0, &items),
                    to_engine::Frame::Cancel(items) => worker.cancel(link.0, &items),
                    to_engine::Frame::Settled(range) => worker.settled(&range),
                    to_engine::Frame::Withdraw(is_withdrawn) => worker.withdraw(link.0, is_withdrawn),
                };
                self.acted(link.1, actions);
            }
            Event::ToOrchestrator(link, frame) if self.links.contains_key(&link) => {
                let dispatcher = &mut self.orchestrators.get_mut(&link.0).unwrap().dispatcher;
                let engine: EngineId = link.1.to_string().into();
                let actions = match frame {
                    from_engine::Frame::Hello(hello) => dispatcher.connected(&engine, hello, now),
                    from_engine::Frame::Window(window) => dispatcher.set_window(&engine, window, now),
                    from_engine::Frame::Ended(ended) => {
                        let records = ended.record.iter().map(|record| serde_json::from_slice(record).unwrap());
                        dispatcher.ended(&engine, &ended.range.into(), records.collect(), 0.0, now)
                    }
                    from_engine::Frame::Returned(items) => dispatcher.returned(&engine, &items, now),
                    from_engine::Frame::Orphaned(items) => dispatcher.orphaned(&engine, items, now),
                    from_engine::Frame::BegunAlone(_) => {
                        dispatcher.begun_alone(&engine);
                        Vec::new()
                    }
                    from_engine::Frame::Leaving(_) => {
                        dispatcher.leaving(&engine);
                        Vec::new()
                    }
                };
                self.decided(link.0, actions);
            }
            // The stream of these frames has ended.
            Event::ToEngine(..) | Event::ToOrchestrator(..) => {}
            Event::Computed(engine, item, takes) => {
                let Some(process) = self.engines.get_mut(&engine) else { return };
                let record = Record { index: item.1, seconds: Some(takes.as_secs_f64()), ..succeeded() };
                let record = (!process.stopped.remove(&item)).then(|| serde_json::to_vec(&record).unwrap().into());
                let actions = process.worker.ended(&item, record, takes.as_secs_f64(), 0.0);
                self.acted(engine, actions);
            }
            Event::PodEnded { engine, is_preempted } => {
                for id in self.orchestrators.keys().copied().collect::<Vec<_>>() {
                    let process = self.orchestrators.get_mut(&id).unwrap();
                    let actions = process.dispatcher.pod_ended(&engine.to_string().into(), is_preempted, now);
                    self.decided(id, actions);
                }
            }
            Event::Kill { engine, is_preempted } => self.end_engine(engine, is_preempted),
            Event::Evict(engine) => {
                let Some(process) = self.engines.get_mut(&engine) else { return };
                let actions = process.worker.leave();
                self.at(EVICTION_GRACE, Event::Kill { engine, is_preempted: false });
                self.acted(engine, actions);
            }
            Event::Hold(engine, is_held) => {
                let Some(process) = self.engines.get_mut(&engine) else { return };
                process.is_held = is_held;
                let actions = process.worker.hold(is_held);
                self.acted(engine, actions);
            }
            Event::Fault => self.fault(),
            Event::Tick => {
                self.at(Duration::from_millis(300), Event::Tick);
                for id in self.orchestrators.keys().copied().collect::<Vec<_>>() {
                    let dispatcher = &mut self.orchestrators.get_mut(&id).unwrap().dispatcher;
                    let actions = dispatcher.tick(1, Duration::from_secs(15), now);
                    self.decided(id, actions);
                }
                for id in self.engines.keys().copied().collect::<Vec<_>>() {
                    let actions = self.engines.get_mut(&id).unwrap().worker.tick(now);
                    self.acted(id, actions);
                }
            }
        }
    }

    /// Runs until every message is acknowledged.
    fn run(mut self) -> Self {
        while !self.queue.is_empty() {
            let Reverse((at, number)) = self.events.pop().unwrap();
            assert!(at < LIMIT, "never done: {:?}", self.queue);
            self.now = at;
            let event = self.pending.remove(&number).unwrap();
            self.handle(event);
            self.check_counts();
        }
        self
    }

    fn check_counts(&self) {
        for process in self.orchestrators.values() {
            process.dispatcher.check_counts();
        }
    }
}

fn succeeded() -> Record {
    Record {
        index: 0,
        name: None,
        state: State::Succeeded,
        reason: None,
        log_tail: None,
        row_errors: 0,
        seconds: None,
        result: None,
    }
}

/// Every item has one outcome: those that end engines fail, and no other.
fn check(seed: u64, faults: Faults, orchestrators: u64) -> World {
    let world = World::new(seed, faults, orchestrators).run();
    assert_eq!(world.outcomes.len(), RANGES as usize);
    for (range, items) in &world.outcomes {
        assert!(items.iter().map(|item| item.index).eq(0..ITEMS), "{range} of seed {seed}");
        for item in items {
            let killer = world.killers.contains(&(range.clone(), item.index));
            let code = item.reason.as_ref().map(|reason| reason.code.as_str());
            assert_eq!(code, killer.then_some(dispatcher::POD_KILLED), "{range} {} of seed {seed}", item.index);
        }
    }
    world
}

#[test]
fn without_faults_each_item_is_computed_once() {
    for seed in 0..20 {
        let world = check(seed, Faults::default(), 1);
        assert!(world.started.values().all(|count| *count == 1), "seed {seed}");
    }
}

#[test]
fn nothing_is_lost_whatever_fails() {
    let all = Faults { links: true, preemptions: true, orchestrators: true, holds: true, killers: 3 };
    for seed in 0..150 {
        check(seed, all, 1 + seed % 2);
    }
}

#[test]
fn an_engine_that_is_held_for_a_while_makes_no_item_lost_or_computed_twice() {
    for seed in 0..50 {
        let world = check(seed, Faults { holds: true, ..Faults::default() }, 1 + seed % 2);
        assert!(world.started.values().all(|count| *count == 1), "seed {seed}");
    }
}

#[test]
fn a_lost_stream_makes_no_engine_compute_twice() {
    for seed in 0..50 {
        let world = check(seed, Faults { links: true, ..Faults::default() }, 1);
        // What was begun goes on, unless the stream is away for too long.
        let twice = world.started.values().filter(|count| **count > 1).count();
        assert!(twice == 0, "seed {seed}: {twice}");
    }
}

#[test]
fn an_engine_that_nobody_needs_ends() {
    let mut world = check(1, Faults::default(), 2);
    let until = world.now + Duration::from_secs(60);
    let mut ended = VecDeque::new();
    while world.now < until {
        let Reverse((at, number)) = world.events.pop().unwrap();
        world.now = at;
        let event = world.pending.remove(&number).unwrap();
        match event {
            Event::StartEngine(slot) => ended.push_back(slot),
            event => world.handle(event),
        }
    }
    ended.make_contiguous().sort_unstable();
    assert_eq!(ended, [1, 2], "slot 0 is below the minimum");
}

//! The orchestrator's side of the stream: which item goes to which engine, and what an engine's end means for its items.
//!
//! An item that was with an engine whose pod ended by itself is a suspect. Suspects run one at a time on an engine that
//! computes nothing else; a suspect with which [`DEATHS_ALONE_MAX`] engines ended fails. So an item that ends engines is
//! found whatever ran beside it, and no other item fails for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use contract::{
    outcome::{Reason, State},
    pack::Item,
};

use crate::{
    RangeName,
    proto::{Hello, Items, Tasks, to_engine::Frame},
};

/// How long an engine may be without a stream before its items go to others.
pub const RECONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a new orchestrator waits for engines that run already, and may hold its items.
pub const REPORT_MAX: Duration = Duration::from_secs(2);
/// How long an item is with an engine before another engine without work may have it.
pub const RECALL_AFTER: Duration = Duration::from_secs(1);
/// Number of engines that may end while they compute nothing but one item.
pub const DEATHS_ALONE_MAX: u32 = 2;
/// Reason code of an item that ended engines.
pub const POD_KILLED: &str = "pod-killed";
/// Limit of the items in one frame.
const TASKS_MAX: usize = 256;
/// Weight of the last item in the mean time of an item.
const NEW_WEIGHT: f64 = 0.02;

/// An engine: the uid of its pod.
pub type EngineId = Arc<str>;

/// A range to compute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Name of the range.
    pub range: RangeName,
    /// Its session; sessions take turns.
    pub session: Arc<str>,
    /// It goes before those without priority.
    pub priority: bool,
    /// The range in JSON, for the engine.
    pub work: Bytes,
    /// The input, when the message itself held it, with its content type.
    pub input: Option<(Bytes, String)>,
    /// The items to compute, in ascending order.
    pub items: Vec<u32>,
}

/// What the orchestrator has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this frame.
    Send(EngineId, Frame),
    /// All items of this range have ended.
    Complete(RangeName, Ended),
}

/// How a range was computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ended {
    /// One record for each requested item, by index.
    pub items: Vec<Item>,
    /// CPU time, user and system, in seconds.
    pub cpu_seconds: f64,
    /// When the first item was sent to an engine.
    pub started: Option<Duration>,
    /// Number of engines that had items of it.
    pub engines: u32,
    /// Node of the engine that returned the last item.
    pub node: Option<String>,
}

#[derive(Debug)]
struct Range {
    request: Request,
    waiting: BTreeSet<u32>,
    suspects: BTreeSet<u32>,
    /// Engines that ended while they computed nothing but this item.
    deaths: BTreeMap<u32, u32>,
    ended: BTreeMap<u32, Item>,
    engines: BTreeSet<EngineId>,
    result: Ended,
}

/// An engine as the orchestrator knows it.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Its pod.
    pub pod: String,
    /// Its slot in the pool.
    pub slot: u32,
    /// Items that it computes at the same time.
    pub slots: usize,
    /// Node of its pod.
    pub node: String,
    /// Items that it accepts at the same time.
    pub window: usize,
    /// Items that it has.
    pub assigned: usize,
    /// It has a stream.
    pub is_connected: bool,
    /// It accepts no more items.
    pub is_leaving: bool,
    /// It finishes what it has, and gets no more.
    pub is_released: bool,
    /// It was notified that this orchestrator does not need it.
    pub is_withdrawn: bool,
    items: HashMap<RangeName, BTreeMap<u32, Duration>>,
    /// It has a suspect and nothing else.
    is_alone: bool,
    /// It has begun to compute the suspect.
    has_begun_alone: bool,
    lost_since: Duration,
    idle_since: Duration,
    /// Items that it reported and that are of no range here.
    reported: HashMap<RangeName, BTreeSet<u32>>,
}

impl Engine {
    fn room(&self) -> usize {
        let is_usable = self.is_connected && !self.is_leaving && !self.is_released && !self.is_alone;
        if is_usable { self.window.saturating_sub(self.assigned) } else { 0 }
    }

    /// Number of items that it can begin at once.
    fn free_slots(&self) -> usize {
        self.room().min(self.slots.saturating_sub(self.assigned))
    }

    fn assign(&mut self, range: &RangeName, items: &[u32], now: Duration) {
        let assigned = self.items.entry(range.clone()).or_default();
        for index in items {
            self.assigned += usize::from(assigned.insert(*index, now).is_none());
        }
        self.is_withdrawn = false;
    }

    /// Removes an item; whether it had it.
    fn remove(&mut self, range: &RangeName, index: u32, now: Duration) -> bool {
        let Some(assigned) = self.items.get_mut(range) else { return false };
        let had = assigned.remove(&index).is_some();
        if assigned.is_empty() {
            self.items.remove(range);
        }
        self.assigned -= usize::from(had);
        if self.assigned == 0 {
            (self.is_alone, self.has_begun_alone) = (false, false);
            self.idle_since = now;
        }
        had
    }
}

/// The ranges in progress, and the engines.
#[derive(Debug)]
pub struct Dispatcher {
    ranges: HashMap<RangeName, Range>,
    /// The engines of ranges that are complete and have no outcome yet.
    complete: HashMap<RangeName, BTreeSet<EngineId>>,
    /// Ranges with items that wait, by session: the first session is next. Priority, then the others.
    turns: [VecDeque<(Arc<str>, VecDeque<RangeName>)>; 2],
    engines: BTreeMap<EngineId, Engine>,
    /// The engine that computes suspects.
    quarantine: Option<EngineId>,
    waiting: usize,
    suspects: usize,
    /// Nothing is sent before, except to engines that hold the item already.
    quiet_until: Duration,
    item_secs: Option<f64>,
    ended_items: u64,
}

/// Where the items of a range are, each in ascending order. One that is nowhere has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Its items.
    pub items: Vec<u32>,
    /// Those that wait for an engine.
    pub waiting: BTreeSet<u32>,
    /// Those that are with engines, by the engine's pod.
    pub engines: BTreeMap<String, Vec<u32>>,
}

impl Dispatcher {
    /// No range and no engine yet. Items wait until engines that run already have reported, or [`REPORT_MAX`] is over.
    pub fn new(now: Duration) -> Self {
        Self {
            ranges: HashMap::new(),
            complete: HashMap::new(),
            turns: Default::default(),
            engines: BTreeMap::new(),
            quarantine: None,
            waiting: 0,
            suspects: 0,
            quiet_until: now + REPORT_MAX,
            item_secs: None,
            ended_items: 0,
        }
    }

    /// All engines that run have reported.
    pub fn all_reported(&mut self, now: Duration) -> Vec<Action> {
        self.quiet_until = self.quiet_until.min(now);
        let mut actions = Vec::new();
        self.assign(now, &mut actions);
        actions
    }

    /// The engines.
    pub fn engines(&self) -> &BTreeMap<EngineId, Engine> {
        &self.engines
    }

    /// Items that wait for an engine.
    pub fn waiting(&self) -> usize {
        self.waiting + self.suspects
    }

    /// Items that are with engines.
    pub fn assigned(&self) -> usize {
        self.engines.values().map(|engine| engine.assigned).sum()
    }

    /// Mean time of an item in seconds, when some have ended.
    pub fn item_secs(&self) -> Option<f64> {
        self.item_secs
    }

    /// Number of items that ended with a record of an engine.
    pub fn ended_items(&self) -> u64 {
        self.ended_items
    }

    /// Where the items of ranges in progress are, of at most `max` ranges.
    pub fn places(&self, max: usize) -> BTreeMap<RangeName, Places> {
        let mut found: BTreeMap<RangeName, Places> = BTreeMap::new();
        for (name, range) in self.ranges.iter().take(max) {
            let waiting = range.waiting.union(&range.suspects).copied().collect();
            let places = Places { items: range.request.items.clone(), waiting, engines: BTreeMap::new() };
            found.insert(name.clone(), places);
        }
        for engine in self.engines.values() {
            for (name, items) in &engine.items {
                if let Some(places) = found.get_mut(name) {
                    places.engines.insert(engine.pod.clone(), items.keys().copied().collect());
                }
            }
        }
        found
    }

    /// Computes a range. A range that is in progress is not begun once more.
    pub fn add(&mut self, request: Request, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.ranges.contains_key(&request.range) {
            return actions;
        }
        let name = request.range.clone();
        let waiting: BTreeSet<u32> = request.items.iter().copied().collect();
        self.waiting += waiting.len();
        let range = Range {
            request,
            waiting,
            suspects: BTreeSet::new(),
            deaths: BTreeMap::new(),
            ended: BTreeMap::new(),
            engines: BTreeSet::new(),
            result: Ended::default(),
        };
        self.ranges.insert(name.clone(), range);
        self.enqueue(&name, false);
        let reports: Vec<(EngineId, BTreeSet<u32>)> = self
            .engines
            .iter_mut()
            .filter_map(|(id, engine)| Some((id.clone(), engine.reported.remove(&name)?)))
            .collect();
        for (engine, items) in reports {
            self.attach(&engine, &name, items, now, &mut actions);
        }
        self.complete_if_done(&name, now, &mut actions);
        self.assign(now, &mut actions);
        actions
    }

    /// An engine opened a stream. A stream that it had before has ended.
    pub fn connected(&mut self, id: &EngineId, hello: Hello, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let slots = usize::try_from(hello.slots).unwrap_or(1).max(1);
        let engine = self.engines.entry(id.clone()).or_insert_with(|| Engine {
            pod: hello.pod.clone(),
            slot: hello.slot,
            slots,
            node: hello.node.clone(),
            window: 0,
            assigned: 0,
            is_connected: true,
            is_leaving: false,
            is_released: false,
            is_withdrawn: false,
            items: HashMap::new(),
            is_alone: false,
            has_begun_alone: false,
            lost_since: now,
            idle_since: now,
            reported: HashMap::new(),
        });
        engine.is_connected = true;
        // The engine does not know it of a new stream.
        engine.is_withdrawn = false;
        engine.window = 0;
        engine.reported.clear();
        let held: HashMap<RangeName, BTreeSet<u32>> =
            hello.held.into_iter().map(|items| (items.range.into(), items.index.into_iter().collect())).collect();
        // What was lost with the old stream.
        let is_held = |range: &RangeName, index: &u32| held.get(range).is_some_and(|items| items.contains(index));
        let lost: Vec<(RangeName, u32)> = engine
            .items
            .iter()
            .flat_map(|(range, items)| items.keys().map(move |index| (range.clone(), *index)))
            .filter(|(range, index)| !is_held(range, index))
            .collect();
        for (range, index) in lost {
            self.take_from(id, &range, index, now);
            self.requeue(&range, index);
        }
        for (range, items) in held {
            self.attach(id, &range, items, now, &mut actions);
        }
        self.assign(now, &mut actions);
        actions
    }

    /// An engine holds items of a range for no other orchestrator.
    pub fn orphaned(&mut self, id: &EngineId, items: Items, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        self.attach(id, &items.range.into(), items.index.into_iter().collect(), now, &mut actions);
        actions
    }

    /// An engine accepts so many items at the same time.
    pub fn set_window(&mut self, id: &EngineId, window: u32, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(engine) = self.engines.get_mut(id) {
            engine.window = usize::try_from(window).unwrap_or(usize::MAX);
            self.assign(now, &mut actions);
        }
        actions
    }

    /// Items ended. The first record of an item counts.
    pub fn ended(
        &mut self,
        id: &EngineId,
        name: &RangeName,
        items: Vec<Item>,
        cpu_seconds: f64,
        now: Duration,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        for item in &items {
            self.take_from(id, name, item.index, now);
        }
        let Some(range) = self.ranges.get_mut(name) else {
            // Its outcome was written, or nobody needs it any more.
            actions.push(Action::Send(id.clone(), Frame::Settled(name.to_string())));
            self.assign(now, &mut actions);
            return actions;
        };
        range.result.cpu_seconds += cpu_seconds;
        if let Some(engine) = self.engines.get(id) {
            range.result.node = Some(engine.node.clone());
        }
        for item in items {
            if let Some(secs) = item.seconds {
                self.item_secs = Some(self.item_secs.map_or(secs, |mean| mean + NEW_WEIGHT * (secs - mean)));
            }
            self.ended_items += 1;
            self.waiting -= usize::from(range.waiting.remove(&item.index));
            self.suspects -= usize::from(range.suspects.remove(&item.index));
            if range.request.items.binary_search(&item.index).is_ok() {
                range.ended.entry(item.index).or_insert(item);
            }
        }
        self.complete_if_done(name, now, &mut actions);
        self.assign(now, &mut actions);
        actions
    }

    /// An engine returned items that it did not begin.
    pub fn returned(&mut self, id: &EngineId, items: &Items, now: Duration) -> Vec<Action> {
        let name: RangeName = items.range.as_str().into();
        for index in &items.index {
            if self.take_from(id, &name, *index, now) {
                self.requeue(&name, *index);
            }
        }
        let mut actions = Vec::new();
        self.assign(now, &mut actions);
        actions
    }

    /// An engine begins to compute a suspect, and nothing else.
    pub fn begun_alone(&mut self, id: &EngineId) {
        if let Some(engine) = self.engines.get_mut(id) {
            engine.has_begun_alone = engine.is_alone;
        }
    }

    /// An engine accepts no more items and ends soon.
    pub fn leaving(&mut self, id: &EngineId) {
        if let Some(engine) = self.engines.get_mut(id) {
            engine.is_leaving = true;
        }
    }

    /// The stream of an engine ended. It may open another one, or the cluster reports soon why it ended, so its items
    /// stay with it for a moment. One that had said that it leaves, and finished, is forgotten.
    pub fn disconnected(&mut self, id: &EngineId, now: Duration) -> Vec<Action> {
        let Some(engine) = self.engines.get_mut(id) else { return Vec::new() };
        engine.is_connected = false;
        engine.lost_since = now;
        if engine.is_leaving && engine.assigned == 0 { self.removed(id, false, now) } else { Vec::new() }
    }

    /// The pod of an engine ended. It is nobody's fault when the pod was preempted. That the engine was asked to stop says
    /// nothing: the kubelet asks one too that it evicts because an item filled the disk.
    pub fn pod_ended(&mut self, id: &EngineId, is_preempted: bool, now: Duration) -> Vec<Action> {
        self.removed(id, !is_preempted, now)
    }

    /// Cancels what has not ended of a range.
    pub fn cancel(&mut self, name: &RangeName, reason: &Reason, now: Duration) -> Vec<Action> {
        let Some(range) = self.ranges.get_mut(name) else { return Vec::new() };
        for index in &range.request.items {
            let cancelled = || Item::without_result(*index, State::Cancelled, reason.clone());
            range.ended.entry(*index).or_insert_with(cancelled);
        }
        self.waiting -= range.waiting.len();
        self.suspects -= range.suspects.len();
        range.waiting.clear();
        range.suspects.clear();
        let mut actions = Vec::new();
        for (id, engine) in &mut self.engines {
            if let Some(items) = engine.items.get(name) {
                let cancelled = Items { range: name.to_string(), index: items.keys().copied().collect() };
                actions.push(Action::Send(id.clone(), Frame::Cancel(cancelled)));
            }
        }
        self.complete_if_done(name, now, &mut actions);
        self.assign(now, &mut actions);
        actions
    }

    /// The engine of a slot finishes what it has and ends, whatever there is to do.
    pub fn release(&mut self, slot: u32, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        for engine in self.engines.values_mut().filter(|engine| engine.slot == slot) {
            engine.is_released = true;
        }
        self.assign(now, &mut actions);
        actions
    }

    /// The outcome of a range is written: its engines may forget its results.
    pub fn settled(&mut self, name: &RangeName) -> Vec<Action> {
        let engines = self.complete.remove(name).into_iter().flatten();
        engines.map(|id| Action::Send(id, Frame::Settled(name.to_string()))).collect()
    }

    /// Decides what time decides: lost engines, items for engines without work, engines that are not needed. To be
    /// called every few hundred milliseconds. Engines of the slots below `min` are always needed.
    pub fn tick(&mut self, min: u32, idle: Duration, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let is_lost = |engine: &Engine| !engine.is_connected && now.saturating_sub(engine.lost_since) >= RECONNECT_MAX;
        let lost: Vec<EngineId> =
            self.engines.iter().filter(|(_, engine)| is_lost(engine)).map(|(id, _)| id.clone()).collect();
        for id in lost {
            // Nothing shows that an item ended it.
            actions.extend(self.removed(&id, false, now));
        }
        self.recall(now, &mut actions);
        let is_busy = self.waiting() > 0;
        for (id, engine) in &mut self.engines {
            let is_idle = !is_busy && engine.slot >= min && now.saturating_sub(engine.idle_since) >= idle;
            let is_free = engine.assigned == 0 && engine.is_connected && !engine.is_withdrawn;
            if is_free && (is_idle || engine.is_released) {
                engine.is_withdrawn = true;
                actions.push(Action::Send(id.clone(), Frame::Withdraw(true)));
            }
        }
        self.assign(now, &mut actions);
        actions
    }

    /// Requests items for engines with a free slot from the engine that has most.
    fn recall(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.waiting() > 0 {
            return;
        }
        let free = self.engines.values().filter(|engine| engine.free_slots() > 0);
        let room: usize = free.map(Engine::room).sum();
        let busiest = self.engines.iter_mut().max_by_key(|(_, engine)| engine.assigned.saturating_sub(engine.slots));
        let Some((id, engine)) = busiest.filter(|_| room > 0) else { return };
        let mut count = room.min(engine.assigned.saturating_sub(engine.slots).div_ceil(2));
        for (range, items) in &mut engine.items {
            let old = items.iter_mut().rev().filter(|(_, at)| now.saturating_sub(**at) >= RECALL_AFTER);
            let index: Vec<u32> = old
                .take(count)
                .map(|(index, at)| {
                    // Not requested once more at the next tick.
                    *at = now;
                    *index
                })
                .collect();
            count -= index.len();
            if !index.is_empty() {
                let recalled = Items { range: range.to_string(), index };
                actions.push(Action::Send(id.clone(), Frame::Recall(recalled)));
            }
        }
    }

    /// Forgets an engine; its items go to others, as suspects or not.
    fn removed(&mut self, id: &EngineId, is_suspicious: bool, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(engine) = self.engines.remove(id) else { return actions };
        if self.quarantine.as_ref() == Some(id) {
            self.quarantine = None;
        }
        for (name, items) in engine.items {
            for index in items.into_keys() {
                if !is_suspicious {
                    self.requeue(&name, index);
                    continue;
                }
                let Some(range) = self.ranges.get_mut(&name) else { continue };
                if range.ended.contains_key(&index) {
                    continue;
                }
                let deaths = range.deaths.entry(index).or_default();
                *deaths += u32::from(engine.has_begun_alone);
                if *deaths >= DEATHS_ALONE_MAX {
                    let message = format!(
                        "{DEATHS_ALONE_MAX} engines ended while they computed only this item; did it run out of memory or disk?"
                    );
                    let reason = Reason { code: POD_KILLED.to_owned(), message };
                    range.ended.insert(index, Item::without_result(index, State::Failed, reason));
                } else {
                    self.suspects += usize::from(range.suspects.insert(index));
                }
            }
            self.complete_if_done(&name, now, &mut actions);
        }
        self.assign(now, &mut actions);
        actions
    }

    /// Checks the counts that are kept beside what they count.
    #[cfg(test)]
    pub(crate) fn check_counts(&self) {
        let waiting: usize = self.ranges.values().map(|range| range.waiting.len()).sum();
        let suspects: usize = self.ranges.values().map(|range| range.suspects.len()).sum();
        assert_eq!((waiting, suspects), (self.waiting, self.suspects));
        for engine in self.engines.values() {
            assert_eq!(engine.assigned, engine.items.values().map(BTreeMap::len).sum::<usize>());
        }
    }

    /// Takes an item from an engine; whether it had it.
    fn take_from(&mut self, id: &EngineId, range: &RangeName, index: u32, now: Duration) -> bool {
        self.engines.get_mut(id).is_some_and(|engine| engine.remove(range, index, now))
    }

    /// Lets an item wait once more, unless it has ended.
    fn requeue(&mut self, name: &RangeName, index: u32) {
        let Some(range) = self.ranges.get_mut(name) else { return };
        if range.ended.contains_key(&index) {
            return;
        }
        if range.deaths.contains_key(&index) {
            self.suspects += usize::from(range.suspects.insert(index));
            return;
        }
        let is_enqueued = !range.waiting.is_empty();
        self.waiting += usize::from(range.waiting.insert(index));
        if !is_enqueued {
            self.enqueue(name, true);
        }
    }

    /// Gives a range its turn, before or after the other ranges of its session.
    fn enqueue(&mut self, name: &RangeName, is_first: bool) {
        let Some(range) = self.ranges.get(name) else { return };
        let turns = &mut self.turns[usize::from(!range.request.priority)];
        let session = &range.request.session;
        let position = turns.iter().position(|(other, _)| other == session).unwrap_or_else(|| {
            turns.push_back((session.clone(), VecDeque::new()));
            turns.len() - 1
        });
        let ranges = &mut turns[position].1;
        if is_first { ranges.push_front(name.clone()) } else { ranges.push_back(name.clone()) }
    }

    /// The range whose turn it is; its session is last after that.
    fn next_range(&mut self) -> Option<RangeName> {
        for turns in &mut self.turns {
            while let Some((session, mut ranges)) = turns.pop_front() {
                let is_waiting =
                    |name: &RangeName| self.ranges.get(name).is_some_and(|range| !range.waiting.is_empty());
                while ranges.front().is_some_and(|name| !is_waiting(name)) {
                    ranges.pop_front();
                }
                if let Some(name) = ranges.front().cloned() {
                    turns.push_back((session, ranges));
                    return Some(name);
                }
            }
        }
        None
    }

    /// Records that an engine holds items already, and sends them, so that it reports their end to this orchestrator.
    fn attach(
        &mut self,
        id: &EngineId,
        name: &RangeName,
        items: BTreeSet<u32>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(engine) = self.engines.get_mut(id) else { return };
        if let Some(engines) = self.complete.get_mut(name) {
            engines.insert(id.clone());
            return;
        }
        let Some(range) = self.ranges.get_mut(name) else {
            engine.reported.entry(name.clone()).or_default().extend(items);
            return;
        };
        range.engines.insert(id.clone());
        let has = |engine: &Engine, index: &u32| engine.items.get(name).is_some_and(|items| items.contains_key(index));
        let mut sent = Vec::new();
        for index in items {
            let was_waiting = range.waiting.remove(&index);
            let was_suspect = range.suspects.remove(&index);
            self.waiting -= usize::from(was_waiting);
            self.suspects -= usize::from(was_suspect);
            if was_waiting || was_suspect || has(engine, &index) {
                sent.push(index);
            }
        }
        if !sent.is_empty() {
            engine.assign(name, &sent, now);
            range.send(id, sent, false, now, actions);
        }
    }

    /// Sends waiting items to engines that have room: the same share to each, those with least room first. Few items go
    /// only to engines that can begin them at once, also those that were recalled from one that cannot.
    fn assign(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if now < self.quiet_until {
            return;
        }
        self.assign_suspect(now, actions);
        if self.waiting == 0 {
            return;
        }
        let quarantine = self.quarantine.as_ref();
        let usable = || self.engines.iter().filter(|(id, _)| quarantine != Some(*id));
        let are_few = self.waiting <= usable().map(|(_, engine)| engine.free_slots()).sum();
        let room = |engine: &Engine| if are_few { engine.free_slots() } else { engine.room() };
        let usable = usable().map(|(id, engine)| (room(engine), id.clone()));
        let mut usable: Vec<(usize, EngineId)> = usable.filter(|(room, _)| *room > 0).collect();
        usable.sort();
        let count = usable.len();
        for (number, (room, id)) in usable.into_iter().enumerate() {
            let mut share = room.min(self.waiting.div_ceil(count - number));
            while share > 0
                && let Some(name) = self.next_range()
            {
                let (Some(range), Some(engine)) = (self.ranges.get_mut(&name), self.engines.get_mut(&id)) else {
                    break;
                };
                let mut sent = Vec::new();
                while sent.len() < share.min(TASKS_MAX)
                    && let Some(index) = range.waiting.pop_first()
                {
                    sent.push(index);
                }
                self.waiting -= sent.len();
                share -= sent.len();
                engine.assign(&name, &sent, now);
                range.send(&id, sent, false, now, actions);
            }
        }
    }

    /// Sends a suspect to the engine for suspects, once it has nothing else.
    fn assign_suspect(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.suspects == 0 {
            self.quarantine = None;
            return;
        }
        let is_usable =
            |engine: &Engine| engine.is_connected && !engine.is_leaving && !engine.is_released && engine.window > 0;
        let current = self.quarantine.take().filter(|id| self.engines.get(id).is_some_and(is_usable));
        let least = || self.engines.iter().filter(|(_, engine)| is_usable(engine)).min_by_key(|(_, one)| one.assigned);
        let Some(id) = current.or_else(|| least().map(|(id, _)| id.clone())) else { return };
        self.quarantine = Some(id.clone());
        let Some(engine) = self.engines.get_mut(&id).filter(|engine| engine.assigned == 0) else { return };
        let Some((name, range)) = self.ranges.iter_mut().find(|(_, range)| !range.suspects.is_empty()) else { return };
        if let Some(index) = range.suspects.pop_first() {
            self.suspects -= 1;
            engine.assign(name, &[index], now);
            engine.is_alone = true;
            range.send(&id, vec![index], true, now, actions);
        }
    }

    fn complete_if_done(&mut self, name: &RangeName, now: Duration, actions: &mut Vec<Action>) {
        let is_done = |range: &Range| range.request.items.len() == range.ended.len();
        if self.ranges.get(name).is_some_and(is_done)
            && let Some(mut range) = self.ranges.remove(name)
        {
            // Engines may hold items that ended elsewhere first.
            for engine in self.engines.values_mut() {
                for index in engine.items.get(name).into_iter().flat_map(BTreeMap::keys).copied().collect::<Vec<_>>() {
                    engine.remove(name, index, now);
                }
            }
            range.result.items = range.ended.into_values().collect();
            range.result.engines = u32::try_from(range.engines.len()).unwrap_or(u32::MAX);
            self.complete.insert(name.clone(), range.engines);
            actions.push(Action::Complete(name.clone(), range.result));
        }
    }
}

impl Range {
    fn send(&mut self, id: &EngineId, index: Vec<u32>, alone: bool, now: Duration, actions: &mut Vec<Action>) {
        self.engines.insert(id.clone());
        self.result.started.get_or_insert(now);
        let (input, content_type) = self.request.input.clone().unzip();
        let tasks = Tasks {
            range: self.request.range.to_string(),
            work: self.request.work.clone(),
            index,
            input,
            content_type: content_type.unwrap_or_default(),
            alone,
        };
        actions.push(Action::Send(id.clone(), Frame::Tasks(tasks)));
    }
}

#[cfg(test)]
mod tests;

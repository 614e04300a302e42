//! The engine's side of the stream: which items it holds, for whom, and which one it begins next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    RangeName,
    proto::{self, Items, from_engine::Frame},
};

/// Work that an engine holds beyond what it computes, in seconds.
const AHEAD_SECS: f64 = 0.05;
/// Limit of the items that an engine holds.
const WINDOW_MAX: u32 = 2048;
/// Limit of the items that were computed and whose results are being stored.
const STORING_MAX: usize = 32;
/// Weight of the last item in the mean time of an item.
const NEW_WEIGHT: f64 = 0.05;
/// How long the results of a range are kept for which no orchestrator is connected.
pub const ORPHANS_KEPT: Duration = Duration::from_secs(600);
/// Limit of the bytes of results for which no orchestrator is connected.
const ORPHAN_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long an engine without any orchestrator stays.
pub const LONELY_MAX: Duration = Duration::from_secs(600);

/// A stream to an orchestrator.
pub type StreamId = u64;
/// An item of a range.
pub type Item = (RangeName, u32);

/// What the engine has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this frame.
    Send(StreamId, Frame),
    /// Compute this item, and report its end with [`Worker::ended`] in every case.
    Start(Item),
    /// Stop computing this item: nobody needs its result.
    Stop(Item),
    /// End the process.
    Exit,
}

/// A range of which the engine holds items.
#[derive(Debug)]
pub struct Held {
    /// The range in JSON.
    pub work: Bytes,
    /// The input, when the message itself held it.
    pub input: Option<Bytes>,
    /// Content type of that input.
    pub content_type: String,
    attached: BTreeSet<StreamId>,
    items: BTreeMap<u32, Progress>,
    orphaned: Option<Duration>,
}

impl Held {
    /// Whether an item of it was not begun yet.
    pub fn is_waiting(&self) -> bool {
        self.items.values().any(|progress| matches!(progress, Progress::Waiting { .. }))
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Progress {
    Waiting { alone: bool },
    Running,
    Ended(Bytes),
}

#[derive(Debug, Default)]
struct Stream {
    /// Its orchestrator does not need this engine.
    is_withdrawn: bool,
    /// The window that it was sent.
    window: u32,
}

/// The items that an engine holds, and its streams.
#[derive(Debug)]
pub struct Worker {
    slots: usize,
    streams: BTreeMap<StreamId, Stream>,
    ranges: HashMap<RangeName, Held>,
    /// Items that wait, in order; entries of items that are gone are skipped.
    queue: VecDeque<Item>,
    running: BTreeSet<Item>,
    /// Running items that were computed, and whose results are being stored.
    storing: BTreeSet<Item>,
    /// The item that runs while no other does.
    alone: Option<Item>,
    is_leaving: bool,
    /// Nothing is begun beside what runs.
    is_held: bool,
    item_secs: Option<f64>,
    lonely_since: Duration,
}

impl Worker {
    /// An engine that computes so many items at the same time.
    pub fn new(slots: usize, now: Duration) -> Self {
        Self {
            slots: slots.max(1),
            streams: BTreeMap::new(),
            ranges: HashMap::new(),
            queue: VecDeque::new(),
            running: BTreeSet::new(),
            storing: BTreeSet::new(),
            alone: None,
            is_leaving: false,
            is_held: false,
            item_secs: None,
            lonely_since: now,
        }
    }

    /// A range of which the engine holds items.
    pub fn range(&self, name: &RangeName) -> Option<&Held> {
        self.ranges.get(name)
    }

    /// The items that are begun next, for which inputs can be read ahead.
    pub fn next_items(&self) -> impl Iterator<Item = &Item> {
        self.queue.iter().filter(|item| self.is_waiting(item).is_some())
    }

    /// All items that the engine holds, for [`proto::Hello`].
    pub fn held(&self) -> Vec<Items> {
        let held = self.ranges.iter().map(|(name, held)| items(name, held.items.keys().copied()));
        held.collect()
    }

    /// A stream was opened, and `Hello` was sent.
    pub fn connected(&mut self, stream: StreamId) -> Vec<Action> {
        self.streams.insert(stream, Stream::default());
        let mut actions = Vec::new();
        self.send_windows(&mut actions);
        if self.is_leaving {
            actions.push(Action::Send(stream, Frame::Leaving(true)));
        }
        actions
    }

    /// A stream ended. Its items that were not begun are dropped; the others are offered to the other orchestrators.
    pub fn disconnected(&mut self, stream: StreamId, now: Duration) -> Vec<Action> {
        self.streams.remove(&stream);
        let mut actions = Vec::new();
        for (name, held) in &mut self.ranges {
            if !held.attached.remove(&stream) || !held.attached.is_empty() {
                continue;
            }
            held.orphaned = Some(now);
            held.items.retain(|_, progress| !matches!(progress, Progress::Waiting { .. }));
            if !held.items.is_empty() {
                let orphaned = items(name, held.items.keys().copied());
                let send = |to: &StreamId| Action::Send(*to, Frame::Orphaned(orphaned.clone()));
                actions.extend(self.streams.keys().map(send));
            }
        }
        self.ranges.retain(|_, held| !held.items.is_empty());
        if self.streams.is_empty() {
            self.lonely_since = now;
        }
        self.send_windows(&mut actions);
        self.start(&mut actions);
        self.leave_if_released(&mut actions);
        actions
    }

    /// An orchestrator sent items.
    pub fn tasks(&mut self, stream: StreamId, tasks: proto::Tasks) -> Vec<Action> {
        let name: RangeName = tasks.range.into();
        let mut actions = Vec::new();
        let held = self.ranges.entry(name.clone()).or_insert_with(|| Held {
            work: tasks.work,
            input: tasks.input,
            content_type: tasks.content_type,
            attached: BTreeSet::new(),
            items: BTreeMap::new(),
            orphaned: None,
        });
        held.attached.insert(stream);
        held.orphaned = None;
        let (mut ended, mut refused) = (proto::Ended { range: name.to_string(), ..Default::default() }, Vec::new());
        for index in tasks.index {
            match held.items.get(&index) {
                Some(Progress::Ended(record)) => {
                    ended.index.push(index);
                    ended.record.push(record.clone());
                }
                Some(_) => {}
                None if self.is_leaving || self.is_held => refused.push(index),
                None => {
                    held.items.insert(index, Progress::Waiting { alone: tasks.alone });
                    self.queue.push_back((name.clone(), index));
                }
            }
        }
        if held.items.is_empty() {
            self.ranges.remove(&name);
        }
        if !ended.record.is_empty() {
            actions.push(Action::Send(stream, Frame::Ended(ended)));
        }
        if !refused.is_empty() {
            actions.push(Action::Send(stream, Frame::Returned(items(&name, refused))));
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.is_withdrawn = false;
        }
        self.start(&mut actions);
        actions
    }

    /// Returns those of the items that were not begun.
    pub fn recall(&mut self, stream: StreamId, recalled: &Items) -> Vec<Action> {
        let returned = self.remove(stream, recalled, |progress| matches!(progress, Progress::Waiting { .. }));
        let returned = Frame::Returned(items(&recalled.range, returned));
        vec![Action::Send(stream, returned)]
    }

    /// Drops items whose result nobody needs.
    pub fn cancel(&mut self, stream: StreamId, cancelled: &Items) -> Vec<Action> {
        let removed = self.remove(stream, cancelled, |_| true);
        let name: RangeName = cancelled.range.as_str().into();
        let mut actions: Vec<Action> = removed.into_iter().filter_map(|index| self.stop(&name, index)).collect();
        self.end_if_done(&mut actions);
        self.leave_if_released(&mut actions);
        actions
    }

    /// The outcome of a range is written: nobody needs its items any more.
    pub fn settled(&mut self, range: &str) -> Vec<Action> {
        let Some((name, held)) = self.ranges.remove_entry(range) else { return Vec::new() };
        let mut actions: Vec<Action> = held.items.into_keys().filter_map(|index| self.stop(&name, index)).collect();
        self.end_if_done(&mut actions);
        self.leave_if_released(&mut actions);
        actions
    }

    /// An orchestrator needs this engine no more, or does again.
    pub fn withdraw(&mut self, stream: StreamId, is_withdrawn: bool) -> Vec<Action> {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.is_withdrawn = is_withdrawn;
        }
        let mut actions = Vec::new();
        self.send_windows(&mut actions);
        self.leave_if_released(&mut actions);
        actions
    }

    /// An item was computed, and needs its slot no more while its result is being stored.
    pub fn computed(&mut self, item: &Item) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.running.contains(item) && self.storing.len() < STORING_MAX {
            self.storing.insert(item.clone());
            self.start(&mut actions);
        }
        actions
    }

    /// The computation of an item ended after so many seconds of computing; `None` when it was stopped.
    pub fn ended(&mut self, item: &Item, record: Option<Bytes>, seconds: f64, cpu_seconds: f64) -> Vec<Action> {
        self.running.remove(item);
        self.storing.remove(item);
        if self.alone.as_ref() == Some(item) {
            self.alone = None;
        }
        self.item_secs = Some(self.item_secs.map_or(seconds, |mean| mean + NEW_WEIGHT * (seconds - mean)));
        let mut actions = Vec::new();
        let (name, index) = item;
        if let Some(held) = self.ranges.get_mut(name)
            && let Some(progress) = held.items.get_mut(index)
        {
            match record {
                Some(record) => {
                    *progress = Progress::Ended(record.clone());
                    let ended = proto::Ended {
                        range: name.to_string(),
                        record: vec![record],
                        cpu_seconds,
                        index: vec![*index],
                    };
                    let send = |to: &StreamId| Action::Send(*to, Frame::Ended(ended.clone()));
                    actions.extend(held.attached.iter().map(send));
                }
                // The process stops: another engine computes it.
                None => {
                    held.items.remove(index);
                    let send = |to: &StreamId| Action::Send(*to, Frame::Returned(items(name, [*index])));
                    actions.extend(held.attached.iter().map(send));
                }
            }
        }
        self.send_windows(&mut actions);
        self.start(&mut actions);
        self.end_if_done(&mut actions);
        self.leave_if_released(&mut actions);
        actions
    }

    /// The engine is asked to stop: what is not begun is returned, and what runs may end.
    pub fn leave(&mut self) -> Vec<Action> {
        self.is_leaving = true;
        let mut actions: Vec<Action> =
            self.streams.keys().map(|stream| Action::Send(*stream, Frame::Leaving(true))).collect();
        self.return_waiting(&mut actions);
        self.end_if_done(&mut actions);
        actions
    }

    /// Whether what runs must stay without company. What waits is returned, because another engine may be idle, and the
    /// engine accepts no items until then.
    pub fn hold(&mut self, is_held: bool) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_held != is_held {
            self.is_held = is_held;
            self.send_windows(&mut actions);
            if is_held {
                self.return_waiting(&mut actions);
            }
        }
        actions
    }

    /// Drops results that nobody asked for, and ends an engine without orchestrators. To be called every few seconds.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let is_expired = |held: &Held| held.orphaned.is_some_and(|since| now.saturating_sub(since) >= ORPHANS_KEPT);
        let mut orphans: Vec<(Duration, RangeName, usize)> = Vec::new();
        for (name, held) in &mut self.ranges {
            if is_expired(held) {
                held.items.retain(|_, progress| *progress == Progress::Running);
            }
            if let Some(since) = held.orphaned {
                let size = |progress: &Progress| if let Progress::Ended(record) = progress { record.len() } else { 0 };
                orphans.push((since, name.clone(), held.items.values().map(size).sum()));
            }
        }
        orphans.sort();
        let mut bytes: usize = orphans.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, name, size) in orphans {
            if bytes > ORPHAN_BYTES_MAX
                && let Some(held) = self.ranges.get_mut(&name)
            {
                held.items.retain(|_, progress| *progress == Progress::Running);
                bytes -= size;
            }
        }
        self.ranges.retain(|_, held| !held.items.is_empty());
        let is_lonely = self.streams.is_empty() && now.saturating_sub(self.lonely_since) >= LONELY_MAX;
        if is_lonely { vec![Action::Exit] } else { Vec::new() }
    }

    /// Returns all items that were not begun.
    fn return_waiting(&mut self, actions: &mut Vec<Action>) {
        for (name, held) in &mut self.ranges {
            let is_waiting = |progress: &Progress| matches!(progress, Progress::Waiting { .. });
            let waiting: Vec<u32> =
                held.items.iter().filter(|(_, progress)| is_waiting(progress)).map(|(index, _)| *index).collect();
            held.items.retain(|_, progress| !is_waiting(progress));
            if !waiting.is_empty() {
                let send = |to: &StreamId| Action::Send(*to, Frame::Returned(items(name, waiting.iter().copied())));
                actions.extend(held.attached.iter().map(send));
            }
        }
        self.ranges.retain(|_, held| !held.items.is_empty());
        self.queue.clear();
    }

    /// Removes items that nobody but this orchestrator needs and that fulfil a condition; returns them.
    fn remove(&mut self, stream: StreamId, chosen: &Items, is_chosen: impl Fn(&Progress) -> bool) -> Vec<u32> {
        let Some(held) = self.ranges.get_mut(chosen.range.as_str()) else { return Vec::new() };
        if held.attached.iter().ne([&stream]) {
            return Vec::new();
        }
        let mut removed = Vec::new();
        for index in &chosen.index {
            if held.items.get(index).is_some_and(&is_chosen) {
                held.items.remove(index);
                removed.push(*index);
            }
        }
        if held.items.is_empty() {
            self.ranges.remove(chosen.range.as_str());
        }
        removed
    }

    fn stop(&self, name: &RangeName, index: u32) -> Option<Action> {
        let item = (name.clone(), index);
        self.running.contains(&item).then_some(Action::Stop(item))
    }

    fn is_waiting(&self, (name, index): &Item) -> Option<bool> {
        match self.ranges.get(name)?.items.get(index)? {
            Progress::Waiting { alone } => Some(*alone),
            _ => None,
        }
    }

    /// Begins items while there is room. One that runs alone waits until the others have ended.
    fn start(&mut self, actions: &mut Vec<Action>) {
        while self.alone.is_none()
            && self.running.len() - self.storing.len() < self.slots
            && let Some(item) = self.queue.front()
        {
            let Some(alone) = self.is_waiting(item) else {
                self.queue.pop_front();
                continue;
            };
            // A stopped item of the same name may still be running.
            if (alone && !self.running.is_empty()) || self.running.contains(item) {
                return;
            }
            let Some(item) = self.queue.pop_front() else { return };
            if let Some(progress) = self.ranges.get_mut(&item.0).and_then(|held| held.items.get_mut(&item.1)) {
                *progress = Progress::Running;
            }
            self.running.insert(item.clone());
            if alone {
                let attached = self.ranges.get(&item.0).into_iter().flat_map(|held| &held.attached);
                let send = |to: &StreamId| Action::Send(*to, Frame::BegunAlone(items(&item.0, [item.1])));
                actions.extend(attached.map(send));
                self.alone = Some(item.clone());
            }
            actions.push(Action::Start(item));
        }
    }

    /// Ends the process when it is leaving and no orchestrator waits for something.
    fn end_if_done(&self, actions: &mut Vec<Action>) {
        let is_needed = self.ranges.values().any(|held| !held.attached.is_empty());
        if self.is_leaving && self.running.is_empty() && !is_needed {
            actions.push(Action::Exit);
        }
    }

    /// Leaves when every orchestrator has withdrawn and none waits for something. They may withdraw before the outcomes
    /// of the last items are written.
    fn leave_if_released(&mut self, actions: &mut Vec<Action>) {
        let is_released = !self.streams.is_empty() && self.streams.values().all(|stream| stream.is_withdrawn);
        let is_needed = self.ranges.values().any(|held| !held.attached.is_empty());
        if is_released && self.running.is_empty() && !is_needed && !self.is_leaving {
            actions.extend(self.leave());
        }
    }

    /// Sends each orchestrator its share of the items that the engine accepts, when it has changed much.
    fn send_windows(&mut self, actions: &mut Vec<Action>) {
        let needed = self.streams.values().filter(|stream| !stream.is_withdrawn).count().max(1);
        let share = if self.is_held { 0 } else { self.window().div_ceil(u32::try_from(needed).unwrap_or(1)) };
        for (id, stream) in &mut self.streams {
            if share.abs_diff(stream.window) > stream.window / 4 {
                stream.window = share;
                actions.push(Action::Send(*id, Frame::Window(share)));
            }
        }
    }

    /// The number of items that the engine holds at most: those that it computes, and some tens of milliseconds more.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped")]
    fn window(&self) -> u32 {
        let slots = u32::try_from(self.slots).unwrap_or(u32::MAX);
        let ahead = self.item_secs.map_or(1.0, |secs| (AHEAD_SECS / secs.max(1e-6)).max(1.0));
        ((f64::from(slots) * (1.0 + ahead)) as u32).clamp(slots, WINDOW_MAX.max(slots))
    }
}

fn items(range: &str, index: impl IntoIterator<Item = u32>) -> Items {
    Items { range: range.to_owned(), index: index.into_iter().collect() }
}

#[cfg(test)]
mod tests;

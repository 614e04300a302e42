//! One subscription's messages: what is ready, leased or waiting, and what the passing of time does to it.
//!
//! Pure: it is handed the time and answers what to deliver. Every operation touches only the messages it is about;
//! deadlines are kept in order, so that the next one is at hand.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use googleapis_tonic_google_pubsub_v1::google::pubsub::v1::PubsubMessage;
use jiff::{SignedDuration, Timestamp};

/// A published message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its id as a number; later messages have higher ones.
    pub id: u64,
    /// As it is delivered.
    pub content: PubsubMessage,
    /// Size for flow control, in bytes.
    pub size_bytes: i64,
    /// When it was published.
    pub published: Timestamp,
}

/// How redelivery is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub minimum: SignedDuration,
    /// At most.
    pub maximum: SignedDuration,
}

/// What limits a receiver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Most messages outstanding; 0 or less for no limit.
    pub messages: i64,
    /// Most bytes outstanding; 0 or less for no limit.
    pub bytes: i64,
}

/// A message on its way to a receiver.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to acknowledge it with.
    pub ack_id: String,
    /// The message.
    pub message: Arc<Message>,
    /// 1 the first time.
    pub attempt: i32,
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    state: State,
    /// Counts deliveries; part of the ack id.
    delivery: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    Leased { until: Timestamp, holder: Option<u64> },
    Waiting { until: Timestamp },
}

#[derive(Debug, Default)]
struct Holder {
    limits: Limits,
    messages: i64,
    bytes: i64,
}

/// The messages.
#[derive(Debug, Default)]
pub struct Queue {
    entries: BTreeMap<u64, Entry>,
    /// Ids to deliver next; ids whose entry is gone or no longer ready are skipped.
    ready: VecDeque<u64>,
    timers: BTreeSet<(Timestamp, u64)>,
    holders: HashMap<u64, Holder>,
}

impl Queue {
    /// Adds a message to deliver.
    pub fn push(&mut self, message: Arc<Message>) {
        let id = message.id;
        self.entries.insert(id, Entry { message, state: State::Ready, delivery: 0 });
        self.ready.push_back(id);
    }

    /// Number of messages not acknowledged.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Messages not acknowledged, oldest first.
    pub fn messages(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.entries.values().map(|entry| &entry.message)
    }

    /// Number of messages leased now.
    pub fn leased(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.state, State::Leased { .. })).count()
    }

    /// Lets a receiver in, with its limits.
    pub fn open(&mut self, holder: u64, limits: Limits) {
        self.holders.insert(holder, Holder { limits, ..Holder::default() });
    }

    /// Lets a receiver out. What it holds stays leased until its deadline, as on Google Cloud.
    pub fn close(&mut self, holder: u64) {
        self.holders.remove(&holder);
    }

    /// Leases up to `max` messages until `until`.
    pub fn take(&mut self, holder: Option<u64>, max: usize, until: Timestamp) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < max && self.has_room(holder) {
            let Some(id) = self.ready.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.state == State::Ready) else { continue };
            entry.state = State::Leased { until, holder };
            entry.delivery += 1;
            self.timers.insert((until, id));
            if let Some(holder) = holder.and_then(|holder| self.holders.get_mut(&holder)) {
                holder.messages += 1;
                holder.bytes += entry.message.size_bytes;
            }
            taken.push(Delivery {
                ack_id: format!("{id}:{}", entry.delivery),
                message: entry.message.clone(),
                attempt: i32::try_from(entry.delivery).unwrap_or(i32::MAX),
            });
        }
        taken
    }

    fn has_room(&self, holder: Option<u64>) -> bool {
        let Some(holder) = holder else { return true };
        self.holders.get(&holder).is_some_and(|holder| {
            (holder.limits.messages <= 0 || holder.messages < holder.limits.messages)
                && (holder.limits.bytes <= 0 || holder.bytes < holder.limits.bytes)
        })
    }

    /// Acknowledges. An id of an earlier delivery still counts, as with at-least-once delivery on Google Cloud, unless
    /// it is `strict`, as with exactly-once delivery. Answers the ids that do not count.
    pub fn ack(&mut self, ack_ids: &[String], strict: bool) -> Vec<String> {
        let mut stale = Vec::new();
        for ack_id in ack_ids {
            match read_ack_id(ack_id) {
                Some((id, delivery)) if !strict || self.leased_entry(id, delivery).is_some() => self.remove(id),
                _ if strict => stale.push(ack_id.clone()),
                _ => {}
            }
        }
        stale
    }

    fn leased_entry(&mut self, id: u64, delivery: u32) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&id)?;
        (entry.delivery == delivery && matches!(entry.state, State::Leased { .. })).then_some(entry)
    }

    /// Moves deadlines; a deadline of `now` gives the message back, after the back-off if there is one. Answers the ids
    /// that are not of the present delivery.
    pub fn modify(
        &mut self,
        ack_ids: &[String],
        until: Timestamp,
        now: Timestamp,
        backoff: Option<Backoff>,
    ) -> Vec<String> {
        let mut stale = Vec::new();
        for ack_id in ack_ids {
            let found = match read_ack_id(ack_id) {
                Some((id, delivery)) => self.leased_entry(id, delivery).map(|entry| (id, entry)),
                None => None,
            };
            let Some((id, Entry { state: State::Leased { until: deadline, .. }, .. })) = found else {
                stale.push(ack_id.clone());
                continue;
            };
            if until <= now {
                self.give_back(id, now, backoff);
                continue;
            }
            let before = std::mem::replace(deadline, until);
            self.timers.remove(&(before, id));
            self.timers.insert((until, id));
        }
        stale
    }

    /// Lets time pass: leases end, waits end, messages older than the retention go. True when something got ready.
    pub fn tick(&mut self, now: Timestamp, backoff: Option<Backoff>, retention: SignedDuration) -> bool {
        let before = self.ready.len();
        while let Some(&(due, id)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            match self.entries.get(&id).map(|entry| &entry.state) {
                Some(State::Leased { until, .. }) if *until <= now => self.give_back(id, now, backoff),
                Some(State::Waiting { until }) if *until <= now => self.make_ready(id),
                _ => {}
            }
        }
        while let Some((&id, entry)) = self.entries.first_key_value() {
            if now.duration_since(entry.message.published) < retention {
                break;
            }
            self.remove(id);
        }
        self.ready.len() > before
    }

    /// When [`Self::tick`] next has something to do.
    pub fn next_event(&self, retention: SignedDuration) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(due, _)| *due);
        let oldest = self.entries.first_key_value().map(|(_, entry)| entry.message.published);
        let retained = oldest.and_then(|published| published.checked_add(retention).ok());
        [timer, retained].into_iter().flatten().min()
    }

    /// Gives a leased message back.
    fn give_back(&mut self, id: u64, now: Timestamp, backoff: Option<Backoff>) {
        self.release(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let wait = backoff.map_or(SignedDuration::ZERO, |backoff| backoff.after(entry.delivery));
        match now.checked_add(wait) {
            Ok(until) if until > now => {
                entry.state = State::Waiting { until };
                self.timers.insert((until, id));
            }
            _ => self.make_ready(id),
        }
    }

    fn make_ready(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state = State::Ready;
            self.ready.push_back(id);
        }
    }

    fn remove(&mut self, id: u64) {
        self.release(id);
        self.entries.remove(&id);
    }

    /// Takes the message off its timer and off what its receiver has outstanding.
    fn release(&mut self, id: u64) {
        let Some(entry) = self.entries.get(&id) else { return };
        match &entry.state {
            State::Ready => {}
            State::Waiting { until } => {
                self.timers.remove(&(*until, id));
            }
            State::Leased { until, holder } => {
                self.timers.remove(&(*until, id));
                if let Some(holder) = holder.and_then(|holder| self.holders.get_mut(&holder)) {
                    holder.messages -= 1;
                    holder.bytes -= entry.message.size_bytes;
                }
            }
        }
    }
}

impl Backoff {
    /// How long to wait after the delivery with this number failed.
    fn after(&self, delivery: u32) -> SignedDuration {
        let doublings = delivery.saturating_sub(1).min(20);
        self.minimum.checked_mul(1 << doublings).unwrap_or(self.maximum).clamp(self.minimum, self.maximum)
    }
}

fn read_ack_id(ack_id: &str) -> Option<(u64, u32)> {
    let (id, delivery) = ack_id.split_once(':')?;
    Some((id.parse().ok()?, delivery.parse().ok()?))
}

#[cfg(test)]
mod tests;

//! Recording events about objects, as controllers and nodes do.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    kinds::{self, Kind},
    names,
    store::{Key, Store},
    value::{self, text},
};

/// How long events are kept.
const KEEP: SignedDuration = SignedDuration::from_hours(1);
/// Most events kept in all.
const MAX_EVENTS: usize = 20_000;
/// Most events whose repetitions are counted on the same object.
const REPEATS: usize = 4_096;

/// What was recorded lately.
#[derive(Default)]
pub struct Recorder {
    inner: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    order: VecDeque<(Timestamp, Key)>,
    repeats: HashMap<(String, &'static str, String), Key>,
}

/// Whether an event is a matter of course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

/// What happened to an object.
pub(super) struct Occurrence<'a> {
    pub(super) kind: &'a Kind,
    pub(super) about: &'a Value,
    pub(super) weight: Weight,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) component: &'a str,
}

impl Recorder {
    /// Records an event about an object; the same one again raises its count.
    pub(super) fn record(&self, store: &Store, now: Timestamp, event: Occurrence<'_>) {
        let Occurrence { kind, about, reason, .. } = event;
        let namespace = if kind.namespaced { value::namespace(about) } else { "default" };
        let mut recorded = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let repeat = (value::uid(about).to_owned(), reason, event.message.clone());
        let seen = recorded.repeats.get(&repeat).cloned();
        let message = repeat.2.as_str();
        let key = store.write(|transaction| {
            if let Some(key) = seen {
                let counted = transaction.edit(&key, |event| {
                    let count = value::number(event, "/count").unwrap_or(1) + 1;
                    value::set(event, &["count"], count);
                    value::set(event, &["lastTimestamp"], value::seconds(now));
                    true
                });
                if counted.is_some() {
                    return None;
                }
            }
            let place = transaction.get(&kinds::NAMESPACE, "", namespace)?;
            if value::is_deleting(&place) {
                return None;
            }
            let event = object(&event, namespace, message, now);
            let key = Key::of(&kinds::EVENT, &event);
            transaction.put(&kinds::EVENT, event);
            Some(key)
        });
        let Some(key) = key else { return };
        if recorded.repeats.len() >= REPEATS {
            recorded.repeats.clear();
        }
        recorded.repeats.insert(repeat, key.clone());
        recorded.order.push_back((now, key));
        let mut gone = Vec::new();
        while let Some((at, _)) = recorded.order.front() {
            if recorded.order.len() <= MAX_EVENTS && now.duration_since(*at) < KEEP {
                break;
            }
            gone.extend(recorded.order.pop_front());
        }
        drop(recorded);
        if !gone.is_empty() {
            store.write(|transaction| {
                for (_, key) in &gone {
                    transaction.remove(key);
                }
            });
        }
    }
}

/// How long ago, as a message says it.
pub fn brief(duration: Duration) -> String {
    if duration.as_secs() > 0 { format!("{}s", duration.as_secs()) } else { format!("{}ms", duration.as_millis()) }
}

/// The event as an object.
fn object(event: &Occurrence<'_>, namespace: &str, message: &str, now: Timestamp) -> Value {
    let Occurrence { kind, about, weight, reason, component, .. } = event;
    let at = value::seconds(now);
    let name = format!("{}.{:016x}", value::name(about), rand::random::<u64>());
    let mut involved = json!({
        "kind": kind.kind, "apiVersion": kind.api_version(), "name": value::name(about), "uid": value::uid(about),
        "resourceVersion": text(about, "/metadata/resourceVersion"),
    });
    if kind.namespaced {
        involved["namespace"] = namespace.into();
    }
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": namespace, "uid": names::uid(), "creationTimestamp": at},
        "involvedObject": involved, "reason": reason, "message": message,
        "type": if *weight == Weight::Normal { "Normal" } else { "Warning" },
        "source": {"component": component}, "firstTimestamp": at, "lastTimestamp": at, "count": 1,
        "eventTime": null, "reportingComponent": component, "reportingInstance": "",
    })
}

//! `events.k8s.io/v1`: the same events as in the core group, under the names of the newer API.

use serde_json::Value;

use super::value;

const FIELDS: [(&str, &str); 6] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// A core event as `events.k8s.io/v1` shows it.
pub fn show(event: &Value) -> Value {
    let mut shown = event.clone();
    for (core, new) in FIELDS {
        rename(&mut shown, core, new);
    }
    rename(&mut shown, "reportingComponent", "reportingController");
    value::set(&mut shown, &["apiVersion"], "events.k8s.io/v1");
    shown
}

/// An `events.k8s.io/v1` event as the core group keeps it.
pub fn keep(mut event: Value) -> Value {
    for (core, new) in FIELDS {
        rename(&mut event, new, core);
    }
    rename(&mut event, "reportingController", "reportingComponent");
    value::set(&mut event, &["apiVersion"], "v1");
    value::set_default(&mut event, &["involvedObject"], serde_json::json!({}));
    event
}

fn rename(event: &mut Value, from: &str, to: &str) {
    if let Some(field) = value::unset(event, &[from]) {
        value::set(event, &[to], field);
    }
}

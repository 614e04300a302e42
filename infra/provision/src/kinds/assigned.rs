//! Resources whose names the API assigns: read by a list, found there by what we wrote into them. A creation whose
//! answer was lost may leave a duplicate, which is kept in the field `others` until an update deletes it.

use serde_json::Value;

use crate::change::item_differences;

/// The one of ours that is as desired, or else the first, with the names of the others. `key` is the field of the name.
pub(super) fn shown(desired: &Value, mut ours: Vec<&Value>, key: &str) -> Option<Value> {
    if ours.is_empty() {
        return None;
    }
    let first = ours.iter().position(|item| differs_only_in_others(desired, item)).unwrap_or(0);
    let mut shown = ours.remove(first).clone();
    shown["others"] = ours.iter().map(|other| other[key].clone()).collect();
    Some(shown)
}

/// Whether a resource is as desired, though duplicates may be beside it.
pub(super) fn differs_only_in_others(desired: &Value, live: &Value) -> bool {
    item_differences(desired, live).iter().all(|difference| difference.field == "others")
}

/// Fields without the one of ours.
pub(super) fn body(fields: &Value) -> Value {
    let mut body = fields.clone();
    if let Some(body) = body.as_object_mut() {
        body.remove("others");
    }
    body
}

/// The names of the duplicates.
pub(super) fn others(live: &Value) -> impl Iterator<Item = &str> {
    live["others"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

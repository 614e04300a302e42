//! Reading and writing the JSON of Kubernetes objects by pointer, without panics on odd shapes.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The text at `pointer`, or "" when there is none.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at `pointer`.
pub fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

/// Whether the value at `pointer` is `true`.
pub fn truth(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of the list at `pointer`, none when there is no list.
pub fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries of the map at `pointer` whose values are texts.
pub fn entries<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    value
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// The map at the path `keys`, made (in place of whatever is there) when it is no map.
pub fn map_at<'a>(value: &'a mut Value, keys: &[&str]) -> &'a mut Map<String, Value> {
    let mut here = object(value);
    for key in keys {
        here = object(here.entry((*key).to_owned()).or_insert(Value::Null));
    }
    here
}

/// The list at the path `keys`, made (in place of whatever is there) when it is no list.
pub fn list_at<'a>(value: &'a mut Value, keys: &[&str]) -> &'a mut Vec<Value> {
    let (last, folders) = keys.split_last().unwrap_or((&"", &[]));
    let slot = map_at(value, folders).entry((*last).to_owned()).or_insert(Value::Null);
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    match slot {
        Value::Array(list) => list,
        _ => unreachable!("made a list above"),
    }
}

/// Sets the value at the path `keys`, making maps on the way.
pub fn set(value: &mut Value, keys: &[&str], new: impl Into<Value>) {
    if let Some((last, folders)) = keys.split_last() {
        map_at(value, folders).insert((*last).to_owned(), new.into());
    }
}

/// Sets the value at the path `keys` when it is absent or null.
pub fn set_default(value: &mut Value, keys: &[&str], new: impl Into<Value>) {
    if let Some((last, folders)) = keys.split_last() {
        let slot = map_at(value, folders).entry((*last).to_owned()).or_insert(Value::Null);
        if slot.is_null() {
            *slot = new.into();
        }
    }
}

/// Removes what is at the path `keys`, if anything.
pub fn unset(value: &mut Value, keys: &[&str]) -> Option<Value> {
    let (last, folders) = keys.split_last()?;
    let mut here = value;
    for key in folders {
        here = here.get_mut(*key)?;
    }
    here.as_object_mut()?.remove(*last)
}

/// `metadata.name`.
pub fn name(value: &Value) -> &str {
    text(value, "/metadata/name")
}

/// `metadata.namespace`, "" for objects without one.
pub fn namespace(value: &Value) -> &str {
    text(value, "/metadata/namespace")
}

/// `metadata.uid`.
pub fn uid(value: &Value) -> &str {
    text(value, "/metadata/uid")
}

/// One label of the object, "" when absent.
pub fn label<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get("metadata").and_then(|m| m.get("labels")?.get(key)?.as_str()).unwrap_or_default()
}

/// One annotation of the object, "" when absent.
pub fn annotation<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get("metadata").and_then(|m| m.get("annotations")?.get(key)?.as_str()).unwrap_or_default()
}

/// Whether deletion of the object has begun.
pub fn is_deleting(value: &Value) -> bool {
    value.pointer("/metadata/deletionTimestamp").is_some()
}

/// Whether the object carries a finalizer.
pub fn has_finalizer(value: &Value, finalizer: &str) -> bool {
    items(value, "/metadata/finalizers").iter().any(|f| f == finalizer)
}

/// Takes a finalizer off; an empty list goes too. Says whether it was there.
pub fn remove_finalizer(value: &mut Value, finalizer: &str) -> bool {
    if !has_finalizer(value, finalizer) {
        return false;
    }
    let list = list_at(value, &["metadata", "finalizers"]);
    list.retain(|f| f != finalizer);
    if list.is_empty() {
        unset(value, &["metadata", "finalizers"]);
    }
    true
}

/// The owner reference with `controller: true`.
pub fn controller_of(value: &Value) -> Option<&Value> {
    items(value, "/metadata/ownerReferences").iter().find(|owner| truth(owner, "/controller"))
}

/// The condition of a type, if the object has it.
pub fn condition<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    items(value, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind)
}

/// Whether the condition of a type is `True`.
pub fn has_condition(value: &Value, kind: &str) -> bool {
    condition(value, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

/// A time as `metav1.Time` is written: whole seconds.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time as `metav1.MicroTime` is written.
pub fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The time at `pointer`.
pub fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    text(value, pointer).parse().ok()
}

/// Makes `value` a map when it is none, and gives it.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made a map above"),
    }
}

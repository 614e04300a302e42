//! Sets of fields: which parts of an object a manager owns, and `FieldsV1`, the way they are written down.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::lists::{self, ListKind};

/// A path as `FieldsV1` spells it: `f:NAME`, `k:{KEYS}`, `v:VALUE`, and `.` for an item as such.
pub type Path = Vec<String>;
/// The leaves of a set of fields.
pub type Fields = BTreeSet<Path>;

/// The fields that an object sets, without those that name it.
pub fn of(object: &Value) -> Fields {
    let mut fields = Fields::new();
    let mut path = Vec::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                path.push("f:metadata".to_owned());
                for (key, value) in value.as_object().into_iter().flatten() {
                    if matches!(key.as_str(), "labels" | "annotations" | "finalizers" | "ownerReferences") {
                        field("metadata", key, value, &mut path, &mut fields);
                    }
                }
                path.pop();
            }
            _ => field("", key, value, &mut path, &mut fields),
        }
    }
    fields
}

fn field(parent: &str, key: &str, value: &Value, path: &mut Path, fields: &mut Fields) {
    path.push(format!("f:{key}"));
    match value {
        Value::Object(map) if !map.is_empty() && !lists::is_atomic_map(key) => {
            for (inner, value) in map {
                field(key, inner, value, path, fields);
            }
        }
        Value::Array(items) => match lists::apply(parent, key) {
            ListKind::Map(keys) => {
                for item in items {
                    path.push(item_key(keys, item));
                    path.push(".".to_owned());
                    fields.insert(path.clone());
                    path.pop();
                    for (inner, value) in item.as_object().into_iter().flatten() {
                        field(key, inner, value, path, fields);
                    }
                    path.pop();
                }
            }
            ListKind::Set => {
                for item in items {
                    path.push(format!("v:{item}"));
                    fields.insert(path.clone());
                    path.pop();
                }
            }
            ListKind::Atomic => {
                fields.insert(path.clone());
            }
        },
        Value::Null => {}
        _ => {
            fields.insert(path.clone());
        }
    }
    path.pop();
}

fn item_key(keys: &[&str], item: &Value) -> String {
    let key: Map<String, Value> =
        keys.iter().filter_map(|key| Some(((*key).to_owned(), lists::key_value(item, key)?))).collect();
    format!("k:{}", Value::Object(key))
}

/// The value at a path, if the object has it.
pub fn get<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    let mut here = object;
    for step in path {
        here = match step.split_at_checked(2) {
            Some(("f:", name)) => here.get(name)?,
            Some(("k:", key)) => {
                let key: Value = serde_json::from_str(key).ok()?;
                here.as_array()?.iter().find(|item| has_key(item, &key))?
            }
            Some(("v:", desired)) => {
                let desired: Value = serde_json::from_str(desired).ok()?;
                here.as_array()?.iter().find(|item| **item == desired)?
            }
            _ => return Some(here),
        };
    }
    Some(here)
}

/// Removes what is at a path. Maps and lists that become empty by it go too.
pub fn remove(object: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else { return };
    match step.split_at_checked(2) {
        Some(("f:", name)) => {
            let Some(map) = object.as_object_mut() else { return };
            if rest.is_empty() {
                map.remove(name);
            } else if let Some(inner) = map.get_mut(name) {
                remove(inner, rest);
                if is_empty(inner) {
                    map.remove(name);
                }
            }
        }
        Some(("k:", key)) => {
            let (Some(list), Ok(key)) = (object.as_array_mut(), serde_json::from_str::<Value>(key)) else { return };
            let Some(at) = list.iter().position(|item| has_key(item, &key)) else { return };
            if rest.is_empty() || rest == ["."] {
                list.remove(at);
            } else if let Some(item) = list.get_mut(at) {
                remove(item, rest);
            }
        }
        Some(("v:", desired)) => {
            if let (Some(list), Ok(desired)) = (object.as_array_mut(), serde_json::from_str::<Value>(desired)) {
                list.retain(|item| *item != desired);
            }
        }
        _ => {}
    }
}

/// Lays `desired` over `object` as server-side apply does.
pub fn merge(object: &mut Value, desired: &Value, parent: &str, key: &str) {
    match (object, desired) {
        (Value::Object(object), Value::Object(desired)) if !lists::is_atomic_map(key) => {
            for (inner, value) in desired {
                match object.get_mut(inner) {
                    Some(slot) => merge(slot, value, key, inner),
                    None => drop(object.insert(inner.clone(), value.clone())),
                }
            }
        }
        (Value::Array(object), Value::Array(desired)) => match lists::apply(parent, key) {
            ListKind::Map(keys) => {
                for item in desired {
                    match object.iter_mut().find(|old| lists::same_key(keys, old, item)) {
                        Some(old) => merge(old, item, key, key),
                        None => object.push(item.clone()),
                    }
                }
            }
            ListKind::Set => {
                for item in desired {
                    if !object.contains(item) {
                        object.push(item.clone());
                    }
                }
            }
            ListKind::Atomic => *object = desired.clone(),
        },
        (object, desired) => *object = desired.clone(),
    }
}

/// Reads `FieldsV1`.
pub fn read(tree: &Value) -> Fields {
    fn walk(tree: &Value, path: &mut Path, fields: &mut Fields) {
        let Some(map) = tree.as_object().filter(|map| !map.is_empty()) else {
            if !path.is_empty() {
                fields.insert(path.clone());
            }
            return;
        };
        for (step, inner) in map {
            path.push(step.clone());
            walk(inner, path, fields);
            path.pop();
        }
    }
    let mut fields = Fields::new();
    walk(tree, &mut Vec::new(), &mut fields);
    fields
}

/// Writes `FieldsV1`.
pub fn write(fields: &Fields) -> Value {
    let mut tree = Value::Object(Map::new());
    for path in fields {
        let mut here = &mut tree;
        for step in path {
            if !here.is_object() {
                *here = Value::Object(Map::new());
            }
            let Value::Object(map) = here else { break };
            here = map.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
        }
    }
    tree
}

/// A path as messages show it: `.spec.containers[name="a"].image`.
pub fn show(path: &[String]) -> String {
    path.iter()
        .map(|step| match step.split_at_checked(2) {
            Some(("f:", name)) => format!(".{name}"),
            Some(("k:", key)) => {
                let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let pairs: Vec<_> = key.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("[{}]", pairs.join(","))
            }
            Some(("v:", value)) => format!("[={value}]"),
            _ => String::new(),
        })
        .collect()
}

fn has_key(item: &Value, key: &Value) -> bool {
    key.as_object().into_iter().flatten().all(|(name, desired)| lists::key_value(item, name).as_ref() == Some(desired))
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

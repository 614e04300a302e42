//! Whether an apply would change an object, and the difference as text: pure.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use similar::TextDiff;

use super::FIELD_MANAGER;

/// Lines shown around a difference.
const AROUND: usize = 3;

/// Whether what an apply would leave (`after`, from a dry run) is what is there (`live`). What the API server counts
/// up and what controllers write at any moment does not count; which fields are ours does.
pub(super) fn same(live: &Value, after: &Value) -> bool {
    essence(live) == essence(after)
}

fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    let managers = owned_by_us(&object).cloned().unwrap_or_default();
    strip(&mut object);
    object["ours"] = managers;
    object
}

/// The fields of an object that we applied, as `metadata.managedFields` has them.
pub(super) fn owned_by_us(object: &Value) -> Option<&Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let ours = entries.iter().find(|entry| {
        entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply" && entry["subresource"].is_null()
    });
    ours.map(|entry| &entry["fieldsV1"])
}

/// Takes away what the cluster wrote and nobody asked for.
fn strip(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "resourceVersion", "generation", "selfLink", "uid", "creationTimestamp"] {
            metadata.remove(field);
        }
    }
}

/// The difference between an object as it is and as it would be, as lines of YAML that begin with ` `, `-` or `+`.
pub(super) fn difference(live: Option<&Value>, after: Option<&Value>) -> String {
    let text = |object: Option<&Value>| object.map(for_people).unwrap_or_default();
    let (before, after) = (text(live), text(after));
    if live.is_none() {
        return after.lines().map(|line| format!("+{line}\n")).collect();
    }
    let diff = TextDiff::from_lines(&before, &after);
    let mut unified = diff.unified_diff();
    unified.context_radius(AROUND).to_string()
}

/// An object as YAML, without what the cluster wrote; values of a Secret are replaced by marks that differ when the
/// values do.
fn for_people(object: &Value) -> String {
    let mut object = object.clone();
    strip(&mut object);
    if object["kind"] == "Secret" {
        for field in ["data", "stringData"] {
            for value in object.get_mut(field).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
                let hash = Sha256::digest(value.as_str().unwrap_or_default());
                *value = json!(format!("(secret {:02x}{:02x}{:02x}{:02x})", hash[0], hash[1], hash[2], hash[3]));
            }
        }
    }
    let mut text = String::new();
    write(&mut text, &object, 0, false);
    text
}

/// Writes YAML. `inline` says that the first line is begun already, after `- `.
fn write(text: &mut String, value: &Value, depth: usize, mut inline: bool) {
    let mut indent = |text: &mut String| {
        if !std::mem::take(&mut inline) {
            text.push_str(&"  ".repeat(depth));
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                indent(text);
                field(text, key, value, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(text);
                text.push_str("- ");
                write(text, item, depth + 1, true);
            }
        }
        scalar => {
            indent(text);
            let _ = writeln!(text, "{}", plain(scalar));
        }
    }
}

fn field(text: &mut String, key: &str, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let _ = writeln!(text, "{key}:");
            write(text, value, depth + 1, false);
        }
        Value::Array(items) if !items.is_empty() => {
            let _ = writeln!(text, "{key}:");
            write(text, value, depth, false);
        }
        Value::String(lines) if lines.contains('\n') => {
            let _ = writeln!(text, "{key}: |");
            for line in lines.lines() {
                let _ = writeln!(text, "{}{line}", "  ".repeat(depth + 1));
            }
        }
        scalar => {
            let _ = writeln!(text, "{key}: {}", plain(scalar));
        }
    }
}

/// A scalar as YAML: quoted only where it would be read as something else.
fn plain(value: &Value) -> String {
    let Some(text) = value.as_str() else { return value.to_string() };
    let word = |c: char| c.is_ascii_alphanumeric() || "-_./@".contains(c);
    let other = ["true", "false", "null", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str());
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(word) && !other;
    if safe { text.to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "x", "uid": "1", "resourceVersion": "7", "managedFields": [
                {"manager": "deskgrid", "operation": "Apply", "time": "1", "fieldsV1": {"f:data": {"f:a": {}}}},
                {"manager": "other", "operation": "Update", "time": "2", "fieldsV1": {"f:b": {}}},
            ]},
            "data": {"a": "1\n2\n", "b": "true"}, "status": {"seen": 1},
        })
    }

    #[test]
    fn times_versions_and_status_are_no_difference() {
        let mut after = live();
        after["metadata"]["resourceVersion"] = json!("8");
        after["metadata"]["managedFields"][0]["time"] = json!("9");
        after["status"] = json!({"seen": 2});
        assert!(same(&live(), &after));
        after["metadata"]["managedFields"][0]["fieldsV1"] = json!({});
        assert!(!same(&live(), &after), "which fields are ours is part of it");
        let mut after = live();
        after["data"]["a"] = json!("1\n3\n");
        assert!(!same(&live(), &after));
    }

    #[test]
    fn a_difference_is_shown_line_by_line() {
        let mut after = live();
        after["data"]["a"] = json!("1\n3\n");
        let shown = difference(Some(&live()), Some(&after));
        assert!(shown.contains("\n-    2\n+    3\n") && shown.contains("   b: \"true\""), "{shown}");
        let new = difference(None, Some(&json!({"kind": "Pod", "spec": {"containers": [{"name": "c", "args": []}]}})));
        assert!(new.contains("+kind: Pod\n+spec:\n+  containers:\n+  - args: []\n+    name: c\n"), "{new}");
    }

    #[test]
    fn what_a_secret_holds_is_not_shown() {
        let secret = |data: &str| json!({"kind": "Secret", "data": {"key": data}});
        let shown = difference(Some(&secret("aaaa")), Some(&secret("bbbb")));
        assert!(shown.contains("(secret ") && !shown.contains("aaaa") && !shown.contains("bbbb"), "{shown}");
        assert_eq!(difference(Some(&secret("aaaa")), Some(&secret("aaaa"))), "");
    }
}

//! `metadata.managedFields`: who owns which fields of an object.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    fields::{self, Fields},
    kinds::Kind,
    value::{self, items, text},
};

/// One entry of `metadata.managedFields`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: String,
    pub(super) subresource: String,
    pub(super) version: String,
    pub(super) time: String,
    pub(super) fields: Fields,
}

/// Remembers on a new object who created it. The fields are worked out when they are first needed.
pub(super) fn created_by(kind: &Kind, object: &mut Value, manager: &str, now: Timestamp) {
    if !manager.is_empty() {
        let entry = json!([{
            "manager": manager, "operation": "Update", "apiVersion": kind.api_version(),
            "time": value::seconds(now), "fieldsType": "FieldsV1",
        }]);
        value::set(object, &["metadata", "managedFields"], entry);
    }
}

/// Keeps ownership over an update, for objects that somebody applies.
pub(super) fn track(kind: &Kind, old: &Value, new: &mut Value, manager: &str, subresource: &str, now: Timestamp) {
    let applied = items(old, "/metadata/managedFields").iter().any(|entry| text(entry, "/operation") == "Apply");
    if !applied || old == new {
        return;
    }
    let (before, after) = (fields::of(old), fields::of(new));
    let changed: Fields =
        after.iter().filter(|path| fields::get(old, path) != fields::get(new, path)).cloned().collect();
    let mut entries = entries(kind, old);
    let mine =
        |entry: &Entry| entry.manager == manager && entry.operation == "Update" && entry.subresource == subresource;
    for entry in &mut entries {
        let own = mine(entry);
        entry.fields.retain(|path| {
            let gone = before.contains(path) && !after.contains(path);
            let item = path.last().is_some_and(|last| last == ".");
            !gone && (own || item || !changed.contains(path))
        });
    }
    if !changed.is_empty() {
        match entries.iter_mut().find(|entry| mine(entry)) {
            Some(entry) => entry.fields.extend(changed),
            None => entries.push(Entry {
                manager: manager.to_owned(),
                operation: "Update".to_owned(),
                subresource: subresource.to_owned(),
                version: kind.api_version(),
                time: value::seconds(now),
                fields: changed,
            }),
        }
    }
    write(new, &entries);
}

/// The entries of an object.
pub(super) fn entries(kind: &Kind, object: &Value) -> Vec<Entry> {
    items(object, "/metadata/managedFields")
        .iter()
        .map(|entry| Entry {
            manager: text(entry, "/manager").to_owned(),
            operation: text(entry, "/operation").to_owned(),
            subresource: text(entry, "/subresource").to_owned(),
            version: match text(entry, "/apiVersion") {
                "" => kind.api_version(),
                version => version.to_owned(),
            },
            time: text(entry, "/time").to_owned(),
            fields: match entry.get("fieldsV1") {
                Some(tree) => fields::read(tree),
                None => {
                    let all = fields::of(object);
                    all.into_iter().filter(|path| path.first().is_some_and(|first| first != "f:status")).collect()
                }
            },
        })
        .collect()
}

/// Writes the entries of an object.
pub(super) fn write(object: &mut Value, entries: &[Entry]) {
    let list: Vec<_> = entries
        .iter()
        .filter(|entry| !entry.fields.is_empty() || entry.operation == "Apply")
        .map(|entry| {
            let mut written = json!({
                "manager": entry.manager, "operation": entry.operation, "apiVersion": entry.version,
                "time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": fields::write(&entry.fields),
            });
            if !entry.subresource.is_empty() {
                written["subresource"] = entry.subresource.clone().into();
            }
            written
        })
        .collect();
    value::set(object, &["metadata", "managedFields"], list);
}

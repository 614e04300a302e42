//! Server-side apply: merging what a manager wants, with ownership of fields, conflicts and removal.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    failure::{Answer, Failure},
    fields::{self, Fields},
    kinds::Kind,
    managed::{Entry, entries, write},
    objects::{self, How, Written},
    request::Target,
    store::Transaction,
    typed,
    value::{self, items, text},
};

impl Cluster {
    /// Applies what a manager wants of an object, and creates the object when there is none.
    ///
    /// # Errors
    /// 409 when other managers own fields that would change and `force` is not set; else as create and update.
    pub(super) fn apply(&self, target: &Target, desired: &Value, how: &How) -> Answer<Written> {
        let kind = target.kind;
        if how.manager.is_empty() {
            return Err(Failure::bad_request(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ));
        }
        let mut desired = desired.clone();
        if text(&desired, "/apiVersion").is_empty() || text(&desired, "/kind").is_empty() {
            return Err(Failure::bad_request("apiVersion and kind must be set in an apply patch"));
        }
        objects::check_kind(kind, &desired)?;
        objects::place(target, &mut desired)?;
        if items(&desired, "/metadata/managedFields").iter().next().is_some() {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        value::set(&mut desired, &["metadata", "name"], target.name.clone());
        let (mut desired, warnings) = read(kind, desired, how)?;
        if target.subresource == "status" {
            value::unset(&mut desired, &["spec"]);
        } else if kind.has("status") {
            value::unset(&mut desired, &["status"]);
        }
        let result = self.store.write(|transaction| match transaction.get(kind, &target.namespace, &target.name) {
            Some(old) => self.apply_over(transaction, target, &old, &desired, how).map(|object| (object, false)),
            None if target.subresource.is_empty() => {
                self.apply_new(transaction, kind, desired.clone(), how).map(|object| (object, true))
            }
            None => Err(Failure::not_found(kind, &target.name)),
        });
        result.map(|(object, created)| Written { object, warnings, created })
    }

    fn apply_new(
        &self,
        transaction: &mut Transaction<'_>,
        kind: &'static Kind,
        desired: Value,
        how: &How,
    ) -> Answer<std::sync::Arc<Value>> {
        let owned = fields::of(&desired);
        let ignore = How { validation: typed::Validation::Ignore, ..how.clone() };
        let (mut object, _) = self.fresh(kind, desired, &ignore)?;
        let entry = Entry {
            manager: how.manager.clone(),
            operation: "Apply".to_owned(),
            subresource: String::new(),
            version: kind.api_version(),
            time: value::seconds(self.clock.now()),
            fields: owned,
        };
        write(&mut object, &[entry]);
        objects::insert(transaction, kind, object, how)
    }

    fn apply_over(
        &self,
        transaction: &mut Transaction<'_>,
        target: &Target,
        old: &Value,
        desired: &Value,
        how: &How,
    ) -> Answer<std::sync::Arc<Value>> {
        let kind = target.kind;
        let owned = fields::of(desired);
        let mut entries = entries(kind, old);
        let mine = |entry: &Entry| {
            entry.manager == how.manager && entry.operation == "Apply" && entry.subresource == target.subresource
        };
        let before = entries.iter().find(|entry| mine(entry)).cloned();
        let disputed = |path: &fields::Path| fields::get(old, path) != fields::get(desired, path);
        let mut conflicts: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for entry in entries.iter_mut().filter(|entry| !mine(entry)) {
            let lost: Vec<_> = entry
                .fields
                .intersection(&owned)
                .filter(|path| path.last().is_none_or(|last| last != ".") && disputed(path))
                .cloned()
                .collect();
            for path in lost {
                if how.force {
                    entry.fields.remove(&path);
                } else {
                    let key = (entry.manager.clone(), entry.version.clone());
                    conflicts.entry(key).or_default().push(fields::show(&path));
                }
            }
        }
        if !conflicts.is_empty() {
            return Err(conflict(kind, value::name(old), &conflicts));
        }
        let mut new = old.clone();
        fields::merge(&mut new, desired, "", "");
        if let Some(before) = &before {
            drop_fields(&mut new, before, &owned, entries.iter().filter(|entry| !mine(entry)));
        }
        let version = text(desired, "/metadata/resourceVersion").to_owned();
        value::set(&mut new, &["metadata", "resourceVersion"], version);
        let (mut new, _) = objects::succeed(kind, old, new, &target.subresource, how)?;
        let time = match &before {
            Some(before) if before.fields == owned => before.time.clone(),
            _ => value::seconds(self.clock.now()),
        };
        let entry = Entry {
            manager: how.manager.clone(),
            operation: "Apply".to_owned(),
            subresource: target.subresource.clone(),
            version: kind.api_version(),
            time,
            fields: owned,
        };
        match entries.iter().position(mine) {
            Some(at) => entries[at] = entry,
            None => entries.push(entry),
        }
        write(&mut new, &entries);
        Ok(objects::commit(transaction, kind, old, new, how))
    }
}

/// The desired object with nothing its type does not know, and nothing that it does not say.
fn read(kind: &'static Kind, desired: Value, how: &How) -> Answer<(Value, Vec<String>)> {
    let (typed, warnings) = typed::read(kind, desired.clone(), how.validation)?;
    Ok((only_given(&desired, typed), warnings))
}

/// `typed` without the empty parts that reading it as a type added.
fn only_given(given: &Value, typed: Value) -> Value {
    match (given, typed) {
        (Value::Object(given), Value::Object(typed)) => Value::Object(
            typed
                .into_iter()
                .filter_map(|(key, value)| Some((key.clone(), only_given(given.get(&key)?, value))))
                .collect(),
        ),
        (Value::Array(given), Value::Array(typed)) => {
            Value::Array(given.iter().zip(typed).map(|(given, typed)| only_given(given, typed)).collect())
        }
        (_, typed) => typed,
    }
}

/// Takes out what the manager applied before and does not any more, unless somebody else owns it.
fn drop_fields<'a>(new: &mut Value, before: &Entry, owned: &Fields, others: impl Iterator<Item = &'a Entry>) {
    let others: Vec<_> = others.collect();
    // Deepest first, so that an item whose parts all go is gone before its own mark is checked.
    let mut gone: Vec<_> = before.fields.difference(owned).collect();
    gone.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in gone {
        let (item, is_item) = match path.split_last() {
            Some((last, item)) if last == "." => (item, true),
            _ => (path.as_slice(), false),
        };
        let within = |other: &fields::Path| other.starts_with(item);
        let claimed = others.iter().any(|entry| entry.fields.iter().any(within)) || is_item && owned.iter().any(within);
        if !claimed {
            // The keys of an item go with the item.
            let key_of_item = item.len() >= 2
                && item[item.len() - 2].starts_with("k:")
                && before.fields.contains(&[&item[..item.len() - 1], &[".".to_owned()]].concat());
            if is_item || !key_of_item || !is_key(&item[item.len() - 2], &item[item.len() - 1]) {
                fields::remove(new, item);
            }
        }
    }
}

fn is_key(item: &str, field: &str) -> bool {
    let key: Value = item.get(2..).and_then(|key| serde_json::from_str(key).ok()).unwrap_or_default();
    field.get(2..).is_some_and(|field| key.get(field).is_some())
}

fn conflict(kind: &Kind, name: &str, conflicts: &BTreeMap<(String, String), Vec<String>>) -> Failure {
    let count: usize = conflicts.values().map(Vec::len).sum();
    let parts: Vec<_> = conflicts
        .iter()
        .map(|((manager, version), paths)| match paths.as_slice() {
            [path] => format!("conflict with {manager:?} using {version}: {path}"),
            _ => format!("conflicts with {manager:?} using {version}:\n- {}", paths.join("\n- ")),
        })
        .collect();
    let plural = if count == 1 { "conflict" } else { "conflicts" };
    let message = format!("Apply failed with {count} {plural}: {}", parts.join("\n"));
    let causes: Vec<_> = conflicts
        .iter()
        .flat_map(|((manager, version), paths)| {
            paths.iter().map(move |path| {
                let message = format!("conflict with {manager:?} using {version}");
                json!({"reason": "FieldManagerConflict", "message": message, "field": path})
            })
        })
        .collect();
    let mut failure = Failure::about(409, "Conflict", kind, name, message);
    failure.details = Some(json!({"causes": causes}));
    failure
}

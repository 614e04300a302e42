//! JSON patch, merge patch and strategic merge patch.

use serde_json::{Map, Value};

use super::{
    failure::{Answer, Failure},
    lists::{self, ListKind},
};

/// A patch as it came, read.
#[derive(Clone, Debug)]
pub enum Patch {
    /// `application/json-patch+json`.
    Json(json_patch::Patch),
    /// `application/merge-patch+json`.
    Merge(Value),
    /// `application/strategic-merge-patch+json`.
    Strategic(Value),
    /// `application/apply-patch+yaml`.
    Apply(Value),
}

/// Carries out a patch other than an apply.
///
/// # Errors
/// 422 for a JSON patch whose test fails or whose path does not exist; 400 for directives that make no sense.
pub fn patch(object: &mut Value, patch: &Patch) -> Answer<()> {
    match patch {
        Patch::Json(patch) => json_patch::patch(object, patch).map_err(|error| {
            Failure::new(
                422,
                "Invalid",
                format!("the server rejected our request due to an error in our request: {error}"),
            )
        }),
        Patch::Merge(patch) => {
            json_patch::merge(object, patch);
            Ok(())
        }
        Patch::Strategic(patch) => strategic(object, patch, ""),
        Patch::Apply(_) => Err(Failure::bad_request("an apply is no patch of this kind")),
    }
}

fn strategic(object: &mut Value, patch: &Value, here: &str) -> Answer<()> {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return Ok(());
    };
    match fields.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            let mut fields = fields.clone();
            fields.remove("$patch");
            *object = Value::Object(fields);
            return Ok(());
        }
        Some("delete") => {
            *object = Value::Object(Map::new());
            return Ok(());
        }
        _ => {}
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Value::Object(target) = object else { return Ok(()) };
    if let Some(keep) = fields.get("$retainKeys").and_then(Value::as_array) {
        target.retain(|key, _| keep.iter().any(|kept| kept == key));
    }
    for (field, value) in fields {
        if let Some(field) = field.strip_prefix("$deleteFromPrimitiveList/") {
            let gone = value.as_array().map_or(&[][..], Vec::as_slice);
            if let Some(list) = target.get_mut(field).and_then(Value::as_array_mut) {
                list.retain(|item| !gone.contains(item));
            }
        } else if field.starts_with('$') {
            // `$setElementOrder` is applied after the merge.
        } else if value.is_null() {
            target.remove(field);
        } else if let Value::Array(items) = value {
            let slot = target.entry(field.clone()).or_insert_with(|| Value::Array(Vec::new()));
            strategic_list(slot, items, here, field)?;
        } else if value.is_object() {
            let slot = target.entry(field.clone()).or_insert(Value::Null);
            strategic(slot, value, field)?;
        } else {
            target.insert(field.clone(), value.clone());
        }
    }
    for (field, order) in fields.iter().filter_map(|(key, order)| Some((key.strip_prefix("$setElementOrder/")?, order)))
    {
        if let (Some(list), Some(order)) = (target.get_mut(field).and_then(Value::as_array_mut), order.as_array()) {
            sort(list, order, lists::strategic(here, field));
        }
    }
    Ok(())
}

fn strategic_list(slot: &mut Value, items: &[Value], parent: &str, field: &str) -> Answer<()> {
    let kind = lists::strategic(parent, field);
    let replace = items.iter().any(|item| item.get("$patch").is_some_and(|directive| directive == "replace"));
    let plain = |item: &&Value| item.get("$patch").is_none_or(|directive| directive != "replace");
    let Value::Array(list) = slot else {
        *slot = Value::Array(items.iter().filter(plain).cloned().collect());
        return Ok(());
    };
    match kind {
        _ if replace => *list = items.iter().filter(plain).cloned().collect(),
        ListKind::Atomic => *list = items.to_vec(),
        ListKind::Set => {
            for item in items {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        }
        ListKind::Map(keys) => {
            for item in items {
                if keys.iter().any(|key| lists::key_value(item, key).is_none()) {
                    let message = format!("map: {item} does not contain declared merge key: {}", keys.join(", "));
                    return Err(Failure::bad_request(message));
                }
                let at = list.iter().position(|old| lists::same_key(keys, old, item));
                let delete = item.get("$patch").is_some_and(|directive| directive == "delete");
                match at {
                    Some(at) if delete => {
                        list.remove(at);
                    }
                    None if delete => {}
                    Some(at) => strategic(&mut list[at], item, field)?,
                    None => {
                        let mut fresh = Value::Object(Map::new());
                        strategic(&mut fresh, item, field)?;
                        list.push(fresh);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Puts the items that `order` names in that order; others keep their places after the one they followed.
fn sort(list: &mut [Value], order: &[Value], kind: ListKind) {
    let place = |item: &Value| match kind {
        ListKind::Map(keys) => order.iter().position(|desired| lists::same_key(keys, desired, item)),
        _ => order.iter().position(|desired| desired == item),
    };
    list.sort_by_key(|item| place(item).unwrap_or(usize::MAX));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(mut object: Value, with: Value, expected: Value) {
        patch(&mut object, &Patch::Strategic(with)).unwrap();
        assert_eq!(object, expected);
    }

    #[test]
    fn lists_merge_by_key() {
        check(
            json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}}),
            json!({"spec": {
                "containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}, {"name": "b", "$patch": "delete"}],
                "$setElementOrder/containers": [{"name": "a"}],
            }}),
            json!({"spec": {"containers": [
                {"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
            ]}}),
        );
    }

    #[test]
    fn directives() {
        check(json!({"a": {"b": 1}}), json!({"a": {"$patch": "replace", "c": 2}}), json!({"a": {"c": 2}}));
        check(json!({"a": 1, "b": 2}), json!({"a": null}), json!({"b": 2}));
        check(
            json!({"metadata": {"finalizers": ["x", "y"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "finalizers": ["z"]}}),
            json!({"metadata": {"finalizers": ["y", "z"]}}),
        );
        check(
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        );
    }
}

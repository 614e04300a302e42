//! Dashboards: one may have an id of the caller's choice, and each update needs the etag (pulumi-google-native #760).

use serde_json::{Value, json};

use super::Fields;
use crate::google::error::{Error, Result};

pub(super) fn created(fields: Fields) -> (String, Fields) {
    let given = fields.get("name").and_then(|name| name.as_str()?.rsplit('/').next()).map(str::to_owned);
    (given.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>())), kept(fields))
}

pub(super) fn replaced(before: &Fields, desired: Fields) -> Result<Fields> {
    match desired.get("etag") {
        None => Err(Error::invalid("Update Dashboard should specify a non empty etag.")),
        etag if etag != before.get("etag") => Err(Error::aborted("The dashboard has another etag by now.")),
        Some(_) => Ok(kept(desired)),
    }
}

/// A dashboard as answers show it: with the number of the project.
pub(super) fn shown(project_number: u64, id: &str, fields: &Fields) -> Value {
    let mut shown = Value::Object(fields.clone());
    shown["name"] = json!(format!("projects/{project_number}/dashboards/{id}"));
    shown
}

fn kept(mut fields: Fields) -> Fields {
    fields.remove("name");
    fields.values_mut().for_each(fill_in_axes);
    fields.insert("etag".to_owned(), json!(format!("{:016x}", rand::random::<u64>())));
    fields
}

/// Charts get an axis, as in a recording of k8s-config-connector (`dashboard_with_interval_and_labels`).
fn fill_in_axes(value: &mut Value) {
    if let Some(sets) = value.pointer_mut("/xyChart/dataSets").and_then(Value::as_array_mut) {
        for set in sets.iter_mut().filter_map(Value::as_object_mut) {
            set.entry("targetAxis").or_insert(json!("Y1"));
        }
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(fill_in_axes),
        Value::Object(fields) => fields.values_mut().for_each(fill_in_axes),
        _ => {}
    }
}

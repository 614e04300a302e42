//! Alert policies: the service assigns their ids and those of their conditions
//! (cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies).

use serde_json::{Value, json};

use super::Fields;
use crate::google::{
    call::camel,
    error::{Error, Result},
};

/// Most conditions of a policy.
const CONDITIONS_MAX: usize = 6;

pub(super) fn created(mut fields: Fields, project: &str, record: &Value) -> Result<(String, Fields)> {
    if fields.contains_key("name") {
        return Err(Error::invalid("Field alert_policy.name must be empty: the service assigns it."));
    }
    fields.entry("enabled").or_insert(json!(true));
    for key in ["creationRecord", "mutationRecord"] {
        fields.insert(key.to_owned(), record.clone());
    }
    Ok((rand::random::<u64>().to_string(), checked(fields, project)?))
}

/// Changes the fields that a mask names; without one, all but the record of the creation.
pub(super) fn changed(
    kept: &Fields,
    mut desired: Fields,
    mask: Option<&str>,
    project: &str,
    record: Value,
) -> Result<Fields> {
    let mut fields = kept.clone();
    let names: Vec<String> = match mask {
        Some(mask) => mask.split(',').map(camel).collect(),
        None => kept.keys().chain(desired.keys()).filter(|key| *key != "creationRecord").cloned().collect(),
    };
    for name in names {
        match desired.remove(&name) {
            Some(value) => fields.insert(name, value),
            None => fields.remove(&name),
        };
    }
    fields.remove("name");
    fields.insert("mutationRecord".to_owned(), record);
    checked(fields, project)
}

/// A policy as it is shown: it and its conditions have names.
pub(super) fn shown(project: &str, id: &str, fields: &Fields) -> Value {
    let name = format!("projects/{project}/alertPolicies/{id}");
    let mut shown = Value::Object(fields.clone());
    for (index, condition) in shown["conditions"].as_array_mut().into_iter().flatten().enumerate() {
        condition["name"] = json!(format!("{name}/conditions/{id}{index}"));
    }
    shown["name"] = json!(name);
    shown
}

/// A policy as it is kept, if Google takes it.
fn checked(mut fields: Fields, project: &str) -> Result<Fields> {
    let invalid = |field: &str, why: &str| Err(Error::invalid(format!("Field alert_policy.{field} {why}")));
    if !fields
        .get("combiner")
        .is_some_and(|word| ["AND", "OR", "AND_WITH_MATCHING_RESOURCE"].iter().any(|one| word == one))
    {
        return invalid("combiner", "must say how the conditions are combined.");
    }
    let channels = format!("projects/{project}/notificationChannels/");
    let mut named = fields.get("notificationChannels").and_then(Value::as_array).into_iter().flatten();
    if named.any(|name| !name.as_str().is_some_and(|name| name.starts_with(&channels))) {
        return invalid("notification_channels", "names a channel that is not of the project.");
    }
    let conditions = fields.get_mut("conditions").and_then(Value::as_array_mut);
    let Some(conditions) = conditions.filter(|conditions| (1..=CONDITIONS_MAX).contains(&conditions.len())) else {
        return invalid("conditions", "must have from 1 to 6 conditions.");
    };
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        condition.remove("name");
        check_metric(&json!(condition))?;
    }
    Ok(fields)
}

/// Refuses a condition on a metric that does not exist (terraform-provider-google #10325, superserve-ai/sandbox #369).
fn check_metric(condition: &Value) -> Result<()> {
    let (threshold, query) = (&condition["conditionThreshold"], &condition["conditionPrometheusQueryLanguage"]);
    let is_googles = match (threshold["filter"].as_str(), query["query"].as_str()) {
        (Some(filter), None) => filter.contains(".googleapis.com/") && !filter.contains("\"prometheus.googleapis.com/"),
        (None, Some(text)) => text.contains("_googleapis_com:") || query["disableMetricValidation"] == true,
        _ => return Err(Error::invalid("A condition is either a threshold or a PromQL query here.")),
    };
    match is_googles {
        true => Ok(()),
        false => Err(Error::not_found("Cannot find metric(s) that match the type of the condition.")),
    }
}

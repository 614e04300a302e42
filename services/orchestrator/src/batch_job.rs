//! From a batch to its Kubernetes Job, and back. Pure.

use anyhow::{Context as _, bail};
use contract::{batch::Batch, labels, message, names};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::job::{Template, object};

/// Inputs for which one more pod is worth its start.
const INPUTS_PER_POD: usize = 100;
/// Longest that a pod may run, in seconds: 30 days.
const DEADLINE_MAX: u64 = 30 * 86_400;

/// How many pods compute so many inputs, when there are so many slots in all. At most half of the slots, so that one
/// batch starts while another ends.
pub(crate) fn pods(inputs: usize, slots: usize) -> u32 {
    let wanted = inputs.div_ceil(INPUTS_PER_POD).clamp(1, (slots / 2).max(1));
    u32::try_from(wanted).unwrap_or(u32::MAX)
}

impl Template {
    /// The Kubernetes Job of a batch.
    ///
    /// An index is tried again by itself, and what no pod could bring to an end does not stop the other indexes. The
    /// time limit of an input is the engine's to keep; a pod may take as long as its inputs may one after another.
    ///
    /// # Errors
    /// When the template's parts do not have the shape of a Job.
    pub(crate) fn batch(&self, batch: &Batch) -> anyhow::Result<Value> {
        let mut job = self.parts().clone();
        let text = serde_json::to_string(batch).context("encode the batch")?;
        object(&mut job, &["metadata"])?.insert("name".into(), batch.job_name().into());
        let annotations = [(labels::ANNOTATION_BATCH, text.as_str()), (labels::ANNOTATION_SCHEMA, message::SCHEMA)];
        object(&mut job, &["metadata", "annotations"])?
            .extend(annotations.map(|(key, value)| (key.to_owned(), value.into())));
        for path in [&["metadata", "labels"][..], &["spec", "template", "metadata", "labels"]] {
            object(&mut job, path)?.insert(labels::SESSION.into(), names::label_value(&batch.session).into());
        }
        let spec = object(&mut job, &["spec"])?;
        spec.insert("completionMode".into(), "Indexed".into());
        spec.insert("completions".into(), batch.indexes.into());
        spec.insert("parallelism".into(), batch.indexes.into());
        // Of each index, not of all together.
        let retries = spec.remove("backoffLimit").unwrap_or_else(|| 6.into());
        spec.insert("backoffLimitPerIndex".into(), retries);
        let rules = spec.get_mut("podFailurePolicy").and_then(|policy| policy["rules"].as_array_mut());
        for rule in rules.into_iter().flatten() {
            if rule["action"] == "FailJob" {
                rule["action"] = "FailIndex".into();
            }
        }
        let pod = object(&mut job, &["spec", "template", "spec"])?;
        if let Some(seconds) = pod.get("activeDeadlineSeconds").and_then(Value::as_u64) {
            let turns = u64::from(batch.inputs.div_ceil(batch.indexes.max(1)));
            pod.insert(
                "activeDeadlineSeconds".into(),
                seconds.saturating_mul(turns).min(DEADLINE_MAX.max(seconds)).into(),
            );
        }
        let from = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        let variables = [
            json!({"name": labels::ENV_BATCH, "value": text}),
            json!({"name": labels::ENV_POD, "valueFrom": from("metadata.name")}),
            json!({
                "name": labels::ENV_FAILURES,
                "valueFrom": from(&format!("metadata.annotations['{}']", labels::ANNOTATION_INDEX_FAILURES)),
            }),
        ];
        self.add_variables(&mut job, &variables)?;
        Ok(Value::Object(job))
    }
}

/// The batch a Job was made for; `None` for a Job of one input. The pod template cannot be changed after creation and
/// the annotation can, so the one that fits the Job's name is believed.
///
/// # Errors
/// When the Job is called like a batch's and nothing on it fits that.
pub(crate) fn batch_of(job: &Job) -> anyhow::Result<Option<Batch>> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    if !contract::batch::is_job_name(name) {
        return Ok(None);
    }
    let annotation = job.metadata.annotations.as_ref().and_then(|all| all.get(labels::ANNOTATION_BATCH));
    let containers = job.spec.iter().filter_map(|spec| spec.template.spec.as_ref()).flat_map(|pod| &pod.containers);
    let variables = containers.flat_map(|container| container.env.iter().flatten());
    let variable = variables.filter(|variable| variable.name == labels::ENV_BATCH).find_map(|v| v.value.as_ref());
    let found = annotation
        .into_iter()
        .chain(variable)
        .filter_map(|text| serde_json::from_str::<Batch>(text).ok())
        .find(|batch| batch.job_name() == name);
    match found {
        Some(batch) if batch.schema > contract::batch::SCHEMA => {
            bail!("the Job {name} has schema {}, this program knows {}", batch.schema, contract::batch::SCHEMA)
        }
        Some(batch) => Ok(Some(batch)),
        None => bail!("the Job {name} does not say which batch it is for, or its name does not fit it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_slots_are_a_batchs() {
        assert_eq!([1, 100, 101, 1000].map(|inputs| pods(inputs, 8)), [1, 1, 2, 4]);
        assert_eq!([1, 2, 4, 1000].map(|slots| pods(1000, slots)), [1, 1, 2, 10]);
    }
}

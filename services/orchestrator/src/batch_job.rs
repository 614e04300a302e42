//! Builds the Kubernetes Job of a batch, and reads the batch back from it. Pure.

use anyhow::{Context as _, bail};
use contract::{batch::Batch, labels, message, names};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::job::{Template, object, read_variable, variable};

/// Inputs for which one more pod is worth its start.
const INPUTS_PER_POD: usize = 100;
/// Limit of the time that a pod may run, in seconds: 30 days.
const DEADLINE_MAX: u64 = 30 * 86_400;

/// How many pods compute this many inputs with this many slots. Half of the slots is the limit, so that one batch
/// starts while another ends.
pub(crate) fn pod_count(inputs: usize, slots: usize) -> u32 {
    let count = inputs.div_ceil(INPUTS_PER_POD).clamp(1, (slots / 2).max(1));
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Template {
    /// The Kubernetes Job of a batch.
    ///
    /// Each index has its own retries, and an index that fails does not stop the others. The engine enforces the
    /// timeout of an input; a pod may run as long as all its inputs may one after another.
    ///
    /// # Errors
    /// When the template's parts do not have the shape of a Job.
    pub(crate) fn batch(&self, batch: &Batch) -> anyhow::Result<Value> {
        let mut job = self.common().clone();
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
        // The retries of each index, not of the whole Job.
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
            variable(labels::ENV_BATCH, &text),
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
/// the annotation can, so the one that fits the Job's name counts.
///
/// # Errors
/// When the Job has the name of a batch and neither fits it.
pub(crate) fn read_batch(job: &Job) -> anyhow::Result<Option<Batch>> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    if !contract::batch::is_job_name(name) {
        return Ok(None);
    }
    let annotation = job.metadata.annotations.as_ref().and_then(|all| all.get(labels::ANNOTATION_BATCH));
    let found = [annotation.cloned(), read_variable(job, labels::ENV_BATCH)]
        .into_iter()
        .flatten()
        .filter_map(|text| serde_json::from_str::<Batch>(&text).ok())
        .find(|batch| batch.job_name() == name);
    match found {
        Some(batch) if batch.schema > contract::batch::SCHEMA => {
            bail!("the Job {name} has schema {}, this program knows {}", batch.schema, contract::batch::SCHEMA)
        }
        Some(batch) => Ok(Some(batch)),
        None => bail!("the Job {name} has no batch that fits its name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_slots_are_a_batchs() {
        assert_eq!([1, 100, 101, 1000].map(|inputs| pod_count(inputs, 8)), [1, 1, 2, 4]);
        assert_eq!([1, 2, 4, 1000].map(|slots| pod_count(1000, slots)), [1, 1, 2, 10]);
    }
}

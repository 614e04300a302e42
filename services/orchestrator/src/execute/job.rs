//! Builds the Kubernetes Job of a piece of work, and reads the work back from it. Pure.

use anyhow::{Context as _, bail};
use contract::{
    Identity,
    config::Business,
    expansion, labels,
    message::{self, Resources, Work},
    names,
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Map, Value, json};

/// Name of the Job of a dry run; a Job of that name is never created.
pub(crate) const DRY_RUN: &str = "job-dry-run";

/// Least number of pods that the Job of a range may start after the first one.
const PODS_OF_RANGE: u64 = 12;

/// The part that every Job of the business has in common.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    job: Map<String, Value>,
}

/// The message a Job comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) message_id: String,
    pub(crate) published: Option<Timestamp>,
    pub(crate) received: Timestamp,
}

impl Template {
    /// Reads the template that `deploy` wrote, and adds the part that every Job has in common.
    /// Unknown fields are kept: the API server's dry run checks them.
    ///
    /// # Errors
    /// When it is not a Job with at least one container.
    pub(crate) fn parse(text: &str, business: &Business, namespace: &str) -> anyhow::Result<Self> {
        let job: Value = serde_json::from_str(text).context("parse the Job template as JSON")?;
        let Value::Object(mut job) = job else {
            bail!("the Job template is not a JSON object");
        };
        for (key, expected) in [("apiVersion", "batch/v1"), ("kind", "Job")] {
            let actual = job.entry(key).or_insert_with(|| expected.into());
            if actual != expected {
                bail!("the Job template's {key} is {actual}, expected {expected:?}");
            }
        }
        let containers = job.get("spec").and_then(|spec| spec.pointer("/template/spec/containers"));
        if containers.and_then(Value::as_array).is_none_or(Vec::is_empty) {
            bail!("the Job template has no containers (spec.template.spec.containers)");
        }
        let mut template = Self { job };
        let common = [
            (labels::APP, labels::APP_ENGINE),
            (labels::BUSINESS, business.name.as_str()),
            (labels::MANAGED_BY, labels::MANAGED_BY_DESKGRID),
        ];
        let metadata = object(&mut template.job, &["metadata"])?;
        metadata.insert("namespace".into(), namespace.into());
        metadata.insert("finalizers".into(), json!([labels::FINALIZER]));
        for path in [&["metadata", "labels"][..], &["spec", "template", "metadata", "labels"]] {
            let present = object(&mut template.job, path)?;
            present.extend(common.map(|(key, value)| (key.to_owned(), value.into())));
        }
        if let Some(queue) = &business.queue {
            object(&mut template.job, &["metadata", "labels"])?
                .insert(labels::KUEUE_QUEUE.into(), queue.as_str().into());
            object(&mut template.job, &["spec"])?.insert("suspend".into(), true.into());
        }
        Ok(template)
    }

    /// The Kubernetes Job for `work`.
    ///
    /// # Errors
    /// When the template's parts do not have the shape of a Job.
    pub(crate) fn job(&self, work: &Work, origin: &Origin) -> anyhow::Result<Value> {
        let mut job = self.job.clone();
        let text = serde_json::to_string(work).context("encode the work")?;
        let schema = if work.pack.is_some() { message::SCHEMA_PACK } else { message::SCHEMA };
        let mut annotations = vec![
            (labels::ANNOTATION_WORK, text.clone()),
            (labels::ANNOTATION_RECEIVED, origin.received.to_string()),
            (labels::ANNOTATION_MESSAGE_ID, origin.message_id.clone()),
            (labels::ANNOTATION_SCHEMA, schema.to_owned()),
        ];
        if let Some(published) = &origin.published {
            annotations.push((labels::ANNOTATION_PUBLISHED, published.to_string()));
        }
        object(&mut job, &["metadata"])?.insert("name".into(), work.identity.job_name().into());
        object(&mut job, &["metadata", "annotations"])?
            .extend(annotations.into_iter().map(|(key, value)| (key.to_owned(), value.into())));
        let own_labels =
            [(labels::SESSION, names::label_value(&work.session)), (labels::JOB, names::label_value(&work.job))];
        for path in [&["metadata", "labels"][..], &["spec", "template", "metadata", "labels"]] {
            object(&mut job, path)?
                .extend(own_labels.iter().map(|(key, value)| ((*key).to_owned(), value.as_str().into())));
        }
        let mut variables = vec![variable(labels::ENV_WORK, &text)];
        set_resources(&mut job, &work.resources)?;
        if work.pack.is_some() {
            let pod_name = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}});
            variables.push(json!({"name": labels::ENV_POD, "valueFrom": pod_name}));
            set_limits_of_range(&mut job, u32::try_from(work.items().len()).unwrap_or(u32::MAX))?;
        }
        self.add_variables(&mut job, &variables)?;
        Ok(Value::Object(job))
    }

    /// Sets environment variables in every container of a Job.
    fn add_variables(&self, job: &mut Map<String, Value>, variables: &[Value]) -> anyhow::Result<()> {
        let pod = object(job, &["spec", "template", "spec"])?;
        for kind in ["initContainers", "containers"] {
            let containers = pod.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten();
            for container in containers {
                let container = container.as_object_mut().context("read a container of the Job template")?;
                let environment = container.entry("env").or_insert_with(|| json!([]));
                let environment = environment.as_array_mut().context("read a container's env in the Job template")?;
                environment.retain(|old| variables.iter().all(|variable| variable["name"] != old["name"]));
                environment.extend_from_slice(variables);
            }
        }
        Ok(())
    }

    /// The Job of a dry run, which shows whether the API server accepts the template: no option is set.
    ///
    /// # Errors
    /// As [`Template::job`].
    pub(crate) fn bare(&self, business: &Business, now: Timestamp) -> anyhow::Result<Value> {
        let object = contract::object::input(&business.name, "dry-run", "dry-run");
        let identity = Identity { bucket: business.bucket.clone(), object, generation: 1, first: None, attempt: 0 };
        let work = Work::new(identity, &business.name, "dry-run", "dry-run");
        let origin = Origin { message_id: "dry-run".into(), published: None, received: now };
        let mut job = self.job(&work, &origin)?;
        job["metadata"]["name"] = DRY_RUN.into();
        Ok(job)
    }
}

/// An environment variable with a fixed value.
pub(crate) fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": expansion::escape(value)})
}

/// The value of a variable that [`variable`] made.
pub(crate) fn read_variable(job: &Job, name: &str) -> Option<String> {
    let containers = job.spec.iter().filter_map(|spec| spec.template.spec.as_ref()).flat_map(|pod| &pod.containers);
    let mut variables = containers.flat_map(|container| container.env.iter().flatten());
    Some(expansion::unescape(variables.find(|variable| variable.name == name)?.value.as_ref()?))
}

/// The object at `path`; missing ones are created.
pub(crate) fn object<'a>(job: &'a mut Map<String, Value>, path: &[&str]) -> anyhow::Result<&'a mut Map<String, Value>> {
    let mut current = job;
    for key in path {
        current = current
            .entry(*key)
            .or_insert_with(|| json!({}))
            .as_object_mut()
            .with_context(|| format!("read {} of the Job template, which is not an object", path.join(".")))?;
    }
    Ok(current)
}

/// The work of a Job. The pod template cannot be changed after creation and the annotation can, so the one that fits
/// the Job's name, a hash of the identity, counts.
///
/// # Errors
/// When neither fits the name.
pub(crate) fn read_work(job: &Job) -> anyhow::Result<Work> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let annotation = job.metadata.annotations.as_ref().and_then(|all| all.get(labels::ANNOTATION_WORK));
    [annotation.cloned(), read_variable(job, labels::ENV_WORK)]
        .into_iter()
        .flatten()
        .filter_map(|text| serde_json::from_str::<Work>(&text).ok())
        .find(|work| work.identity.job_name() == name)
        .with_context(|| format!("the Job {name} has no work that fits its name"))
}

/// The message a Job comes from, according to its annotations.
pub(crate) fn read_origin(job: &Job) -> (Option<String>, Option<Timestamp>, Option<Timestamp>) {
    let annotation = |name: &str| job.metadata.annotations.as_ref().and_then(|all| all.get(name));
    let time = |name: &str| annotation(name).and_then(|text| text.parse().ok());
    (
        annotation(labels::ANNOTATION_MESSAGE_ID).cloned(),
        time(labels::ANNOTATION_PUBLISHED),
        time(labels::ANNOTATION_RECEIVED),
    )
}

/// Sets the resources that this attempt has instead of its business's.
fn set_resources(job: &mut Map<String, Value>, resources: &Resources) -> anyhow::Result<()> {
    let pod = object(job, &["spec", "template", "spec"])?;
    if let Some(seconds) = resources.timeout_secs {
        pod.insert("activeDeadlineSeconds".into(), seconds.into());
    }
    if let Some(memory) = &resources.memory {
        // The first container is the engine's.
        let container = pod.get_mut("containers").and_then(|all| all.get_mut(0)).and_then(Value::as_object_mut);
        let container = container.context("read a container of the Job template")?;
        for kind in ["requests", "limits"] {
            object(container, &["resources", kind])?.insert("memory".into(), memory.as_str().into());
        }
    }
    Ok(())
}

/// Sets the limits of the Job of a range. The engine holds the time limit of each item, so the pod's is a last resort.
/// And it finds the item that ends pods by halving, for which it needs some pods.
fn set_limits_of_range(job: &mut Map<String, Value>, items: u32) -> anyhow::Result<()> {
    let pod = object(job, &["spec", "template", "spec"])?;
    if let Some(seconds) = pod.get("activeDeadlineSeconds").and_then(Value::as_u64) {
        pod.insert("activeDeadlineSeconds".into(), seconds.saturating_mul(u64::from(items) + 1).into());
    }
    let spec = object(job, &["spec"])?;
    let retries = spec.get("backoffLimit").and_then(Value::as_u64).unwrap_or(6);
    spec.insert("backoffLimit".into(), retries.max(PODS_OF_RANGE).into());
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;

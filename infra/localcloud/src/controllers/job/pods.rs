//! The pods of a Job, made from its template.

use serde_json::{Value, json};

use super::{
    decide::PodToCreate,
    tally::{INDEX, INDEX_FAILURES, TRACKING},
};
use crate::kubernetes::{
    cluster::Cluster,
    failure::Answer,
    kinds, names,
    objects::How,
    typed::Validation,
    value::{self, text},
};

/// Variable that says the index to the containers of a pod of an Indexed Job.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// A new pod, defaulted and checked.
pub(super) fn fresh(cluster: &Cluster, job: &Value, desired: &PodToCreate) -> Answer<Value> {
    let name = value::name(job);
    let mut pod = job.pointer("/spec/template").cloned().unwrap_or_else(|| json!({}));
    let base = match desired.index {
        Some(index) => format!("{name}-{index}-"),
        None => format!("{name}-"),
    };
    value::set(&mut pod, &["apiVersion"], "v1");
    value::set(&mut pod, &["kind"], "Pod");
    value::set(&mut pod, &["metadata", "generateName"], base.clone());
    value::set(&mut pod, &["metadata", "name"], names::generate(&base));
    value::set(&mut pod, &["metadata", "namespace"], value::namespace(job));
    value::set(&mut pod, &["metadata", "finalizers"], json!([TRACKING]));
    let owner = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": value::uid(job), "controller": true,
        "blockOwnerDeletion": true,
    }]);
    value::set(&mut pod, &["metadata", "ownerReferences"], owner);
    if let Some(index) = desired.index {
        value::set(&mut pod, &["metadata", "labels", INDEX], index.to_string());
        value::set(&mut pod, &["metadata", "annotations", INDEX], index.to_string());
        if let Some(failures) = desired.failures {
            value::set(&mut pod, &["metadata", "annotations", INDEX_FAILURES], failures.to_string());
        }
        value::set(&mut pod, &["spec", "hostname"], format!("{name}-{index}"));
        for list in ["initContainers", "containers"] {
            let containers = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let variables = value::list_at(container, &["env"]);
                if !variables.iter().any(|one| text(one, "/name") == INDEX_VARIABLE) {
                    let path = format!("metadata.labels['{INDEX}']");
                    variables.push(json!({
                        "name": INDEX_VARIABLE,
                        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}},
                    }));
                }
            }
        }
    }
    let how = How { validation: Validation::Ignore, ..How::default() };
    cluster.fresh(&kinds::POD, pod, &how).map(|(pod, _)| pod)
}

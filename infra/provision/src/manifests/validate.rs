//! Checks a Kubernetes object against its type as strictly as the API server would: a field it does not know is an
//! error, with its path.

use anyhow::{Context as _, bail};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, ResourceQuota, Service, ServiceAccount},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    scheduling::v1::PriorityClass,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

mod google;

/// Checks one object.
///
/// # Errors
/// When its kind is none of ours, or a field is unknown or of the wrong type.
pub fn validate(object: &Value) -> anyhow::Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or("template");
    let typed = match (version, kind) {
        ("v1", "Namespace") => typed::<Namespace>(object),
        ("v1", "ServiceAccount") => typed::<ServiceAccount>(object),
        ("v1", "ConfigMap") => typed::<ConfigMap>(object),
        ("rbac.authorization.k8s.io/v1", "Role") => typed::<Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => typed::<RoleBinding>(object),
        ("apps/v1", "Deployment") => typed::<Deployment>(object),
        ("batch/v1", "Job") => typed::<Job>(object),
        ("policy/v1", "PodDisruptionBudget") => typed::<PodDisruptionBudget>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => typed::<ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => typed::<ClusterRoleBinding>(object),
        ("v1", "ResourceQuota") => typed::<ResourceQuota>(object),
        ("v1", "Service") => typed::<Service>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => typed::<NetworkPolicy>(object),
        ("scheduling.k8s.io/v1", "PriorityClass") => typed::<PriorityClass>(object),
        ("networking.k8s.io/v1", "Ingress") => typed::<Ingress>(object),
        ("cloud.google.com/v1", "BackendConfig") => typed::<google::Resource<google::Backend>>(object),
        ("networking.gke.io/v1beta1", "FrontendConfig") => typed::<google::Resource<google::Frontend>>(object),
        ("networking.gke.io/v1", "ManagedCertificate") => typed::<google::Resource<google::Certificate>>(object),
        ("monitoring.googleapis.com/v1", "PodMonitoring") => typed::<google::Resource<google::PodMonitoring>>(object),
        _ => bail!("the kind {kind:?} of {version:?} is not one that we deploy"),
    };
    let known = typed.with_context(|| format!("read the {kind} {name}"))?;
    let mut unknown = Vec::new();
    compare("", object, &known, &mut unknown);
    if !unknown.is_empty() {
        bail!("the {kind} {name} has fields that Kubernetes does not know: {}", unknown.join(", "));
    }
    Ok(())
}

fn typed<T: DeserializeOwned + Serialize>(object: &Value) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(T::deserialize(object)?)?)
}

/// Paths of what `object` has and its typed form lost.
fn compare(path: &str, object: &Value, known: &Value, unknown: &mut Vec<String>) {
    match (object, known) {
        (Value::Object(fields), Value::Object(known)) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key) {
                    Some(known) => compare(&path, value, known, unknown),
                    // An absent field and an empty one are the same to Kubernetes.
                    None if value.is_null() => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(items), Value::Array(known)) => {
            for (index, (item, known)) in items.iter().zip(known).enumerate() {
                compare(&format!("{path}[{index}]"), item, known, unknown);
            }
        }
        _ => {}
    }
}

//! What we use of the kinds that GKE adds to Kubernetes, which no release of it has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

/// An object of one of these kinds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource<Spec> {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: Spec,
}

/// Which pods are asked for metrics, `PodMonitoring`.
#[derive(Serialize, Deserialize)]
pub(super) struct PodMonitoring {
    selector: LabelSelector,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize, Deserialize)]
struct Endpoint {
    port: String,
    path: String,
    interval: String,
}

/// How a load balancer treats a Service, `BackendConfig`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Backend {
    iap: Iap,
    health_check: HealthCheck,
    timeout_sec: u32,
    connection_draining: Draining,
}

#[derive(Serialize, Deserialize)]
struct Iap {
    enabled: bool,
    #[serde(rename = "oauthclientCredentials", skip_serializing_if = "Option::is_none")]
    credentials: Option<OauthClient>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OauthClient {
    secret_name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HealthCheck {
    r#type: String,
    request_path: String,
    port: u16,
    check_interval_sec: u32,
    timeout_sec: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Draining {
    draining_timeout_sec: u32,
}

/// How people come to a load balancer, `FrontendConfig`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Frontend {
    redirect_to_https: Redirect,
}

#[derive(Serialize, Deserialize)]
struct Redirect {
    enabled: bool,
}

/// A certificate that Google makes, `ManagedCertificate`.
#[derive(Serialize, Deserialize)]
pub(super) struct Certificate {
    domains: Vec<String>,
}

//! Google's REST APIs, as thinly as can be: requests are values, answers are JSON, errors are typed.

use serde::{Deserialize, Serialize};

mod error;
mod impersonation;
mod request;
mod rest;

pub use error::Error;
pub(crate) use error::OPERATION_FAILED;
pub use impersonation::impersonated;
pub use request::{Method, Request, escape};
pub use rest::{Call, Client, Observer, Retry, file_credentials};

/// The APIs that are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Pub/Sub v1.
    Pubsub,
    /// Cloud Storage v1.
    Storage,
    /// IAM v1.
    Iam,
    /// IAM Credentials v1.
    IamCredentials,
    /// Resource Manager v1 and v3.
    CloudResourceManager,
    /// Service Usage v1.
    ServiceUsage,
    /// Kubernetes Engine v1.
    Container,
    /// Artifact Registry v1.
    ArtifactRegistry,
    /// Cloud Build v1.
    CloudBuild,
    /// Organization Policy v2.
    OrgPolicy,
    /// Cloud Billing v1.
    CloudBilling,
    /// Compute Engine v1.
    Compute,
    /// Key Management v1.
    CloudKms,
}

/// Where each API is, without a slash at the end. What a file leaves out is Google's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    /// Pub/Sub.
    pub pubsub: String,
    /// Cloud Storage.
    pub storage: String,
    /// IAM.
    pub iam: String,
    /// IAM Credentials.
    pub iamcredentials: String,
    /// Resource Manager.
    pub cloudresourcemanager: String,
    /// Service Usage.
    pub serviceusage: String,
    /// Kubernetes Engine.
    pub container: String,
    /// Artifact Registry.
    pub artifactregistry: String,
    /// Cloud Build.
    pub cloudbuild: String,
    /// Organization Policy.
    pub orgpolicy: String,
    /// Cloud Billing.
    pub cloudbilling: String,
    /// Compute Engine.
    pub compute: String,
    /// Key Management.
    pub cloudkms: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        let google = |api: &str| format!("https://{api}.googleapis.com");
        Self {
            pubsub: google("pubsub"),
            storage: google("storage"),
            iam: google("iam"),
            iamcredentials: google("iamcredentials"),
            cloudresourcemanager: google("cloudresourcemanager"),
            serviceusage: google("serviceusage"),
            container: google("container"),
            artifactregistry: google("artifactregistry"),
            cloudbuild: google("cloudbuild"),
            orgpolicy: google("orgpolicy"),
            cloudbilling: google("cloudbilling"),
            compute: google("compute"),
            cloudkms: google("cloudkms"),
        }
    }
}

impl Endpoints {
    /// Every API at one address, as tests want it.
    pub fn all_at(address: &str) -> Self {
        let address = || address.trim_end_matches('/').to_owned();
        Self {
            pubsub: address(),
            storage: address(),
            iam: address(),
            iamcredentials: address(),
            cloudresourcemanager: address(),
            serviceusage: address(),
            container: address(),
            artifactregistry: address(),
            cloudbuild: address(),
            orgpolicy: address(),
            cloudbilling: address(),
            compute: address(),
            cloudkms: address(),
        }
    }

    /// The endpoint of one API.
    pub fn of(&self, api: Api) -> &str {
        let endpoint = match api {
            Api::Pubsub => &self.pubsub,
            Api::Storage => &self.storage,
            Api::Iam => &self.iam,
            Api::IamCredentials => &self.iamcredentials,
            Api::CloudResourceManager => &self.cloudresourcemanager,
            Api::ServiceUsage => &self.serviceusage,
            Api::Container => &self.container,
            Api::ArtifactRegistry => &self.artifactregistry,
            Api::CloudBuild => &self.cloudbuild,
            Api::OrgPolicy => &self.orgpolicy,
            Api::CloudBilling => &self.cloudbilling,
            Api::Compute => &self.compute,
            Api::CloudKms => &self.cloudkms,
        };
        endpoint.trim_end_matches('/')
    }
}

#[cfg(test)]
mod tests;

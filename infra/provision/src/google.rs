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

/// Lists the APIs, each with the first part of its host, which is also its key among the endpoints.
macro_rules! apis {
    ($(#[doc = $text:literal] $api:ident => $host:ident),* $(,)?) => {
        /// The APIs that are called.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Api {
            $(#[doc = $text] $api,)*
        }

        /// Where each API is, without a slash at the end. What a file leaves out is Google's own.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Endpoints {
            $(#[doc = $text] pub $host: String,)*
        }

        impl Default for Endpoints {
            fn default() -> Self {
                Self { $($host: concat!("https://", stringify!($host), ".googleapis.com").to_owned(),)* }
            }
        }

        impl Endpoints {
            /// Every API at one address, as tests want it.
            pub fn all_at(address: &str) -> Self {
                let address = address.trim_end_matches('/');
                Self { $($host: address.to_owned(),)* }
            }

            /// The endpoint of one API.
            pub fn of(&self, api: Api) -> &str {
                match api {
                    $(Api::$api => self.$host.trim_end_matches('/'),)*
                }
            }
        }
    };
}

apis! {
    /// Pub/Sub v1.
    Pubsub => pubsub,
    /// Cloud Storage v1.
    Storage => storage,
    /// IAM v1.
    Iam => iam,
    /// IAM Credentials v1.
    IamCredentials => iamcredentials,
    /// Resource Manager v1 and v3.
    CloudResourceManager => cloudresourcemanager,
    /// Service Usage v1.
    ServiceUsage => serviceusage,
    /// Kubernetes Engine v1.
    Container => container,
    /// Artifact Registry v1.
    ArtifactRegistry => artifactregistry,
    /// Cloud Build v1.
    CloudBuild => cloudbuild,
    /// Organization Policy v2.
    OrgPolicy => orgpolicy,
    /// Cloud Billing v1.
    CloudBilling => cloudbilling,
    /// Compute Engine v1.
    Compute => compute,
    /// Key Management v1.
    CloudKms => cloudkms,
    /// Monitoring v3, and v1 for dashboards.
    Monitoring => monitoring,
}

#[cfg(test)]
mod tests;

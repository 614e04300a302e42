//! Service Usage: which APIs are enabled.

use serde_json::{Value, json};

use super::Identity;
use crate::google::error::{Error, Result};

/// APIs that a new project has.
pub const BASE: &[&str] = &[
    "bigquery.googleapis.com",
    "cloudapis.googleapis.com",
    "cloudtrace.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "servicemanagement.googleapis.com",
    "serviceusage.googleapis.com",
    "storage-api.googleapis.com",
    "storage-component.googleapis.com",
    "storage.googleapis.com",
];

/// Other APIs that can be enabled.
const OTHERS: &[&str] = &[
    "artifactregistry.googleapis.com",
    "autoscaling.googleapis.com",
    "cloudbilling.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudkms.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "container.googleapis.com",
    "containerfilesystem.googleapis.com",
    "containerregistry.googleapis.com",
    "dns.googleapis.com",
    "gkehub.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "iap.googleapis.com",
    "networkconnectivity.googleapis.com",
    "orgpolicy.googleapis.com",
    "oslogin.googleapis.com",
    "policytroubleshooter.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "runtimeconfig.googleapis.com",
    "secretmanager.googleapis.com",
    "sts.googleapis.com",
];

/// Most services in one batch.
const BATCH_MAX: usize = 20;

impl Identity {
    /// One service as the API shows it.
    pub fn service(&self, name: &str) -> Value {
        let enabled = self.read().enabled.contains(name);
        json!({
            "name": format!("projects/{}/services/{name}", self.number()),
            "config": { "name": name },
            "state": if enabled { "ENABLED" } else { "DISABLED" },
            "parent": format!("projects/{}", self.number()),
        })
    }

    /// All known services by name.
    pub fn services(&self) -> Vec<(String, Value)> {
        let mut names: Vec<&str> = BASE.iter().chain(OTHERS).copied().collect();
        names.sort_unstable();
        names.into_iter().map(|name| (name.to_owned(), self.service(name))).collect()
    }

    /// Enables services.
    ///
    /// # Errors
    /// 400 for more than 20, 403 for a service that does not exist.
    pub fn enable(&self, names: &[String]) -> Result<()> {
        if names.len() > BATCH_MAX || names.is_empty() {
            return Err(Error::invalid(format!("Between 1 and {BATCH_MAX} services can be enabled at once.")));
        }
        if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
            return Err(Error::forbidden(format!("Not found or permission denied for service(s): {unknown}."))
                .with_info(
                    "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED",
                    "serviceusage.googleapis.com",
                    Vec::new(),
                ));
        }
        let mut state = self.write();
        for name in names {
            if state.enabled.insert(name.clone()) {
                self.young.service(name, self.clock.now());
            }
        }
        Ok(())
    }

    /// Disables a service.
    pub fn disable(&self, name: &str) {
        self.write().enabled.remove(name);
    }

    /// Refuses a call of an API that is not enabled.
    ///
    /// # Errors
    /// 403 SERVICE_DISABLED.
    pub fn need_service(&self, name: &str) -> Result<()> {
        if self.read().enabled.contains(name) && !self.young.refuses(name, self.clock.now()) {
            return Ok(());
        }
        let number = self.number();
        Err(Error::forbidden(format!(
            "{name} has not been used in project {number} before or it is disabled. Enable it by visiting \
             https://console.developers.google.com/apis/api/{name}/overview?project={number} then retry. If you \
             enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
        ))
        .with_reason("accessNotConfigured")
        .with_info(
            "SERVICE_DISABLED",
            "googleapis.com",
            vec![("service".to_owned(), name.to_owned()), ("consumer".to_owned(), format!("projects/{number}"))],
        ))
    }
}

fn is_known(name: &str) -> bool {
    BASE.contains(&name) || OTHERS.contains(&name)
}

//! Cloud Build, as far as a laptop has it: builds are ordered, wait, run, log and end as Google's do. What a step would
//! do in a container, a function of whoever serves the cloud does here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value, json};

use crate::{
    artifactregistry::Registry,
    google::{
        call::time_text,
        error::{Error, Result},
    },
    identity::{Identity, principal::Principal},
    kubernetes::names,
    storage::{On, Storage},
};

pub mod rest;
mod worker;

/// An image that a step pushes.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// `HOST/PATH/IMAGE`.
    pub repository: String,
    /// Its tag.
    pub tag: String,
    /// Its digest, `sha256:…`; the nodes know it.
    pub digest: String,
}

/// Runs the command of a step, and returns the images that it pushes.
pub type Steps = Arc<dyn Fn(&[&str]) -> anyhow::Result<Vec<Pushed>> + Send + Sync>;

/// The API.
pub struct CloudBuild {
    identity: Arc<Identity>,
    storage: Arc<Storage>,
    registry: Arc<Registry>,
    enforce_apis: bool,
    /// How long a build works at least, after it waited half as long.
    takes: Duration,
    steps: OnceLock<Steps>,
    builds: Mutex<BTreeMap<String, Value>>,
}

impl std::fmt::Debug for CloudBuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudBuild").field("takes", &self.takes).finish_non_exhaustive()
    }
}

impl CloudBuild {
    /// No builds.
    pub fn new(
        identity: Arc<Identity>,
        storage: Arc<Storage>,
        registry: Arc<Registry>,
        enforce_apis: bool,
        takes: Duration,
    ) -> Arc<Self> {
        let (steps, builds) = (OnceLock::new(), Mutex::default());
        Arc::new(Self { identity, storage, registry, enforce_apis, takes, steps, builds })
    }

    /// Sets what runs steps. Until then every build fails.
    pub fn set_steps(&self, steps: Steps) {
        let _ = self.steps.set(steps);
    }

    fn builds(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Result<Value> {
        let found = self.builds().get(id).cloned();
        found.ok_or_else(|| Error::not_found("Requested entity was not found."))
    }

    /// Takes an order; the build is queued.
    fn create(&self, caller: &Principal, location: &str, desired: &Map<String, Value>) -> Result<Value> {
        let given = |key: &str| desired.get(key).filter(|value| !value.is_null());
        if given("steps").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err(Error::invalid("invalid build: no build steps specified"));
        }
        if !desired.get("source").is_some_and(|source| source["storageSource"]["object"].is_string()) {
            return Err(Error::invalid("invalid build: the laptop cloud builds from source.storageSource"));
        }
        let account = given("serviceAccount").and_then(Value::as_str).unwrap_or_default();
        let logging = desired.get("options").and_then(|options| options["logging"].as_str()).unwrap_or_default();
        // In Google's words: it is what people search for.
        if given("logsBucket").is_none() && !["CLOUD_LOGGING_ONLY", "NONE"].contains(&logging) {
            return Err(Error::invalid(
                "if 'build.service_account' is specified, the build must either (a) specify 'build.logs_bucket', (b) \
                 use the REGIONAL_USER_OWNED_BUCKET build.options.default_logs_bucket_behavior option, or (c) use \
                 either CLOUD_LOGGING_ONLY / NONE logging options",
            ));
        }
        let email = account.rsplit('/').next().unwrap_or_default();
        let Some(account_of_build) = self.identity.service_account(email) else {
            return Err(Error::not_found(format!("service account {email} does not exist")));
        };
        self.need_act_as(caller, email)?;
        let logs = given("logsBucket").and_then(Value::as_str).unwrap_or_default();
        let bucket = logs.trim_start_matches("gs://").split('/').next().unwrap_or_default();
        if !logs.is_empty() && self.storage.need(&account_of_build, "storage.buckets.get", On::Bucket(bucket)).is_err()
        {
            // cloud-builders #280.
            return Err(Error::invalid(format!(
                "invalid logs bucket \"{logs}\": builder service account does not have access to logs bucket \"{bucket}\""
            )));
        }
        let (id, now) = (names::uid(), time_text(self.identity.clock.now()));
        let project = self.identity.project();
        let mut build = Value::Object(desired.clone());
        for (key, value) in [
            ("id", json!(id)),
            ("name", json!(format!("projects/{}/locations/{location}/builds/{id}", self.identity.number()))),
            ("projectId", json!(project)),
            ("status", json!("QUEUED")),
            ("createTime", json!(now)),
            ("logUrl", json!(format!("https://console.cloud.google.com/cloud-build/builds/{id}?project={project}"))),
        ] {
            build[key] = value;
        }
        self.builds().insert(id, build.clone());
        Ok(build)
    }

    fn need_act_as(&self, caller: &Principal, email: &str) -> Result<()> {
        let name = format!("projects/{}/serviceAccounts/{email}", self.identity.project());
        let account =
            crate::identity::Target::resource(name, "iam.googleapis.com/ServiceAccount", "iam.googleapis.com");
        if self.identity.allowed(caller, "iam.serviceAccounts.actAs", &account) {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "caller does not have permission to act as service account projects/{}/serviceAccounts/{email}",
            self.identity.project()
        )))
    }

    /// Builds of a location; a filter is of the form `tags="A" AND (status="B" OR status="C")`.
    fn list(&self, location: &str, filter: &str) -> Vec<(String, Value)> {
        let quoted = |key: &str| -> Vec<String> {
            let mark = format!("{key}=\"");
            let found = filter.match_indices(&mark).filter_map(|(at, _)| filter[at + mark.len()..].split('"').next());
            found.map(str::to_owned).collect()
        };
        let (tags, states) = (quoted("tags"), quoted("status"));
        let here = format!("/locations/{location}/");
        let is_wanted = |build: &Value| {
            let has = |tag: &String| build["tags"].as_array().is_some_and(|found| found.iter().any(|f| f == tag));
            build["name"].as_str().is_some_and(|name| name.contains(&here))
                && tags.iter().all(has)
                && (states.is_empty() || states.iter().any(|state| build["status"] == *state))
        };
        let builds = self.builds();
        builds.iter().filter(|(_, build)| is_wanted(build)).map(|(id, build)| (id.clone(), build.clone())).collect()
    }

    /// Ends a build that has not ended.
    fn cancel(&self, id: &str) -> Result<Value> {
        let now = time_text(self.identity.clock.now());
        let mut builds = self.builds();
        let build = builds.get_mut(id).ok_or_else(|| Error::not_found("Requested entity was not found."))?;
        if has_ended(build) {
            return Err(Error::failed_precondition("Cannot cancel a build that is already completed."));
        }
        build["status"] = json!("CANCELLED");
        build["finishTime"] = json!(now);
        Ok(build.clone())
    }

    /// Changes a build that has not ended; whether it had not.
    fn change(&self, id: &str, change: impl FnOnce(&mut Value)) -> bool {
        let mut builds = self.builds();
        match builds.get_mut(id).filter(|build| !has_ended(build)) {
            Some(build) => {
                change(build);
                true
            }
            None => false,
        }
    }
}

fn has_ended(build: &Value) -> bool {
    !matches!(build["status"].as_str(), Some("PENDING" | "QUEUED" | "WORKING"))
}

#[cfg(test)]
mod tests;

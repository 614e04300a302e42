//! Artifact Registry: repositories, their policies, and which images they have. What the images hold is in the laptop
//! cluster's folder.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    google::{
        call::{camel, time_text},
        error::{Error, Result},
    },
    identity::{Identity, Target, principal::Principal},
};

mod images;
pub mod rest;

/// What is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Repositories by full name.
    repositories: BTreeMap<String, Map<String, Value>>,
    /// Operations by full name; all have ended.
    operations: BTreeMap<String, Value>,
    /// Docker images by full name of the repository and by URI.
    #[serde(default)]
    images: BTreeMap<String, BTreeMap<String, Value>>,
}

/// The API.
#[derive(Debug)]
pub struct Registry {
    identity: Arc<Identity>,
    enforce_apis: bool,
    state: Mutex<State>,
    changes: AtomicU64,
}

/// Longest id of a repository.
const ID_MAX: usize = 63;
/// Prefix of the types in operations.
const TYPES: &str = "type.googleapis.com/google.devtools.artifactregistry.v1";

impl Registry {
    /// No repositories.
    pub fn new(identity: Arc<Identity>, enforce_apis: bool) -> Self {
        Self { identity, enforce_apis, state: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// Counts changes, so that who saves knows whether to.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A copy of everything, to be saved.
    pub fn snapshot(&self) -> State {
        self.read().clone()
    }

    /// Puts saved state in place of the present one.
    pub fn restore(&self, state: State) {
        *self.read() = state;
    }

    fn read(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> MutexGuard<'_, State> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.read()
    }

    /// Repositories of `projects/P/locations/L`; of all locations for `-`.
    fn list(&self, parent: &str) -> Vec<(String, Value)> {
        let within = format!("{}/repositories/", parent.trim_end_matches("/-"));
        let all = parent.ends_with("/-");
        let state = self.read();
        let found = state
            .repositories
            .iter()
            .filter(|(name, _)| name.starts_with(&within) || (all && name.starts_with(parent.trim_end_matches('-'))));
        found.map(|(name, repository)| (name.clone(), Value::Object(repository.clone()))).collect()
    }

    fn get(&self, name: &str) -> Result<Value> {
        self.read().repositories.get(name).cloned().map(Value::Object).ok_or_else(|| missing(name))
    }

    fn create(&self, parent: &str, id: &str, desired: Map<String, Value>) -> Result<Value> {
        let shape = id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let begins = id.starts_with(|first: char| first.is_ascii_lowercase());
        if !shape || !begins || id.ends_with('-') || id.len() > ID_MAX {
            return Err(Error::invalid(format!(
                "Invalid repository id \"{id}\": letters, digits and dashes, at most {ID_MAX}, a letter first."
            )));
        }
        let Some(format) =
            desired.get("format").and_then(Value::as_str).filter(|format| *format != "FORMAT_UNSPECIFIED")
        else {
            return Err(Error::invalid("format must be specified."));
        };
        let name = format!("{parent}/repositories/{id}");
        let location = parent.rsplit('/').next().unwrap_or_default();
        let key = desired.get("kmsKeyName").unwrap_or(&Value::Null);
        self.identity.need_key_of("gcp-sa-artifactregistry", key, location)?;
        let now = time_text(self.identity.clock.now());
        let mut repository = desired.clone();
        let uri = format!("{location}-{}.pkg.dev/{}/{id}", format.to_ascii_lowercase(), self.identity.project());
        for (key, value) in [
            ("name", json!(name)),
            ("mode", json!("STANDARD_REPOSITORY")),
            ("registryUri", json!(uri)),
            ("createTime", json!(now)),
            ("updateTime", json!(now)),
        ] {
            repository.insert(key.to_owned(), value);
        }
        let mut state = self.write();
        if state.repositories.contains_key(&name) {
            return Err(Error::exists("the repository already exists"));
        }
        state.repositories.insert(name, repository.clone());
        let mut response = repository;
        response.insert("@type".to_owned(), json!(format!("{TYPES}.Repository")));
        Ok(ended(&mut state, parent, Value::Object(response)))
    }

    fn update(&self, name: &str, desired: &Map<String, Value>, mask: &str) -> Result<Value> {
        let now = time_text(self.identity.clock.now());
        let mut state = self.write();
        let repository = state.repositories.get_mut(name).ok_or_else(|| missing(name))?;
        let fields: Vec<String> = match mask {
            "" | "*" => desired.keys().cloned().collect(),
            mask => mask.split(',').map(camel).collect(),
        };
        for field in fields {
            match field.as_str() {
                "description" | "labels" | "cleanupPolicies" | "cleanupPolicyDryRun" | "dockerConfig" => {
                    match desired.get(&field) {
                        Some(value) => repository.insert(field, value.clone()),
                        None => repository.remove(&field),
                    };
                }
                _ if mask.is_empty() || mask == "*" || repository.get(&field) == desired.get(&field) => {}
                _ => return Err(Error::invalid(format!("the field {field} cannot be changed"))),
            }
        }
        repository.insert("updateTime".to_owned(), json!(now));
        Ok(Value::Object(repository.clone()))
    }

    fn delete(&self, name: &str) -> Result<Value> {
        let mut state = self.write();
        state.repositories.remove(name).ok_or_else(|| missing(name))?;
        state.images.remove(name);
        self.identity.forget_policy(name);
        let parent = name.split("/repositories/").next().unwrap_or_default();
        Ok(ended(&mut state, parent, json!({ "@type": "type.googleapis.com/google.protobuf.Empty" })))
    }

    fn operation(&self, name: &str) -> Result<Value> {
        let found = self.read().operations.get(name).cloned();
        found.ok_or_else(|| Error::not_found(format!("Operation {name} was not found.")))
    }

    fn need(&self, caller: &Principal, permission: &str, resource: &str) -> Result<()> {
        let target = if resource.contains("/repositories/") { target(resource) } else { self.project() };
        if self.identity.allowed(caller, permission, &target) {
            return Ok(());
        }
        Err(Error::forbidden(format!(
            "Permission '{permission}' denied on resource '//artifactregistry.googleapis.com/{resource}' (or it may not exist)."
        ))
        .without_permission("artifactregistry.googleapis.com", permission, resource))
    }

    fn project(&self) -> Target {
        Target::project(self.identity.project())
    }
}

/// An operation that has ended already, as it is kept; answers it as it is first shown.
fn ended(state: &mut State, parent: &str, response: Value) -> Value {
    let name = format!("{parent}/operations/{:032x}", rand::random::<u128>());
    let metadata = json!({ "@type": format!("{TYPES}.OperationMetadata") });
    let shown = json!({ "name": name, "metadata": metadata });
    state
        .operations
        .insert(name.clone(), json!({ "name": name, "metadata": metadata, "done": true, "response": response }));
    shown
}

/// A repository as a target of permissions.
fn target(name: &str) -> Target {
    Target::resource(name, "artifactregistry.googleapis.com/Repository", "artifactregistry.googleapis.com")
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("Requested entity was not found: {name}."))
}

#[cfg(test)]
mod tests;

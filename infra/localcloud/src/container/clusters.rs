//! Clusters: made, changed and deleted by operations, one at a time for each.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Container, Effect, Operation, State, nodes::pools_of, shape};
use crate::{
    google::{
        call::Call,
        error::{Error, Result},
    },
    identity::principal::Principal,
};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Create {
    cluster: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Update {
    update: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Labels {
    resource_labels: Map<String, Value>,
    label_fingerprint: String,
}

/// The constraint that forbids control planes with an address.
const DNS_ONLY: &str = "container.managed.enableControlPlaneDNSOnlyAccess";

impl Container {
    /// Clusters of a location, or of all (`-`).
    pub(super) fn list_clusters(&self, caller: &Principal, location: &str, base: &str) -> Result<Value> {
        self.need(caller, "container.clusters.list", location, "")?;
        let state = self.current();
        let clusters: Vec<Value> = state
            .clusters
            .values()
            .filter(|cluster| location == "-" || cluster["location"] == location)
            .map(|cluster| self.show_cluster(cluster, base))
            .collect();
        Ok(if clusters.is_empty() { json!({}) } else { json!({ "clusters": clusters }) })
    }

    /// One cluster.
    pub(super) fn get_cluster(&self, caller: &Principal, location: &str, name: &str, base: &str) -> Result<Value> {
        self.need(caller, "container.clusters.get", location, name)?;
        let state = self.current();
        Ok(self.show_cluster(self.find(&state, location, name)?, base))
    }

    /// Begins to make a cluster.
    pub(super) fn create_cluster(&self, call: &Call, caller: &Principal, location: &str, base: &str) -> Result<Value> {
        self.need(caller, "container.clusters.create", location, "")?;
        let desired: Create = call.json()?;
        let addresses = &desired.cluster["controlPlaneEndpointsConfig"]["ipEndpointsConfig"];
        if addresses["enabled"] != false {
            self.identity.forbid(DNS_ONLY, "The control plane may only be reached by its DNS name.")?;
        }
        let now = self.identity.clock.now();
        let cluster = shape::cluster(&desired.cluster, self.identity.project(), location, now)?;
        let name = cluster["name"].as_str().unwrap_or_default().to_owned();
        let key = key(location, &name);
        let mut state = self.current();
        if state.clusters.contains_key(&key) {
            return Err(Error::exists(format!("Already exists: {}.", self.path(location, &name))));
        }
        self.check_nodes(caller, &state, &cluster, &pools_of(&cluster))?;
        let mut made = cluster.clone();
        made["status"] = json!("RUNNING");
        state.clusters.insert(key.clone(), cluster);
        Ok(self.begin(
            &mut state,
            "CREATE_CLUSTER",
            &key,
            format!("clusters/{name}"),
            Effect::Become(key.clone(), made),
            base,
        ))
    }

    /// Begins to delete a cluster.
    pub(super) fn delete_cluster(&self, caller: &Principal, location: &str, name: &str, base: &str) -> Result<Value> {
        self.need(caller, "container.clusters.delete", location, name)?;
        let mut state = self.current();
        self.find(&state, location, name)?;
        let key = key(location, name);
        not_blocked(&state, &key)?;
        if let Some(cluster) = state.clusters.get_mut(&key) {
            cluster["status"] = json!("STOPPING");
        }
        let effect = Effect::Remove(key.clone());
        Ok(self.begin(&mut state, "DELETE_CLUSTER", &key, format!("clusters/{name}"), effect, base))
    }

    /// Begins to change a cluster.
    pub(super) fn update_cluster(
        &self,
        call: &Call,
        caller: &Principal,
        location: &str,
        name: &str,
        base: &str,
    ) -> Result<Value> {
        let desired: Update = call.json()?;
        self.change(caller, ("UPDATE_CLUSTER", location, name), base, |cluster| {
            if desired.update.is_empty() {
                return Err(Error::invalid("Must specify a field to update."));
            }
            if desired.update.keys().filter(|key| key.starts_with("desired")).count() > 1 {
                return Err(Error::invalid("Exactly one update can be applied to a cluster with each request."));
            }
            shape::update(cluster, &desired.update);
            Ok(format!("clusters/{name}"))
        })
    }

    /// Begins to replace the labels of a cluster.
    pub(super) fn set_labels(
        &self,
        call: &Call,
        caller: &Principal,
        location: &str,
        name: &str,
        base: &str,
    ) -> Result<Value> {
        let desired: Labels = call.json()?;
        self.change(caller, ("UPDATE_CLUSTER", location, name), base, |cluster| {
            if desired.label_fingerprint != cluster["labelFingerprint"].as_str().unwrap_or_default() {
                return Err(Error::failed_precondition(
                    "Labels fingerprint either invalid or resource labels have changed.",
                ));
            }
            cluster["resourceLabels"] = Value::Object(desired.resource_labels.clone());
            shape::changed(cluster);
            Ok(format!("clusters/{name}"))
        })
    }

    /// Begins an operation after which the cluster is as `change` makes it; `change` answers what it is about.
    pub(super) fn change(
        &self,
        caller: &Principal,
        (kind, location, name): (&str, &str, &str),
        base: &str,
        change: impl FnOnce(&mut Value) -> Result<String>,
    ) -> Result<Value> {
        self.need(caller, "container.clusters.update", location, name)?;
        let mut state = self.current();
        let mut cluster = self.find(&state, location, name)?.clone();
        let key = key(location, name);
        not_blocked(&state, &key)?;
        let target = change(&mut cluster)?;
        if let Some(present) = state.clusters.get_mut(&key) {
            present["status"] = json!("RECONCILING");
            let stays = |pool: &Value| pools_of(&cluster).iter().any(|other| other["name"] == pool["name"]);
            for pool in present["nodePools"].as_array_mut().into_iter().flatten().filter(|pool| !stays(pool)) {
                pool["status"] = json!("STOPPING");
            }
        }
        cluster["status"] = json!("RUNNING");
        Ok(self.begin(&mut state, kind, &key, target, Effect::Become(key.clone(), cluster), base))
    }

    fn begin(&self, state: &mut State, kind: &str, key: &str, target: String, effect: Effect, base: &str) -> Value {
        let now = self.identity.clock.now();
        let operation = Operation::begin(kind, key, target, now, self.takes, effect);
        let shown = operation.show(base, self.identity.number(), now);
        state.operations.insert(super::clusters::key(&operation.location, &operation.name), operation);
        self.changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        shown
    }

    /// A cluster that must be there.
    pub(super) fn find<'a>(&self, state: &'a State, location: &str, name: &str) -> Result<&'a Value> {
        let missing = || Error::not_found(format!("Not found: {}.", self.path(location, name)));
        state.clusters.get(&key(location, name)).ok_or_else(missing)
    }

    fn show_cluster(&self, cluster: &Value, base: &str) -> Value {
        shape::show(cluster, base, self.identity.number(), self.access.get())
    }

    fn path(&self, location: &str, name: &str) -> String {
        format!("projects/{}/locations/{location}/clusters/{name}", self.identity.project())
    }
}

/// Key of a cluster or operation.
pub(super) fn key(location: &str, name: &str) -> String {
    format!("{location}/{name}")
}

fn not_blocked(state: &State, key: &str) -> Result<()> {
    state.operations.values().try_for_each(|operation| operation.blocks(key))
}

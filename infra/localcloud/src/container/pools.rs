//! Node pools, which are lists and numbers here: the laptop's nodes are what they are.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Container, shape};
use crate::{
    google::{
        call::Call,
        error::{Error, Result},
    },
    identity::{principal::Principal, rest::no_route},
};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Create {
    node_pool: Value,
}

impl Container {
    /// Answers a call about the node pools of a cluster; `path` is what follows `nodePools`.
    pub(super) fn pools(
        &self,
        call: &Call,
        caller: &Principal,
        (location, name): (&str, &str),
        path: &[&str],
        base: &str,
    ) -> Result<Value> {
        if self.find(&self.current(), location, name).is_ok_and(|cluster| cluster["autopilot"]["enabled"] == true) {
            // gke-labs/kube-agents #920.
            return Err(Error::invalid("Autopilot node pools cannot be accessed or modified."));
        }
        match (call.method.as_str(), path, call.verb.as_deref()) {
            ("GET", [], None) => {
                let cluster = self.get_cluster(caller, location, name, base)?;
                Ok(json!({ "nodePools": cluster["nodePools"] }))
            }
            ("GET", [pool], None) => {
                let cluster = self.get_cluster(caller, location, name, base)?;
                let pools = cluster["nodePools"].as_array();
                let found = pools.into_iter().flatten().find(|found| found["name"] == *pool);
                found.cloned().ok_or_else(|| missing(pool))
            }
            ("POST", [], None) => {
                let desired: Create = call.json()?;
                if let Some(email) = desired.node_pool["config"]["serviceAccount"].as_str() {
                    self.need_act_as(caller, email)?;
                }
                self.change(caller, ("CREATE_NODE_POOL", location, name), base, |cluster| {
                    let made = shape::pool(&desired.node_pool, location)?;
                    let pools = pools_of(cluster)?;
                    if pools.iter().any(|pool| pool["name"] == made["name"]) {
                        return Err(Error::exists(format!("Already exists: node pool {}.", made["name"])));
                    }
                    let target = target(name, made["name"].as_str().unwrap_or_default());
                    pools.push(made);
                    Ok(target)
                })
            }
            ("DELETE", [pool], None) => self.change(caller, ("DELETE_NODE_POOL", location, name), base, |cluster| {
                let pools = pools_of(cluster)?;
                let before = pools.len();
                pools.retain(|found| found["name"] != *pool);
                if pools.len() == before { Err(missing(pool)) } else { Ok(target(name, pool)) }
            }),
            ("PUT", [pool], None) | ("POST", [pool], Some("setAutoscaling")) => {
                let desired: Map<String, Value> = call.json()?;
                self.change(caller, ("UPDATE_CLUSTER", location, name), base, |cluster| {
                    let found = pools_of(cluster)?.iter_mut().find(|found| found["name"] == *pool);
                    shape::update_pool(found.ok_or_else(|| missing(pool))?, &desired);
                    Ok(target(name, pool))
                })
            }
            _ => Err(no_route(call)),
        }
    }
}

fn pools_of(cluster: &mut Value) -> Result<&mut Vec<Value>> {
    cluster["nodePools"].as_array_mut().ok_or_else(|| Error::internal("the cluster has no list of node pools"))
}

fn target(cluster: &str, pool: &str) -> String {
    format!("clusters/{cluster}/nodePools/{pool}")
}

fn missing(pool: &str) -> Error {
    Error::not_found(format!("Not found: node pool \"{pool}\" not found."))
}

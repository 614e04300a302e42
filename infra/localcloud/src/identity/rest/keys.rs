//! Key Management v1: who may use a key or a key ring. Every one exists.

use axum::response::Response;
use http::Method;
use serde_json::json;

use super::{Server, SetPolicy, TestPermissions, no_route, permissions_json, policy_json, requested_version};
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
    },
    identity::{neighbour::key_target, policy::Stale, principal::Principal},
};

impl Server {
    pub(super) fn kms(&self, call: &Call, caller: &Principal, path: &[&str]) -> Result<Response> {
        let name = path[1..].join("/");
        let kind = if name.contains("/cryptoKeys/") { "cryptoKeys" } else { "keyRings" };
        let target = key_target(&name);
        let need = |verb: &str| {
            let permission = format!("cloudkms.{kind}.{verb}");
            if self.identity.allowed(caller, &permission, &target) {
                return Ok(());
            }
            // gke-labs/kube-agents #916.
            Err(Error::forbidden(format!(
                "Permission '{permission}' denied on resource '{name}' (or it may not exist)."
            ))
            .without_permission("cloudkms.googleapis.com", &permission, &name))
        };
        match (&call.method, call.verb.as_deref()) {
            (&Method::GET, None) if kind == "cryptoKeys" => {
                need("get")?;
                let primary = json!({ "name": format!("{name}/cryptoKeyVersions/1"), "state": "ENABLED" });
                Ok(ok(&json!({ "name": name, "purpose": "ENCRYPT_DECRYPT", "primary": primary })))
            }
            (&Method::GET, Some(verb @ "getIamPolicy")) => {
                need(verb)?;
                Ok(ok(&policy_json(&self.identity.policy(&name, requested_version(call)?))?))
            }
            (&Method::POST, Some(verb @ "setIamPolicy")) => {
                need(verb)?;
                let desired: SetPolicy = call.json()?;
                Ok(ok(&policy_json(&self.identity.set_policy(&name, desired.policy, Stale::Aborted)?)?))
            }
            (&Method::POST, Some("testIamPermissions")) => {
                let desired: TestPermissions = call.json()?;
                Ok(ok(&permissions_json(&self.identity.testable(caller, &desired.permissions, &target))))
            }
            _ => Err(no_route(call)),
        }
    }
}

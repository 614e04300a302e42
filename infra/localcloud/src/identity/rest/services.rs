//! Service Usage v1: listing, enabling, disabling; operations are done when they are first asked for.

use axum::response::Response;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Server, no_route};
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
        page,
    },
    identity::principal::Principal,
};

/// Most services on a page.
const PAGE_MAX: usize = 200;
const TYPES: &str = "type.googleapis.com/google.api.serviceusage.v1";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Batch {
    service_ids: Vec<String>,
}

impl Server {
    pub(super) fn services(&self, call: &Call, caller: &Principal, path: &[&str]) -> Result<Response> {
        if let ["v1", "operations", id] = path {
            if !self.identity.allowed(caller, "serviceusage.operations.get", &self.project_target()) {
                return Err(Error::forbidden("The caller does not have permission"));
            }
            let name = format!("operations/{id}");
            let operation = self.identity.operation(&name);
            return Ok(ok(&operation.ok_or_else(|| Error::not_found(format!("Operation {name} was not found.")))?));
        }
        let [_, "projects", project, "services", rest @ ..] = path else { return Err(no_route(call)) };
        if !self.identity.is_project(project) {
            return Err(Error::forbidden("The caller does not have permission"));
        }
        let permission = match (&call.method, rest, call.verb.as_deref()) {
            (&Method::GET, [], None) => "list",
            (&Method::GET, [], Some("batchGet")) | (&Method::GET, [_], None) => "get",
            (&Method::POST, [], Some("batchEnable")) | (&Method::POST, [_], Some("enable")) => "enable",
            (&Method::POST, [_], Some("disable")) => "disable",
            (&Method::POST, [_], Some("generateServiceIdentity")) => "generateServiceIdentity",
            _ => return Err(no_route(call)),
        };
        let needed = match permission {
            "generateServiceIdentity" => "serviceusage.services.enable".to_owned(),
            verb => format!("serviceusage.services.{verb}"),
        };
        if !self.identity.allowed(caller, &needed, &self.project_target()) {
            return Err(Error::forbidden("The caller does not have permission"));
        }
        let name = rest.first().copied().unwrap_or_default();
        match permission {
            "list" => {
                let desired = call.query("filter").map(|filter| filter.replace(' ', ""));
                let services = self.identity.services().into_iter().filter(|(_, service)| match desired.as_deref() {
                    Some(filter) => filter.strip_prefix("state:").is_none_or(|state| service["state"] == *state),
                    None => true,
                });
                let (services, next) = page::page(services, &call.page()?, PAGE_MAX)?;
                Ok(ok(&page::answer("services", services, next)))
            }
            "get" if rest.is_empty() => {
                let names = call.query_all("names");
                let services: Vec<Value> = names
                    .iter()
                    .map(|name| self.identity.service(name.rsplit('/').next().unwrap_or_default()))
                    .collect();
                Ok(ok(&json!({ "services": services })))
            }
            "get" => Ok(ok(&self.identity.service(name))),
            "enable" if rest.is_empty() => {
                let desired: Batch = call.json()?;
                self.identity.enable(&desired.service_ids)?;
                let services: Vec<Value> = desired.service_ids.iter().map(|name| self.identity.service(name)).collect();
                Ok(ok(&self
                    .begun(&json!({ "@type": format!("{TYPES}.BatchEnableServicesResponse"), "services": services }))))
            }
            "enable" => {
                self.identity.enable(&[name.to_owned()])?;
                let service = self.identity.service(name);
                Ok(ok(&self.begun(&json!({ "@type": format!("{TYPES}.EnableServiceResponse"), "service": service }))))
            }
            "disable" => {
                self.identity.disable(name);
                let service = self.identity.service(name);
                Ok(ok(&self.done(&json!({ "@type": format!("{TYPES}.DisableServiceResponse"), "service": service }))))
            }
            _ => {
                let service = name.split('.').next().unwrap_or_default();
                let agent = match service {
                    "storage" => "gs-project-accounts".to_owned(),
                    "container" => "container-engine-robot".to_owned(),
                    "compute" => "compute-system".to_owned(),
                    other => format!("gcp-sa-{other}"),
                };
                let email = self.identity.make_agent(&agent).to_string();
                Ok(ok(&self.done(&json!({
                    "@type": "type.googleapis.com/google.api.serviceusage.v1beta1.ServiceIdentity",
                    "email": email,
                    "uniqueId": format!("{:021}", self.identity.number()),
                }))))
            }
        }
    }
}

impl Server {
    /// Answers an operation that has just begun. Whoever asks for it by its name sees that it is done.
    fn begun(&self, response: &Value) -> Value {
        json!({ "name": self.done(response)["name"] })
    }

    /// Answers an operation that is done already.
    fn done(&self, response: &Value) -> Value {
        let name = format!("operations/acf.p2-{:016x}", rand::random::<u64>());
        let operation = json!({
            "name": name,
            "metadata": { "@type": format!("{TYPES}.OperationMetadata") },
            "done": true,
            "response": response,
        });
        self.identity.keep_operation(&name, operation.clone());
        operation
    }
}

//! Cloud Storage's JSON API, and the port it shares with gRPC.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{
    Storage,
    buckets::{Metageneration, no_notification},
    notification::Notification,
};
use crate::{
    google::{
        call::{Call, ok},
        error::{Error, Result},
        grpc, page,
    },
    identity::{
        Target,
        policy::Policy,
        principal::Principal,
        rest::{no_route, policy_json, requested_version},
    },
};

mod media;
mod objects;

/// Routes of the service, served over `scheme`: `http` or `https`.
pub fn router(storage: Arc<Storage>, scheme: &'static str) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        let storage = storage.clone();
        async move {
            if grpc::is_grpc(&request) {
                return super::grpc_api::answer(storage, request).await;
            }
            match Call::read(request).await {
                Ok(call) => storage.route(&Call { scheme, ..call }).unwrap_or_else(|error| error.to_storage()),
                Err(error) => error.to_storage(),
            }
        }
    })
}

impl Storage {
    fn route(&self, call: &Call) -> Result<Response> {
        let caller = self.identity.caller(&call.headers)?;
        let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["upload" | "resumable", "upload", "storage", "v1", "b", bucket, "o"]
            | ["upload", "storage", "v1", "b", bucket, "o"] => self.upload(call, &caller, bucket),
            ["download", "storage", "v1", "b", bucket, "o", object] => self.download(call, &caller, bucket, object),
            ["storage", "v1", rest @ ..] => self.json_api(call, &caller, rest),
            _ => Err(no_route(call)),
        }
    }

    fn json_api(&self, call: &Call, caller: &Principal, path: &[&str]) -> Result<Response> {
        match (&call.method, path) {
            (&Method::GET, ["projects", project, "serviceAccount"]) if *project == self.identity.project() => {
                // cloud.google.com/storage/docs/getting-service-agent.
                if !self.identity.allowed(caller, "resourcemanager.projects.get", &Target::project(project)) {
                    return Err(Error::forbidden(format!(
                        "{caller} does not have resourcemanager.projects.get access to the Google Cloud project."
                    )));
                }
                Ok(ok(&json!({
                    "kind": "storage#serviceAccount",
                    "email_address": self.identity.storage_agent().to_string(),
                })))
            }
            (&Method::POST, ["b"]) => {
                let desired: Value = call.json()?;
                let name = desired["name"].as_str().ok_or_else(|| Error::invalid("Required parameter: name"))?;
                let project = call.query("project").unwrap_or_default();
                if !self.identity.is_project(project) {
                    return Err(Error::invalid(format!("Unknown project id: {project}")));
                }
                Ok(ok(&self.create_bucket(caller, name, &desired)?.json(&self.base(), self.identity.number())))
            }
            (&Method::GET, ["b"]) => {
                let project = call.query("project").ok_or_else(|| Error::invalid("Required parameter: project"))?;
                let prefix = call.query("prefix").unwrap_or_default();
                let (buckets, next) = self.list_buckets(caller, project, prefix, &call.page()?)?;
                let items: Vec<Value> =
                    buckets.iter().map(|bucket| bucket.json(&self.base(), self.identity.number())).collect();
                Ok(ok(&page_json("storage#buckets", items, next)))
            }
            (_, ["b", bucket]) => self.one_bucket(call, caller, bucket),
            (_, ["b", bucket, "iam", rest @ ..]) => self.bucket_policy(call, caller, bucket, rest),
            (_, ["b", bucket, "notificationConfigs", rest @ ..]) => {
                self.notification_configs(call, caller, bucket, rest)
            }
            (_, ["b", bucket, "o", rest @ ..]) => self.objects(call, caller, bucket, rest),
            _ => Err(no_route(call)),
        }
    }

    fn one_bucket(&self, call: &Call, caller: &Principal, bucket: &str) -> Result<Response> {
        let condition = Metageneration {
            matches: call.number("ifMetagenerationMatch")?,
            not_matches: call.number("ifMetagenerationNotMatch")?,
        };
        let found = match call.method {
            Method::GET => self.get_bucket(caller, bucket, condition)?,
            Method::PATCH => self.patch_bucket(caller, bucket, &call.json()?, condition)?,
            Method::DELETE => {
                self.delete_bucket(caller, bucket, condition)?;
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
            _ => return Err(no_route(call)),
        };
        Ok(ok(&found.json(&self.base(), self.identity.number())))
    }

    fn bucket_policy(&self, call: &Call, caller: &Principal, bucket: &str, rest: &[&str]) -> Result<Response> {
        let shown = |policy: &Policy| -> Result<Response> {
            let mut value = policy_json(policy)?;
            value["kind"] = json!("storage#policy");
            value["resourceId"] = json!(format!("projects/_/buckets/{bucket}"));
            Ok(ok(&value))
        };
        match (&call.method, rest) {
            (&Method::GET, []) => {
                let version = call.number("optionsRequestedPolicyVersion")?;
                let version = match version {
                    Some(version) => i32::try_from(version).unwrap_or(1),
                    None => requested_version(call)?,
                };
                shown(&self.get_policy(caller, bucket, version)?)
            }
            (&Method::PUT, []) => shown(&self.set_policy(caller, bucket, call.json()?)?),
            (&Method::GET, ["testPermissions"]) => {
                let permissions = self.test_permissions(caller, bucket, &call.query_all("permissions"))?;
                let mut answer = json!({ "kind": "storage#testIamPermissionsResponse" });
                if !permissions.is_empty() {
                    answer["permissions"] = json!(permissions);
                }
                Ok(ok(&answer))
            }
            _ => Err(no_route(call)),
        }
    }

    fn notification_configs(&self, call: &Call, caller: &Principal, bucket: &str, rest: &[&str]) -> Result<Response> {
        let number = |text: &str| text.parse().map_err(|_| Error::invalid(format!("Invalid notification: {text}")));
        match (&call.method, rest) {
            (&Method::POST, []) => {
                let (id, made) = self.create_notification(caller, bucket, call.json::<Notification>()?)?;
                Ok(ok(&made.json(&self.base(), bucket, id)))
            }
            (&Method::GET, []) => {
                let found = self.notifications(caller, bucket)?;
                let items = found.iter().map(|(id, it)| it.json(&self.base(), bucket, *id)).collect();
                Ok(ok(&page_json("storage#notifications", items, String::new())))
            }
            (&Method::GET, [id]) => {
                let id = number(id)?;
                let found = self.notifications(caller, bucket)?;
                let found = found.into_iter().find(|(other, _)| *other == id);
                let (_, found) = found.ok_or_else(|| no_notification(bucket, id))?;
                Ok(ok(&found.json(&self.base(), bucket, id)))
            }
            (&Method::DELETE, [id]) => {
                self.delete_notification(caller, bucket, number(id)?)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            _ => Err(no_route(call)),
        }
    }
}

fn page_json(kind: &str, items: Vec<Value>, next: String) -> Value {
    let mut answer = page::answer("items", items, next);
    answer["kind"] = json!(kind);
    answer
}

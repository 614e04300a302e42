//! Jobs and Pods of one namespace behind a `kube::Client`: what the orchestrator asks for, and no more.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, State, pods_of_pool};

/// A client of a process, which gets no answers once it is `killed`.
pub(crate) fn client(fixture: &Arc<Fixture>, killed: CancellationToken) -> kube::Client {
    let fixture = fixture.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let (fixture, killed) = (fixture.clone(), killed.clone());
        async move {
            if killed.is_cancelled() {
                std::future::pending::<()>().await;
            }
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let target = parts.uri.to_string();
            if target.contains("watch=true") {
                return Ok::<_, kube::Error>(watch(&fixture, &target));
            }
            if target == "/openid/v1/jwks" {
                return Ok(Response::new(Body::from(fixture.pool.keys().to_string())));
            }
            let (code, answer) =
                fixture.change(|state| answer(state, parts.method.as_str(), parts.uri.path(), &target, &body));
            Ok(Response::builder()
                .status(StatusCode::from_u16(code).unwrap())
                .body(Body::from(match answer {
                    Value::String(text) => text.into_bytes(),
                    other => other.to_string().into_bytes(),
                }))
                .unwrap())
        }
    });
    kube::Client::new(service, "bu1")
}

pub(crate) fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    (code, status)
}

fn answer(state: &mut State, method: &str, path: &str, target: &str, body: &Value) -> (u16, Value) {
    let mut name = path.rsplit('/').next().unwrap_or_default().to_owned();
    if path.ends_with("/log") {
        return (200, "a line of the log\n".into());
    }
    if path.contains("/configmaps/") {
        state
            .reports
            .extend(body["data"].as_object().into_iter().flatten().map(|(pod, text)| (pod.clone(), text.clone())));
        return (
            200,
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": state.reports}),
        );
    }
    // Of the pool's engines there are two, whose Jobs nobody looks at.
    if target.contains("deskgrid.dev%2Fpool%3Dtrue") {
        let (kind, items) = if path.contains("/pods") { ("PodList", pods_of_pool()) } else { ("JobList", Vec::new()) };
        return (200, json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}));
    }
    if name.starts_with("pool-") && path.contains("/pods") {
        let pod = pods_of_pool().into_iter().find(|pod| pod["metadata"]["name"] == name);
        return pod.map_or_else(|| failure(404, "NotFound", "not found"), |pod| (200, pod));
    }
    if method == "POST" && body["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("pool-")) {
        return failure(409, "AlreadyExists", "already exists");
    }
    if path.contains("/pods") {
        if method == "DELETE" {
            state.deleted_pods.push(name);
            return (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
        }
        state.lists += 1;
        if target.contains("fieldSelector") {
            let metadata = json!({"resourceVersion": state.pod_history.len().to_string()});
            let items: Vec<Value> =
                state.pods.values().filter(|pod| pod["status"]["phase"] != "Running").cloned().collect();
            return (200, json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}));
        }
        state.pod_reads += 1;
        let job = target.split("job-name%3D").nth(1).unwrap_or_default().split('&').next().unwrap_or_default();
        let pods: Vec<Value> = state.pods.get(job).cloned().into_iter().collect();
        return (200, json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}));
    }
    if method == "POST" {
        if let Some(failure) = state.create_fails.clone() {
            return failure;
        }
        if target.contains("dryRun=All") {
            return (201, body.clone());
        }
        name = body["metadata"]["name"].as_str().unwrap().to_owned();
        if let Some(failure) = state.create_fails_once.pop() {
            return failure;
        }
        if state.jobs.contains_key(&name) {
            return failure(409, "AlreadyExists", "already exists");
        }
        let mut job = body.clone();
        job["metadata"]["uid"] = format!("uid-{}", state.next()).into();
        job["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        *state.creations.entry(name.clone()).or_default() += 1;
        state.show(&name, job.clone(), "ADDED");
        return (201, job);
    }
    if name == "jobs" {
        state.lists += 1;
        let session = target.split("session%3D").nth(1).and_then(|rest| rest.split(['&', '%']).next());
        let is_wanted = |job: &&Value| session.is_none_or(|session| job["metadata"]["labels"]["session"] == session);
        let items: Vec<Value> = state.jobs.values().filter(is_wanted).cloned().collect();
        let metadata = json!({"resourceVersion": state.history.len().to_string()});
        return (200, json!({"kind": "JobList", "apiVersion": "batch/v1", "metadata": metadata, "items": items}));
    }
    let Some(mut job) = state.jobs.get(&name).cloned() else {
        return failure(404, "NotFound", "not found");
    };
    match method {
        "GET" => {}
        "DELETE" => {
            let uid = &body["preconditions"]["uid"];
            if !uid.is_null() && *uid != job["metadata"]["uid"] {
                return failure(409, "Conflict", "another uid");
            }
            state.delete(&name);
        }
        "PATCH" => {
            let patch = &body["metadata"];
            if patch["finalizers"].is_null() {
                for (key, value) in patch["annotations"].as_object().into_iter().flatten() {
                    job["metadata"]["annotations"][key] = value.clone();
                }
                state.show(&name, job.clone(), "MODIFIED");
                return (200, job);
            }
            if patch["resourceVersion"] != job["metadata"]["resourceVersion"] {
                return failure(409, "Conflict", "another version");
            }
            job["metadata"]["finalizers"] = patch["finalizers"].clone();
            if let Some(seconds) = body["spec"]["ttlSecondsAfterFinished"].as_u64() {
                job["spec"]["ttlSecondsAfterFinished"] = seconds.into();
            }
            let free = patch["finalizers"].as_array().is_none_or(Vec::is_empty);
            if free && !job["metadata"]["deletionTimestamp"].is_null() {
                state.remove(&name);
            } else {
                state.show(&name, job.clone(), "MODIFIED");
            }
        }
        _ => panic!("{method} {target}"),
    }
    (200, job)
}

/// The events since the requested version, and then the new ones.
fn watch(fixture: &Arc<Fixture>, target: &str) -> Response<Body> {
    let from = target.split("resourceVersion=").nth(1).and_then(|rest| rest.split('&').next()?.parse().ok());
    let is_of_pods = target.contains("/pods");
    if target.contains("deskgrid.dev%2Fpool%3Dtrue") {
        return Response::new(Body::from_stream(futures::stream::pending::<Result<Bytes, std::convert::Infallible>>()));
    }
    let stream = futures::stream::unfold((fixture.clone(), from.unwrap_or(0)), move |(fixture, next)| async move {
        let mut changes = fixture.changes();
        loop {
            changes.borrow_and_update();
            let event = {
                let state = fixture.state();
                let history = if is_of_pods { &state.pod_history } else { &state.history };
                history.get(next).cloned()
            };
            if let Some(event) = event {
                let line = Bytes::from(format!("{event}\n"));
                return Some((Ok::<_, std::convert::Infallible>(line), (fixture, next + 1)));
            }
            changes.changed().await.ok()?;
        }
    });
    Response::new(Body::from_stream(stream))
}

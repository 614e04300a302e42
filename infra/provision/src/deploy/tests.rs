//! Tests of the rollout's verdict and of the way objects are sent.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use std::{collections::BTreeMap, time::Duration};

use contract::labels;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use serde_json::Value;

use super::*;
use crate::{
    environment::tests::environment,
    manifests::{Images, render},
};

mod verdicts;
mod waits;

fn deployment(status: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "orchestrator", "generation": 2},
        "spec": {"replicas": 1, "selector": {}, "template": {
            "metadata": {"annotations": {CONFIG_HASH: "new"}},
            "spec": {"containers": [{"name": "orchestrator", "image": "i:2"}]}}},
        "status": status,
    }))
    .unwrap()
}

fn pod(hash: &str, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "orchestrator-x", "annotations": {CONFIG_HASH: hash}},
        "spec": {"containers": [{"name": "orchestrator", "image": "i:2"}]},
        "status": status,
    }))
    .unwrap()
}

fn container(waiting: Value) -> Value {
    crashed(waiting, 3)
}

fn crashed(waiting: Value, times: u32) -> Value {
    json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
        "restartCount": times, "state": {"waiting": waiting},
        "lastState": {"terminated": {"exitCode": 3}}}]})
}

/// A tiny API server: objects by path, and what was asked of it.
#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    objects: BTreeMap<String, Value>,
    asked: Vec<String>,
}

impl Cluster {
    async fn start() -> (Client, Self) {
        let cluster = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(cluster.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let client = Client::try_from(kube::Config::new(address.parse().unwrap())).unwrap();
        (client, cluster)
    }

    fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().objects.insert(path.to_owned(), object);
    }

    fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

async fn serve(State(cluster): State<Cluster>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut state = cluster.0.lock().unwrap();
    let Held { objects, asked } = &mut *state;
    let query = uri.query().unwrap_or_default();
    let dry = if query.contains("dryRun") { " (dry run)" } else { "" };
    asked.push(format!("{method} {}{dry}", uri.path()));
    let missing = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404});
    let missing = (StatusCode::NOT_FOUND, Json(missing)).into_response();
    if uri.path().ends_with("/log") {
        let log = objects.get(uri.path()).and_then(Value::as_str).unwrap_or("first\nboom\n").to_owned();
        return if query.contains("previous=true") { log.into_response() } else { missing };
    }
    if method == Method::PATCH {
        assert!(query.contains("fieldManager=deskgrid") && query.contains("fieldValidation=Strict"), "{query}");
        let mut object: Value = serde_json::from_slice(&body).unwrap();
        let old = objects.get(uri.path()).cloned().unwrap_or_default();
        let version = old["metadata"]["resourceVersion"].as_str().map_or(0, |text| text.parse::<u64>().unwrap());
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        if object != old {
            object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        }
        if dry.is_empty() {
            objects.insert(uri.path().to_owned(), object.clone());
        }
        return Json(object).into_response();
    }
    if let Some(object) = objects.get(uri.path()) {
        return Json(object.clone()).into_response();
    }
    let inside: Vec<&Value> = objects
        .iter()
        .filter(|(path, _)| path.rsplit_once('/').is_some_and(|(parent, _)| parent == uri.path()))
        .map(|(_, object)| object)
        .collect();
    match uri.path().rsplit('/').next() {
        Some("deployments" | "pods" | "configmaps" | "events") if !query.contains("part-of") => {
            Json(json!({"metadata": {"resourceVersion": "1"}, "items": inside})).into_response()
        }
        _ => missing,
    }
}

/// A cloud of which these tests ask only the cluster.
fn cloud(cluster: Client) -> crate::Cloud {
    let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
    let google =
        crate::google::Client::new(crate::google::Endpoints::all_at("http://127.0.0.1:1"), credentials).unwrap();
    crate::Cloud { google, kubernetes: Ok(cluster), server: None, endpoints: contract::config::Endpoints::default() }
}

fn rendered() -> Rendered {
    let text = "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n[businesses.bu2]\n";
    let images = Images { orchestrator: "i:1".to_owned(), engine: "i:2".to_owned() };
    render(&environment(text), &contract::config::Endpoints::default(), &images).unwrap()
}

#[tokio::test]
async fn objects_are_applied_in_order_and_once() {
    let (client, cluster) = Cluster::start().await;
    let rendered = rendered();
    let applied = apply(&client, "e", &rendered, Foreign::Refuse).await.unwrap();
    assert!(applied.iter().all(|applied| applied.change == Change::Created) && applied.len() == 23, "{applied:?}");
    let patched = |asked: Vec<String>| -> Vec<String> {
        asked.into_iter().filter(|line| is_write(line) && line.contains("bu1")).collect()
    };
    assert_eq!(
        patched(cluster.take_asked()),
        [
            "PATCH /api/v1/namespaces/bu1",
            "PATCH /api/v1/namespaces/bu1/configmaps/deskgrid-applyset",
            "PATCH /api/v1/namespaces/bu1/resourcequotas/deskgrid",
            "PATCH /api/v1/namespaces/bu1/serviceaccounts/orchestrator",
            "PATCH /api/v1/namespaces/bu1/serviceaccounts/engine",
            "PATCH /apis/rbac.authorization.k8s.io/v1/namespaces/bu1/roles/orchestrator",
            "PATCH /apis/rbac.authorization.k8s.io/v1/namespaces/bu1/rolebindings/orchestrator",
            "PATCH /apis/networking.k8s.io/v1/namespaces/bu1/networkpolicies/engine",
            "PATCH /apis/networking.k8s.io/v1/namespaces/bu1/networkpolicies/orchestrator",
            "PATCH /api/v1/namespaces/bu1/configmaps/deskgrid-config",
            "PATCH /apis/apps/v1/namespaces/bu1/deployments/orchestrator",
            "PATCH /apis/policy/v1/namespaces/bu1/poddisruptionbudgets/orchestrator",
        ]
    );
    let again = apply(&client, "e", &rendered, Foreign::Refuse).await.unwrap();
    assert!(again.iter().all(|applied| applied.change == Change::Unchanged), "{again:?}");
    let asked = cluster.take_asked();
    assert!(!asked.iter().any(|line| is_write(line)), "what changes nothing writes nothing: {asked:?}");
}

fn is_write(line: &str) -> bool {
    !line.starts_with("GET") && !line.ends_with("(dry run)")
}

#[tokio::test]
async fn a_namespace_of_somebody_else_is_refused_before_any_write() {
    for labels in [json!({}), json!({labels::MANAGED_BY: "deskgrid", ENVIRONMENT: "other"})] {
        let (client, cluster) = Cluster::start().await;
        let theirs = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bu2", "labels": labels}});
        cluster.put("/api/v1/namespaces/bu2", theirs);
        let error = apply(&client, "e", &rendered(), Foreign::Refuse).await.unwrap_err().to_string();
        assert!(error.contains("the namespace bu2"), "{error}");
        assert!(!cluster.take_asked().iter().any(|line| is_write(line)));
    }
}

#[tokio::test]
async fn a_rollout_is_waited_for_and_a_crash_shows_its_last_lines() {
    let (client, cluster) = Cluster::start().await;
    let path = "/apis/apps/v1/namespaces/bu1/deployments/orchestrator";
    let ready = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
    cluster.put(path, serde_json::to_value(deployment(ready)).unwrap());
    let limit = Duration::from_secs(20);
    wait(&client, "bu1", "orchestrator", limit).await.unwrap();

    cluster.put(path, serde_json::to_value(deployment(json!({"observedGeneration": 2, "replicas": 1}))).unwrap());
    let crashing = pod("new", container(json!({"reason": "CrashLoopBackOff"})));
    cluster.put("/api/v1/namespaces/bu1/pods/orchestrator-x", serde_json::to_value(crashing).unwrap());
    let error = wait(&client, "bu1", "orchestrator", limit).await.unwrap_err().to_string();
    assert!(error.ends_with("ends again and again with exit code 3\nits last log lines are:\nfirst\nboom"), "{error}");
}

#[tokio::test]
async fn a_deployment_writes_down_what_it_did_and_waits() {
    let (client, cluster) = Cluster::start().await;
    let environment = environment("project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n");
    let cloud = cloud(client);
    let folder = tempfile::tempdir().unwrap();
    let images = Images { orchestrator: "i:1".to_owned(), engine: "i:2".to_owned() };
    let options = Options { limit: Duration::from_secs(20), ..Options::new(images, folder.path().to_owned()) };
    // The controller's part: the Deployment is ready as soon as it is there.
    let controller = cluster.clone();
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let progress: Progress = Arc::new(move |event| {
        if let Event::Waiting { .. } = event {
            let mut held = controller.0.lock().unwrap();
            let deployment = held.objects.get_mut("/apis/apps/v1/namespaces/bu1/deployments/orchestrator").unwrap();
            deployment["status"] = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        }
        seen.lock().unwrap().push(serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned());
    });
    let report = run(&environment, &cloud, &options, &progress).await.unwrap();
    assert_eq!((report.changed, report.objects.len()), (12, 12));
    assert_eq!(events.lock().unwrap().last().unwrap(), "ready");
    contract::config::Config::read(&folder.path().join("config.json")).unwrap();
    assert!(folder.path().join("manifests/bu1/orchestrator.yaml").is_file());
}

/// Every kind that a release had is found again after its template went.
#[test]
fn the_version_of_every_kind_is_known_without_its_template() {
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))];
    let mut kinds = std::collections::BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(path).unwrap();
                let lines: Vec<&str> = text.lines().collect();
                for pair in lines.windows(2) {
                    if let (Some(version), Some(kind)) =
                        (pair[0].strip_prefix("apiVersion: "), pair[1].strip_prefix("kind: "))
                    {
                        kinds.insert((version.to_owned(), kind.to_owned()));
                    }
                }
            }
        }
    }
    assert!(kinds.len() > 15 && kinds.iter().any(|(version, _)| version.ends_with("v1beta1")), "{kinds:?}");
    for (version, kind) in kinds {
        assert_eq!(applyset::api_version(&applyset::group_kind(&version, &kind)), version, "{kind}");
    }
}

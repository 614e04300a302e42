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

use common::labels;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Event as PodEvent, Pod},
};
use serde_json::Value;

use super::*;
use crate::{
    environment::tests::environment,
    manifests::{Images, render},
};

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

const PATIENCE: Patience = Patience {
    unscheduled: Duration::from_secs(10),
    creating: Duration::from_secs(10),
    unready: Duration::from_secs(10),
    identity: Duration::from_secs(60),
};

/// What was seen of the pod, beside its status.
#[derive(Default)]
struct Sight {
    seconds: u64,
    events: Vec<(&'static str, &'static str)>,
    log: &'static str,
}

/// A rollout in progress with this pod is judged like this.
fn check_sight(pod_hash: &str, pod_status: Value, sight: &Sight, expected: &str) {
    let deployment =
        deployment(json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}));
    let events: Vec<PodEvent> = sight
        .events
        .iter()
        .map(|(reason, message)| {
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "reason": reason, "message": message}))
                .unwrap()
        })
        .collect();
    let pod = pod(pod_hash, pod_status);
    let seen = Seen { pod: &pod, lasting: Duration::from_secs(sight.seconds), events: &events, log: sight.log };
    let found = match verdict(&deployment, None, [seen].into_iter(), &PATIENCE) {
        Verdict::Ready => "ready".to_owned(),
        Verdict::Waiting { why, scaling } => format!("{}: {why}", if scaling { "scaling" } else { "waiting" }),
        Verdict::Failed(cause) => format!("{}: {}", cause.why.code(), cause.seen),
    };
    assert_eq!(found, expected);
}

fn check(pod_hash: &str, pod_status: Value, expected: &str) {
    check_sight(pod_hash, pod_status, &Sight::default(), expected);
}

#[test]
fn a_rollout_is_judged_by_the_new_pods() {
    let pull = json!({"reason": "ImagePullBackOff", "message": "not found"});
    check("new", container(pull.clone()), "image-pull: the image i:2 cannot be pulled: not found");
    check("old", container(pull), "waiting: 1 of 1 pods are ready");
    check(
        "new",
        container(json!({"reason": "ErrImagePull"})),
        "waiting: the container orchestrator of orchestrator-x is in ErrImagePull",
    );
    check_sight(
        "new",
        container(json!({"reason": "CrashLoopBackOff"})),
        &Sight { log: "first\nboom", ..Sight::default() },
        "crash-loop: the container orchestrator ends again and again with exit code 3\nits last log lines are:\nfirst\nboom",
    );
    check(
        "new",
        container(json!({"reason": "CreateContainerConfigError", "message": "secret \"k\" not found"})),
        "pod-config: the container orchestrator cannot be started: secret \"k\" not found",
    );
}

#[test]
fn a_crash_may_be_bad_luck_or_a_grant_that_is_not_known_yet() {
    let looping = || json!({"reason": "CrashLoopBackOff"});
    check(
        "new",
        crashed(looping(), 1),
        "waiting: the container orchestrator of orchestrator-x ended with exit code 3 and is started again",
    );
    let log = "Permission 'iam.serviceAccounts.getAccessToken' denied";
    let said = "Google does not let the pod orchestrator-x be who it should be: \
                Permission 'iam.serviceAccounts.getAccessToken' denied";
    let sight = |seconds| Sight { seconds, log, ..Sight::default() };
    check_sight("new", crashed(looping(), 9), &sight(59), &format!("waiting: {said}"));
    check_sight("new", crashed(looping(), 9), &sight(60), &format!("identity: {said}"));
}

#[test]
fn a_pod_without_a_node_is_a_failure_unless_one_is_on_its_way() {
    let unscheduled =
        || json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]});
    let said = "no node takes the pod orchestrator-x: 0/1 nodes are available";
    let sight = |seconds, events| Sight { seconds, events, log: "" };
    check_sight("new", unscheduled(), &sight(9, vec![]), &format!("waiting: {said}"));
    check_sight("new", unscheduled(), &sight(10, vec![]), &format!("unschedulable: {said}"));
    check_sight(
        "new",
        unscheduled(),
        &sight(100, vec![("NotTriggerScaleUp", "max size"), ("TriggeredScaleUp", "pool 1->2 (max: 8)")]),
        "scaling: a node is being made for the pod orchestrator-x: pool 1->2 (max: 8)",
    );
    check_sight(
        "new",
        unscheduled(),
        &sight(0, vec![("NotTriggerScaleUp", "1 max node group size reached")]),
        &format!("unschedulable: {said}; the autoscaler makes none: 1 max node group size reached"),
    );
    let mut nominated = unscheduled();
    nominated["nominatedNodeName"] = json!("n1");
    let waits = "waiting: the pod orchestrator-x takes the place of less important ones on n1";
    check_sight("new", nominated, &sight(100, vec![]), waits);
}

#[test]
fn a_pod_that_runs_and_is_not_ready_is_a_failure_after_a_while() {
    let unready = || {
        json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"running": {}}}]})
    };
    let probe = || vec![("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")];
    let said =
        "the pod orchestrator-x runs and is not ready: Readiness probe failed: HTTP probe failed with statuscode: 503";
    let sight = |seconds, log| Sight { seconds, events: probe(), log };
    check_sight("new", unready(), &sight(9, "no topic"), &format!("waiting: {said}"));
    check_sight("new", unready(), &sight(10, "no topic"), &format!("probe: {said}\nits last log lines are:\nno topic"));
    let mut restarted = unready();
    restarted["containerStatuses"][0]["restartCount"] = json!(1);
    check_sight(
        "new",
        restarted,
        &Sight { seconds: 100, ..Sight::default() },
        "waiting: the pod orchestrator-x runs and is not ready: it is not ready",
    );
    // It ended by itself, and a startup probe had asked it before; then again, with a probe that had it ended.
    let mut ended = unready();
    ended["containerStatuses"][0]["restartCount"] = json!(1);
    ended["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 1}});
    check_sight("new", ended.clone(), &sight(100, "no topic"), &format!("waiting: {said}"));
    let mut killed = sight(100, "");
    killed.events.push(("Killing", "Container orchestrator failed startup probe, will be restarted"));
    check_sight("new", ended, &killed, &format!("probe: {said}"));
    let refused = "receive: PERMISSION_DENIED: not you";
    let said = "Google does not let the pod orchestrator-x be who it should be: receive: PERMISSION_DENIED: not you";
    check_sight("new", unready(), &sight(59, refused), &format!("waiting: {said}"));
    check_sight("new", unready(), &sight(60, refused), &format!("identity: {said}"));
    let creating = json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]});
    let mount = Sight { seconds: 10, events: vec![("FailedMount", "secret \"k\" not found")], log: "" };
    let said = "pod-config: the pod orchestrator-x cannot be set up: secret \"k\" not found";
    check_sight("new", creating, &mount, said);
}

#[test]
fn a_rollout_is_done_when_only_new_pods_are_left() {
    let judge = |status: Value| verdict(&deployment(status), None, [].into_iter(), &PATIENCE);
    assert_eq!(
        judge(json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})),
        Verdict::Ready
    );
    assert!(matches!(
        judge(json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})),
        Verdict::Waiting { .. }
    ));
    assert!(matches!(judge(json!(null)), Verdict::Waiting { .. }));
}

#[test]
fn pods_that_are_refused_are_those_of_the_present_template() {
    let set = |revision: &str, conditions: Value| -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {
                "annotations": {"deployment.kubernetes.io/revision": revision},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u"}]},
            "status": {"replicas": 0, "conditions": conditions}}))
        .unwrap()
    };
    let condition = |message: &str| json!([{"type": "ReplicaFailure", "status": "True", "message": message}]);
    let stale = condition("exceeded quota: of before");
    let mut deployment = deployment(json!({"observedGeneration": 2, "conditions": stale}));
    deployment.metadata.uid = Some("u".to_owned());
    deployment.metadata.annotations =
        Some([("deployment.kubernetes.io/revision".to_owned(), "3".to_owned())].into_iter().collect());
    let judge = |sets: &[ReplicaSet]| {
        verdict(&deployment, rollout::refused(&deployment, sets.iter()), [].into_iter(), &PATIENCE)
    };
    for (message, code) in [("exceeded quota: pods", "quota"), ("violates PodSecurity", "admission")] {
        let sets = [set("2", stale.clone()), set("3", condition(message))];
        let Verdict::Failed(cause) = judge(&sets) else { panic!("{message} is a failure") };
        assert_eq!((cause.why.code(), cause.seen), (code, format!("its pods are refused: {message}")));
    }
    let cured = [set("2", stale.clone()), set("3", json!([]))];
    assert!(matches!(judge(&cured), Verdict::Waiting { .. }), "what an older template was refused for is over");
    assert!(matches!(judge(&cured[..1]), Verdict::Waiting { .. }));
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
        return if query.contains("previous=true") { "first\nboom\n".into_response() } else { missing };
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

fn rendered() -> Rendered {
    let text = "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n[businesses.bu2]\n";
    let images = Images { orchestrator: "i:1".to_owned(), engine: "i:2".to_owned() };
    render(&environment(text), &common::config::Endpoints::default(), &images).unwrap()
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
    let google = crate::fake::Fake::start().await.cloud.google;
    let cloud = crate::Cloud { google, kubernetes: Ok(client), endpoints: common::config::Endpoints::default() };
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
    common::config::Config::read(&folder.path().join("config.json")).unwrap();
    assert!(folder.path().join("manifests/bu1/orchestrator.yaml").is_file());
}

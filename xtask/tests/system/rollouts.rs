//! Rollouts that fail, each provoked and told apart in seconds; and deploys that must not write, or take back.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use contract::outcome::State;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, ResourceQuota},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use localcloud::kubernetes::{NodeSettings, Pool};
use provision::{
    deploy::{self, Cause, Change, Failed, Foreign, Patience, PreviewOptions, Rollout, Why},
    failure::Failure,
    google::{Api as GoogleApi, Method, Request},
    manifests::Rendered,
};
use serde_json::{Value, json};

use crate::world::{World, eventually};

const BUSINESS: &str = "bu1";
/// Safety net: no verdict may need it.
const LIMIT: Duration = Duration::from_secs(240);

fn patience(seconds: u64) -> Patience {
    let time = Duration::from_secs(seconds);
    Patience { unscheduled: time, pulling: time, creating: time, unready: time, refused: time, identity: time }
}

/// What was rendered, with a change to the orchestrator's Deployment.
fn changed(world: &World, change: impl Fn(&mut Value)) -> Rendered {
    let mut rendered = world.rendered.clone();
    for file in &mut rendered.files {
        for object in file.objects.iter_mut().filter(|object| object["kind"] == "Deployment") {
            // A template of its own, so that pods of another one are told apart.
            static TEMPLATES: AtomicU32 = AtomicU32::new(0);
            let hash = format!("test-{}", TEMPLATES.fetch_add(1, Ordering::Relaxed));
            object["spec"]["template"]["metadata"]["annotations"]["deskgrid.dev/config-hash"] = json!(hash);
            change(object);
        }
    }
    rendered
}

fn rollout(seconds: u64) -> Rollout {
    Rollout {
        namespace: BUSINESS.to_owned(),
        name: "orchestrator".to_owned(),
        limit: LIMIT,
        patience: patience(seconds),
    }
}

async fn apply(world: &World, rendered: &Rendered) {
    deploy::apply(&world.kube, &world.environment.name, rendered, Foreign::Refuse).await.unwrap();
}

/// Deploys with this change to the Deployment and gives the verdict on that.
async fn verdict(world: &World, change: impl Fn(&mut Value)) -> Cause {
    apply(world, &changed(world, change)).await;
    let started = Instant::now();
    let error = deploy::wait_for(&world.kube, &rollout(2), &|_| {}).await.unwrap_err();
    assert!(started.elapsed() < LIMIT / 2, "a verdict after {:?} is none in seconds", started.elapsed());
    error.downcast::<Failed>().unwrap().cause
}

fn container(deployment: &mut Value) -> &mut Value {
    &mut deployment["spec"]["template"]["spec"]["containers"][0]
}

#[track_caller]
fn assert_says(cause: &Cause, why: Why, words: &str) {
    assert_eq!(cause.why, why, "{}", cause.seen);
    assert!(cause.seen.contains(words), "there is no {words:?} in: {}", cause.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_trouble_of_a_pod_has_its_verdict() {
    let world = World::start(&[BUSINESS], "").await;
    let image = "registry/orchestrator@sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let cause = verdict(&world, |deployment| container(deployment)["image"] = json!(image)).await;
    assert_says(&cause, Why::ImagePull, "sha256:0000");
    assert_says(&cause, Why::ImagePull, "not found");

    let script = "echo it begins; echo boom; exit 7";
    let cause = verdict(&world, |deployment| container(deployment)["command"] = json!(["/bin/sh", "-c", script])).await;
    assert_says(&cause, Why::CrashLoop, "exit code 7");
    assert_says(&cause, Why::CrashLoop, "it begins\nboom");

    let large = |deployment: &mut Value| container(deployment)["resources"]["requests"]["cpu"] = json!("100");
    let cause = verdict(&world, large).await;
    assert_says(&cause, Why::Unschedulable, "Insufficient cpu");

    let probe = |deployment: &mut Value| container(deployment)["readinessProbe"]["httpGet"]["path"] = json!("/nothing");
    let cause = verdict(&world, probe).await;
    assert_says(&cause, Why::Probe, "404");

    let secret = json!({"name": "x", "valueFrom": {"secretKeyRef": {"name": "none", "key": "none"}}});
    let missing = |deployment: &mut Value| container(deployment)["env"].as_array_mut().unwrap().push(secret.clone());
    let cause = verdict(&world, missing).await;
    assert_says(&cause, Why::PodConfig, "none");

    // After all of that, a good one comes on.
    world.deploy().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_a_quota_or_a_policy_refuses_are_told_apart() {
    let world = World::start(&[BUSINESS], "").await;
    world.apply_without_orchestrators().await;
    let cause = verdict(&world, |deployment| {
        container(deployment)["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    })
    .await;
    assert_says(&cause, Why::Admission, "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation");

    let quotas: Api<ResourceQuota> = Api::namespaced(world.kube.clone(), BUSINESS);
    let quota = json!({"metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    let cause = verdict(&world, |_| {}).await;
    assert_says(&cause, Why::Quota, "exceeded quota: no-pods");
    quotas.delete("no-pods", &DeleteParams::default()).await.unwrap();
    world.deploy().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_on_its_way_is_waited_for_and_one_that_never_comes_is_not() {
    let world = World::start(&[BUSINESS], "").await;
    let node = NodeSettings { cpu: 200, ..NodeSettings::named("pool") };
    world.cloud.kubernetes.autoscale(Pool { node, most: 1, takes: Duration::from_secs(6) });
    let large = changed(&world, |deployment| container(deployment)["resources"]["requests"]["cpu"] = json!("100"));
    apply(&world, &large).await;
    // Long after the patience with a pod that nobody makes a node for.
    let told = std::sync::Mutex::new(Vec::new());
    deploy::wait_for(&world.kube, &rollout(2), &|why| told.lock().unwrap().push(why.to_owned())).await.unwrap();
    let told = told.lock().unwrap().join("\n");
    assert!(told.contains("a node is being made for the pod") && told.contains("0->1 (max: 1)"), "{told}");

    let larger = |deployment: &mut Value| container(deployment)["resources"]["requests"]["cpu"] = json!("190");
    let cause = verdict(&world, larger).await;
    assert_says(&cause, Why::Unschedulable, "max node group size reached");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_binding_is_named_with_what_makes_it() {
    let world = World::start(&[BUSINESS], "").await;
    let account = &world.environment.business(BUSINESS).unwrap().accounts.orchestrator;
    let path = format!("v1/projects/{}/serviceAccounts/{account}:setIamPolicy", world.environment.project);
    let nobody = Request::new(GoogleApi::Iam, Method::Post, path).body(json!({"policy": {"bindings": []}}));
    world.clients.google.send(&nobody).await.unwrap();
    let options = deploy::Options {
        limit: LIMIT,
        patience: patience(2),
        ..deploy::Options::new(world.images.clone(), world.folder().join("generated"))
    };
    let silent: deploy::Progress = std::sync::Arc::new(|_| {});
    let error = deploy::run(&world.environment, &world.clients, &options, &silent).await.unwrap_err();
    let failure = error.downcast::<Failure>().unwrap();
    assert_eq!(failure.code, "identity", "{failure}");
    assert!(failure.why.contains("these are not as they should be") && failure.why.contains(account), "{failure}");
    assert!(failure.next.contains("cargo xtask provision"), "{failure}");
    world.stop().await;
}

async fn versions(world: &World) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let looked =
        deploy::preview_rendered(&world.kube, "test", &world.rendered, None, PreviewOptions::default()).await.unwrap();
    for planned in looked.objects() {
        let live = planned.live.as_ref().unwrap();
        // The status of a Deployment changes by itself, what was asked of it does not.
        let version = &live["metadata"][if live["kind"] == "Deployment" { "generation" } else { "resourceVersion" }];
        versions.insert(planned.title(), version.to_string());
    }
    versions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_that_changes_nothing_writes_nothing() {
    let world = World::start(&[BUSINESS, "bu2"], "").await;
    world.deploy().await;
    let before = versions(&world).await;
    let preview =
        deploy::preview_rendered(&world.kube, "test", &world.rendered, None, PreviewOptions::default()).await.unwrap();
    assert!(preview.is_empty() && preview.changes().is_empty(), "{:?}", preview.changes());
    // A write, even one that would change nothing, is refused from here on; trying out is not.
    let namespaces = ["/namespaces/bu1", "/namespaces/bu2"];
    let writes = namespaces.map(|path| {
        let when = localcloud::faults::When::Always;
        ["POST", "PUT", "DELETE"].map(|method| {
            world.cloud.faults().add(method, &format!("/api/v1{path}"), when, localcloud::faults::Fault::Answer(500))
        })
    });
    apply(&world, &world.rendered).await;
    assert_eq!(versions(&world).await, before);
    let met: usize = writes.iter().flatten().map(|point| world.cloud.faults().met(*point)).sum();
    assert_eq!(met, 0);
    world.cloud.faults().clear();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_of_another_tool_is_not_taken_over_unasked() {
    let world = World::start(&[BUSINESS], "").await;
    world.deploy().await;
    let deployments: Api<Deployment> = Api::namespaced(world.kube.clone(), BUSINESS);
    let scale = Patch::Apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2}}));
    deployments.patch("orchestrator", &PatchParams::apply("autoscaler").force(), &scale).await.unwrap();

    let refused = deploy::apply(&world.kube, "test", &world.rendered, Foreign::Refuse).await.unwrap_err();
    let failure = refused.downcast::<Failure>().unwrap();
    assert_eq!(failure.code, "field-conflict");
    assert!(
        failure.why.contains("Deployment bu1/orchestrator: .spec.replicas is owned by \"autoscaler\""),
        "{failure}"
    );
    assert!(failure.next.contains("--force-conflicts"), "{failure}");
    let replicas = async || deployments.get("orchestrator").await.unwrap().spec.unwrap().replicas;
    assert_eq!(replicas().await, Some(2), "nothing was written");

    let options = deploy::Options {
        force_conflicts: true,
        ..deploy::Options::new(world.images.clone(), world.folder().join("generated"))
    };
    let silent: deploy::Progress = std::sync::Arc::new(|_| {});
    deploy::run(&world.environment, &world.clients, &options, &silent).await.unwrap();
    assert_eq!(replicas().await, Some(1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_shows_what_differs_and_a_failed_rollout_is_taken_back() {
    let world = World::start(&[BUSINESS], "").await;
    world.deploy().await;
    let deployments: Api<Deployment> = Api::namespaced(world.kube.clone(), BUSINESS);
    let maps: Api<ConfigMap> = Api::namespaced(world.kube.clone(), BUSINESS);
    let before = (deployments.get("orchestrator").await.unwrap().spec, maps.get("deskgrid-config").await.unwrap().data);

    // Another limit, and an image that does not exist.
    let mut environment = world.environment.clone();
    environment.businesses[0].max_active_jobs += 1;
    let mut images = world.images.clone();
    images.orchestrator = format!("registry/orchestrator@sha256:{}", "0".repeat(64));
    let options = deploy::Options {
        rollback: true,
        limit: LIMIT,
        ..deploy::Options::new(images, world.folder().join("generated"))
    };
    let preview = deploy::plan(&environment, &world.clients, &options).await.unwrap();
    let changes = preview.changes();
    let of = |kind: &str| changes.iter().find(|change| change.applied.kind == kind).unwrap();
    assert_eq!(of("ConfigMap").applied.change, Change::Changed);
    let lines = &of("ConfigMap").difference;
    assert!(lines.contains("-        \"max_active_jobs\": 8") || lines.contains("\"max_active_jobs\": 8"), "{lines}");
    assert!(of("Deployment").difference.contains("+        image: "), "{}", of("Deployment").difference);

    let silent: deploy::Progress = std::sync::Arc::new(|_| {});
    let error = deploy::run(&environment, &world.clients, &options, &silent).await.unwrap_err();
    let failure = error.downcast::<Failure>().unwrap();
    assert_eq!(failure.code, "image-pull", "{failure}");
    assert!(failure.why.contains("bu1/orchestrator runs as before"), "{failure}");
    let after = (deployments.get("orchestrator").await.unwrap().spec, maps.get("deskgrid-config").await.unwrap().data);
    assert_eq!(after, before);
    let preview =
        deploy::preview_rendered(&world.kube, "test", &world.rendered, None, PreviewOptions::default()).await.unwrap();
    assert!(preview.is_empty(), "as if nothing had been: {:?}", preview.changes());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_applied_before_a_refusal_is_taken_back_too() {
    let world = World::start(&[BUSINESS], "").await;
    world.deploy().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.kube.clone(), BUSINESS);
    let before = maps.get("deskgrid-config").await.unwrap().data;
    let mut environment = world.environment.clone();
    environment.businesses[0].max_active_jobs += 1;
    let options = deploy::Options {
        rollback: true,
        limit: LIMIT,
        ..deploy::Options::new(world.images.clone(), world.folder().join("generated"))
    };
    // The first is the one that only tries out, the third the one that takes back.
    let second = localcloud::faults::When::Between(2, 2);
    let path = "/apis/apps/v1/namespaces/bu1/deployments/orchestrator";
    let point = world.cloud.faults().add("PATCH", path, second, localcloud::faults::Fault::Answer(403));
    let silent: deploy::Progress = std::sync::Arc::new(|_| {});
    let error = deploy::run(&environment, &world.clients, &options, &silent).await.unwrap_err();
    assert_eq!(world.cloud.faults().met(point), 1);
    world.cloud.faults().clear();
    let failure = error.downcast::<Failure>().unwrap();
    assert!(failure.why.contains("bu1/orchestrator runs as before"), "{failure}");
    assert_eq!(maps.get("deskgrid-config").await.unwrap().data, before);
    let preview =
        deploy::preview_rendered(&world.kube, "test", &world.rendered, None, PreviewOptions::default()).await.unwrap();
    assert!(preview.is_empty(), "as if nothing had been: {:?}", preview.changes());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_in_the_middle_of_a_session_loses_and_repeats_nothing() {
    let world = World::start(&[BUSINESS], "").await;
    world.deploy().await;
    let mut expected = BTreeMap::new();
    for index in 0..60 {
        let work = world.upload(BUSINESS, "session", &format!("job-{index}"), "payload").await;
        world.publish(&work).await;
        expected.insert(work.identity.object, State::Succeeded);
    }
    eventually("the session is on its way", async || !world.outcomes(BUSINESS).await.is_empty()).await;
    for version in ["two", "three"] {
        let mut next = world.rendered.clone();
        for object in next.files.iter_mut().flat_map(|file| &mut file.objects) {
            if object["kind"] == "Deployment" {
                object["spec"]["template"]["metadata"]["annotations"]["deskgrid.dev/config-hash"] = json!(version);
            }
        }
        apply(&world, &next).await;
        deploy::wait_for(&world.kube, &rollout(60), &|_| {}).await.unwrap();
    }
    world.assert_equation(BUSINESS, &expected).await;
    world.stop().await;
}

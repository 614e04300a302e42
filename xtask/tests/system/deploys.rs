//! What people do to a business while work is on its way: a bad deploy, and a stop in the middle of a flood. On any
//! cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contract::outcome::State;
use futures::StreamExt as _;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, ResourceQuota},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::watcher,
};
use orchestrator::Hooks;
use serde_json::json;

use crate::world::{World, eventually};

const BUSINESS: &str = "bu1";

/// Uploads and publishes some work that succeeds.
async fn submit(world: &World, prefix: &str, count: usize) -> BTreeMap<String, State> {
    let mut expected = BTreeMap::new();
    for index in 0..count {
        let work = world.upload(BUSINESS, "session", &format!("{prefix}-{index}"), "payload").await;
        world.publish(&work).await;
        expected.insert(work.identity.object, State::Succeeded);
    }
    expected
}

/// Nothing came of what was published: no outcome, no Job, and so the messages still wait.
async fn assert_nothing_came(world: &World) {
    assert_eq!(world.outcomes(BUSINESS).await, []);
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), &world.business(BUSINESS).namespace);
    assert_eq!(jobs.list(&ListParams::default()).await.unwrap().items, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_template_stops_intake_and_loses_nothing() {
    let world = World::start(&[BUSINESS], "").await;
    world.apply_without_orchestrators().await;
    let expected = submit(&world, "job", 3).await;
    let broken = world
        .orchestrator_with(BUSINESS, Hooks::none(), |job| {
            job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "plenty".into();
        })
        .await;
    broken.wait_until(false, "refuses the Job template").await;
    assert_nothing_came(&world).await;
    broken.stop().await;
    let fixed = world.orchestrator(BUSINESS, Hooks::none()).await;
    fixed.wait_until(true, "").await;
    world.assert_equation(BUSINESS, &expected).await;
    fixed.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_role_stops_intake_and_loses_nothing() {
    let world = World::start(&[BUSINESS], "").await;
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator(BUSINESS, Hooks::none()).await;
    orchestrator.wait_until(true, "").await;
    let bindings: Api<RoleBinding> = Api::namespaced(world.kube.clone(), &world.business(BUSINESS).namespace);
    bindings.delete("orchestrator", &DeleteParams::default()).await.unwrap();
    // The API server learns of it a moment later.
    let namespace = world.business(BUSINESS).namespace.clone();
    let client = world.client_of_orchestrator(BUSINESS).await;
    let jobs: Api<Job> = Api::namespaced(client, &namespace);
    eventually("the orchestrator may no longer list Jobs", async || {
        jobs.list(&ListParams::default().limit(1)).await.is_err()
    })
    .await;
    let expected = submit(&world, "job", 3).await;
    orchestrator.wait_until(false, "forbidden").await;
    assert_nothing_came(&world).await;
    world.apply_without_orchestrators().await;
    orchestrator.wait_until(true, "").await;
    // What was given back meanwhile is delivered again after the retry policy's pause.
    world.pass(Duration::from_secs(61)).await;
    world.assert_equation(BUSINESS, &expected).await;
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_namespace_stops_intake_and_loses_nothing() {
    let world = World::start(&[BUSINESS], "").await;
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator(BUSINESS, Hooks::none()).await;
    orchestrator.wait_until(true, "").await;
    let namespaces: Api<Namespace> = Api::all(world.kube.clone());
    let namespace = world.business(BUSINESS).namespace.clone();
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", async || namespaces.get_opt(&namespace).await.unwrap().is_none()).await;
    let expected = submit(&world, "job", 3).await;
    orchestrator.wait_until(false, "refuses").await;
    assert_eq!(world.outcomes(BUSINESS).await, []);
    // Its service account went too, and so does it: a Deployment comes back with the namespace.
    orchestrator.stop().await;
    world.apply_without_orchestrators().await;
    let next = world.orchestrator(BUSINESS, Hooks::none()).await;
    world.pass(Duration::from_secs(61)).await;
    world.assert_equation(BUSINESS, &expected).await;
    next.stop().await;
    world.stop().await;
}

/// Ended Jobs count too, so the quota stays full until somebody raises it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_quota_keeps_messages_waiting_and_refuses_none() {
    let world = World::start(&[BUSINESS], "").await;
    world.apply_without_orchestrators().await;
    let namespace = world.business(BUSINESS).namespace.clone();
    let quotas: Api<ResourceQuota> = Api::namespaced(world.kube.clone(), &namespace);
    let quota: ResourceQuota = serde_json::from_value(json!({
        "metadata": {"name": "full"}, "spec": {"hard": {"count/jobs.batch": "2"}},
    }))
    .unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    let expected = submit(&world, "job", 6).await;
    let orchestrator = world.orchestrator(BUSINESS, Hooks::none()).await;
    eventually("two Jobs are settled", async || world.outcomes(BUSINESS).await.len() == 2).await;
    eventually("a create is tried again because of the quota", async || {
        orchestrator.metrics().await.lines().any(|line| line.contains("reason=\"quota\"") && !line.ends_with(" 0"))
    })
    .await;
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), &namespace);
    assert_eq!(jobs.list(&ListParams::default()).await.unwrap().items.len(), 2);
    assert_eq!(world.outcomes(BUSINESS).await.len(), 2, "what has no room yet has no outcome");
    let more = Patch::Merge(json!({"spec": {"hard": {"count/jobs.batch": "100"}}}));
    quotas.patch("full", &PatchParams::default(), &more).await.unwrap();
    world.assert_equation(BUSINESS, &expected).await;
    orchestrator.stop().await;
    world.stop().await;
}

/// The grace period of its Pod is 30 seconds; ten of them are meant for this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_of_a_flood_is_quick_and_loses_and_repeats_nothing() {
    let world = World::start(&[BUSINESS], "").await;
    world.apply_without_orchestrators().await;
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), &world.business(BUSINESS).namespace);
    let made: Arc<Mutex<BTreeSet<(String, String)>>> = Arc::default();
    let seen = made.clone();
    let watched = jobs.clone();
    let watch = tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(watched, watcher::Config::default()));
        while let Some(event) = events.next().await {
            if let Ok(watcher::Event::Apply(job) | watcher::Event::InitApply(job)) = event {
                seen.lock().unwrap().insert((job.name_any(), job.uid().unwrap_or_default()));
            }
        }
    });
    let expected = submit(&world, "job", 80).await;
    let first = world.orchestrator(BUSINESS, Hooks::none()).await;
    eventually("the flood is on", async || jobs.list(&ListParams::default()).await.unwrap().items.len() >= 15).await;
    let asked = Instant::now();
    first.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(12), "it took {:?} to stop", asked.elapsed());
    let count = jobs.list(&ListParams::default()).await.unwrap().items.len();
    assert!(count < expected.len(), "the flood was over before the stop");
    let second = world.orchestrator(BUSINESS, Hooks::none()).await;
    world.assert_equation(BUSINESS, &expected).await;
    second.stop().await;
    watch.abort();
    let made = made.lock().unwrap().clone();
    let names: BTreeSet<&String> = made.iter().map(|(name, _)| name).collect();
    assert_eq!((names.len(), made.len()), (expected.len(), expected.len()), "a Job for each, and each once");
    world.stop().await;
}

//! A pool whose engines are killed at each of their steps, and one whose bucket is away for a minute: nothing is lost
//! and nothing is repeated.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use contract::{
    labels,
    outcome::State,
    pack::{Format, Pack},
};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams},
};
use localcloud::{
    faults::{Fault, When},
    storage::WriteRates,
};
use serde_json::{Value, json};

use crate::world::{Setup, World};

/// How long the rest of the work takes after an outage, on a busy machine too.
const GOES_ON: Duration = Duration::from_secs(60);
const POOL: &str = "dispatch = \"pool\"\npool = { min = 1, max = 2, slots = 2 }";
/// A book whose strike is no number.
const MALFORMED: &str = include_str!("../../../examples/malformed.json");
/// What storage answers to, over JSON and over gRPC.
const STORAGE: [&str; 3] = ["/storage/v1/", "/upload/storage/", "/google.storage.v2."];

/// Publishes a pack, single inputs, and one that cannot be computed.
async fn submit(world: &World, business: &str, items: u32) -> BTreeMap<String, State> {
    let mut expected = BTreeMap::new();
    let body: String = (0..items).map(|item| format!("line {item}\n")).collect();
    let pack = Pack { format: Format::Lines, items, items_per_range: items.div_ceil(3).min(1000), rows_per_item: 1 };
    let mut works = vec![(world.upload_pack(business, "session", "pack", &body, pack).await, State::Succeeded)];
    for index in 0..5 {
        let work = world.upload(business, "session", &format!("{index}"), &format!("payload {index}")).await;
        works.push((work, State::Succeeded));
    }
    works.push((world.upload(business, "session", "malformed.json", MALFORMED).await, State::Failed));
    for (work, state) in works {
        world.publish(&work).await;
        expected.insert(work.identity.object, state);
    }
    expected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_of_a_pool_that_is_killed_at_any_step_repeats_nothing() {
    let steps = ["pool-received", "pool-computed", "pool-sent"];
    let world = World::start_with(&steps, POOL, "").await;
    world.deploy_pools().await;
    for step in steps {
        let namespace = &world.business(step).namespace;
        let once = world.folder().join(format!("{step}-was-killed"));
        let settings: Api<ConfigMap> = Api::namespaced(world.kube.clone(), namespace);
        let found = settings.get("deskgrid-config").await.unwrap().data.unwrap_or_default();
        let mut template: Value = serde_json::from_str(&found["pool.json"]).unwrap();
        let env = template["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.push(json!({"name": labels::ENV_ENGINE_STOP_AT, "value": step}));
        env.push(json!({"name": labels::ENV_ENGINE_STOP_ONCE, "value": once}));
        let patch = Patch::Merge(json!({"data": {"pool.json": template.to_string()}}));
        settings.patch("deskgrid-config", &PatchParams::default(), &patch).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(world.kube.clone(), namespace);
        let orchestrators = ListParams::default().labels("app=orchestrator");
        pods.delete_collection(&DeleteParams::default(), &orchestrators).await.unwrap();
    }
    let mut running = Vec::new();
    for step in steps {
        running.push((step, submit(&world, step, 300).await));
    }
    for (step, expected) in running {
        world.assert_equation(step, &expected).await;
        assert!(world.folder().join(format!("{step}-was-killed")).exists(), "no engine came to its step {step}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_goes_on_after_a_minute_without_a_bucket() {
    let limits = |options: &mut localcloud::google::Options| {
        options.write_rates = Some(WriteRates { per_bucket: 1000 });
    };
    let world = World::start_as(&["bu1"], Setup { settings: POOL, ..Setup::default() }, limits).await;
    world.deploy_pools().await;
    let faults = world.cloud.faults();
    let everywhere = |fault| {
        faults.clear();
        STORAGE.map(|path| faults.add("", path, When::Always, fault))
    };
    let slow = Fault::Delay(Duration::from_millis(50));
    everywhere(slow);
    let expected = submit(&world, "bu1", 20_000).await;
    world.settled("bu1", 1).await;
    for status in [429, 503] {
        let points = everywhere(Fault::Answer(status));
        // An outage is a time, whatever happens in it.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(points.iter().any(|point| faults.met(*point) > 0), "nobody met {status}");
    }
    everywhere(slow);
    let over = Instant::now();
    let pods: Api<Pod> = Api::namespaced(world.kube.clone(), &world.business("bu1").namespace);
    let mut logs = String::new();
    for pod in pods.list(&ListParams::default().labels("app=orchestrator")).await.unwrap() {
        logs += &pods.logs(&pod.name_any(), &LogParams::default()).await.unwrap();
    }
    assert!(logs.contains("a call keeps failing, and is tried again"), "no warning of the outage: {logs}");
    world.assert_equation("bu1", &expected).await;
    assert!(over.elapsed() < GOES_ON, "it goes on at once when the bucket is back: {:.0?}", over.elapsed());
    world.stop().await;
}

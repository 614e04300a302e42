//! Packs with real engines: one outcome for each item, whatever dies or is deleted in the middle.

use std::{collections::BTreeMap, path::Path};

use contract::{
    Outcome,
    outcome::State,
    pack::{Format, Item, Pack},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use localcloud::kubernetes::NodeSettings;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use orchestrator::Hooks;
use serde_json::Value;
use sessions::results;

use crate::world::{World, command_lines, eventually};

/// The desk's image is the shell; its program passes the table on, without its first line.
const SHELL: &str = r#"
image = "registry/shell"
command = ["/bin/sh", "-c", '''cat > t; { read h; [ "$DESKGRID_INDEX" = 0 ] || :; echo "id,pv"; cat; } < t''']
"#;

/// The pricing example with so many paths, on one line.
fn book(paths: u64) -> String {
    let text = include_str!("../../../examples/pricing/10-power-daily-average.json");
    let mut book: Value = serde_json::from_str(text).unwrap();
    book["paths"] = paths.into();
    book.to_string()
}

fn lines(items: u32, items_per_range: u32) -> Pack {
    Pack { format: Format::Lines, items, items_per_range, rows_per_item: 1 }
}

/// How the items of a pack ended, in order.
async fn items(world: &World) -> Vec<Item> {
    let mut items: Vec<Item> = world.outcomes("bu1").await.into_iter().flat_map(|outcome| outcome.items).collect();
    items.sort_by_key(|item| item.index);
    items
}

/// How many parts engines have written.
async fn parts(world: &World) -> usize {
    world.objects("bu1", "output").await.iter().filter(|object| object.name.ends_with(".json")).count()
}

/// Kills one engine that runs; false when none does.
fn kill_an_engine(world: &World) -> bool {
    let folder = world.folder().to_string_lossy().into_owned();
    let engines = command_lines().into_iter().filter(|(_, line)| {
        let path = line.split(' ').next().unwrap_or_default();
        path.starts_with(&folder) && path.ends_with("/engine")
    });
    engines.into_iter().any(|(pid, _)| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_survives_the_death_of_an_engine_and_a_bad_item_fails_alone() {
    let world = World::start(&["bu1"], "").await;
    world.apply_without_orchestrators().await;
    let malformed: Value = serde_json::from_str(include_str!("../../../examples/malformed.json")).unwrap();
    let mut text = vec![book(20_000); 40];
    text[17] = malformed.to_string();
    let work = world.upload_pack("bu1", "session", "pack", &text.join("\n"), lines(40, 10)).await;
    // Twice, as Pub/Sub may.
    for _ in 0..2 {
        world.publish(&work).await;
    }
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    eventually("a range is computed", async || parts(&world).await > 0).await;
    eventually("an engine is killed", async || kill_an_engine(&world) || !world.ended("bu1").await.is_empty()).await;
    world.assert_equation("bu1", &BTreeMap::from([(work.identity.object.clone(), State::Failed)])).await;
    for item in items(&world).await {
        let expected = if item.index == 17 { State::Failed } else { State::Succeeded };
        assert_eq!((item.state, item.result.is_some()), (expected, expected == State::Succeeded), "{item:#?}");
        if item.index == 17 {
            assert_eq!(item.reason.unwrap().code, "malformed-input");
        }
    }
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_whose_job_is_deleted_keeps_what_it_had_and_a_retry_computes_the_rest() {
    let world = World::start(&["bu1"], "").await;
    world.apply_without_orchestrators().await;
    let text = [book(1_000), book(1_000_000_000)].join("\n");
    let work = world.upload_pack("bu1", "session", "pack", &text, lines(2, 2)).await;
    world.publish(&work).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    // The first part says what was begun, the second has the quick item.
    eventually("the quick item is computed", async || parts(&world).await >= 2).await;
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), &world.business("bu1").namespace);
    jobs.delete_collection(&DeleteParams::background(), &ListParams::default()).await.unwrap();
    world.assert_equation("bu1", &BTreeMap::from([(work.identity.object.clone(), State::Cancelled)])).await;
    let states: Vec<State> = items(&world).await.iter().map(|item| item.state).collect();
    assert_eq!(states, [State::Succeeded, State::Cancelled]);
    orchestrator.stop().await;
    world.stop().await;
}

/// The program says how long its line is.
const COUNTER: &str = r#"
image = "registry/shell"
command = ["/bin/sh", "-c", "wc -c"]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_range_of_a_large_pack_reads_its_lines_only() {
    let world = World::start(&["bu1"], COUNTER).await;
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let length = |item: usize| 1_000_000 + item;
    let body: String = (0..36).map(|item| "x".repeat(length(item) - 1) + "\n").collect();
    let work = world.upload_pack("bu1", "session", "pack", &body, lines(36, 12)).await;
    world.publish(&work).await;
    world.assert_equation("bu1", &BTreeMap::from([(work.identity.object, State::Succeeded)])).await;
    let mut spans = 0;
    for outcome in world.outcomes("bu1").await {
        spans += outcome.work.unwrap().span.unwrap().length;
    }
    assert_eq!(spans, body.len() as u64, "the parts are the whole");
    for (index, item) in items(&world).await.into_iter().enumerate() {
        let result = item.result.unwrap().bytes().unwrap();
        assert_eq!(String::from_utf8(result).unwrap().trim(), length(index).to_string(), "item {index}");
    }
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_a_table_are_computed_item_by_item_and_joined_again() {
    let world = World::start(&["bu1"], SHELL).await;
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let rows: Vec<String> = (0..7).map(|row| format!("t{row},{row}.5\n")).collect();
    let pack = Pack { format: Format::Table, items: 4, items_per_range: 3, rows_per_item: 2 };
    let text = format!("id,x\n{}", rows.concat());
    let work = world.upload_pack("bu1", "session", "trades.csv", &text, pack).await;
    world.publish(&work).await;
    world.assert_equation("bu1", &BTreeMap::from([(work.identity.object.clone(), State::Succeeded)])).await;
    let outcomes: Vec<String> = world.outcomes("bu1").await.iter().filter_map(name).collect();
    let found = results::read(&world.store, world.business("bu1"), &outcomes, usize::MAX).await.unwrap();
    let found: Vec<String> =
        found.iter().map(|row| results::csv_line(row.cells()[2..5].iter().map(|c| &**c))).collect();
    let wanted: Vec<String> = (0..7).map(|row| format!("t{row},pv,{row}.5")).collect();
    assert_eq!(found, wanted);
    orchestrator.stop().await;
    world.cloud.stop().await;
}

fn name(outcome: &Outcome) -> Option<String> {
    outcome.work.as_ref().map(|work| work.outcome())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_survives_the_death_of_its_node() {
    let world = World::start(&["bu1"], "").await;
    world.apply_without_orchestrators().await;
    let text = vec![book(20_000); 40].join("\n");
    let work = world.upload_pack("bu1", "session", "pack", &text, lines(40, 10)).await;
    world.publish(&work).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let pods: Api<Pod> = Api::namespaced(world.kube.clone(), &world.business("bu1").namespace);
    let mut node = None;
    eventually("a range runs on a node", async || {
        let list = pods.list(&ListParams::default().labels("app=engine")).await.unwrap();
        let mut running = list
            .items
            .into_iter()
            .filter(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running"));
        node = running.next().and_then(|pod| pod.spec?.node_name);
        node.is_some()
    })
    .await;
    world.cloud.kubernetes.add_node(&NodeSettings::named("another"));
    world.cloud.kubernetes.kill_node(&node.unwrap());
    world.assert_equation("bu1", &BTreeMap::from([(work.identity.object.clone(), State::Succeeded)])).await;
    assert!(items(&world).await.iter().all(|item| item.result.is_some()));
    orchestrator.stop().await;
    world.stop().await;
}

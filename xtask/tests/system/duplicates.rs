//! The same message again: at once, and after its Job is long gone.

use std::{collections::BTreeMap, time::Duration};

use contract::outcome::State;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use orchestrator::Hooks;

use crate::world::{World, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_published_again_and_again_is_one_job() {
    again_and_again(World::start(&["bu1"], "").await).await;
}

pub(crate) async fn again_and_again(world: World) {
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let work = world.upload("bu1", "session", "job", "payload").await;
    for _ in 0..3 {
        world.publish(&work).await;
    }
    let expected = BTreeMap::from([(work.identity.object.clone(), State::Succeeded)]);
    world.assert_equation("bu1", &expected).await;
    let first = world.outcomes("bu1").await;

    // A week later the Job is gone, and the message comes once more.
    world.pass(Duration::from_secs(7 * 86_400)).await;
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), &world.business("bu1").namespace);
    eventually("the Job is gone", async || jobs.list(&Default::default()).await.unwrap().items.is_empty()).await;
    world.publish(&work).await;
    // A second job shows that everything before it has been dealt with.
    let marker = world.upload("bu1", "session", "marker", "payload").await;
    world.publish(&marker).await;
    let mut expected = expected;
    expected.insert(marker.identity.object, State::Succeeded);
    world.assert_equation("bu1", &expected).await;
    let again = world.outcomes("bu1").await;
    assert!(again.contains(&first[0]), "the first outcome is untouched");
    let names: Vec<String> =
        jobs.list(&Default::default()).await.unwrap().items.into_iter().filter_map(|job| job.metadata.name).collect();
    assert!(!names.contains(&work.identity.job_name()), "no Job was made for what has its outcome");
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_deleted_by_hand_is_cancelled_and_stays_so() {
    deleted_by_hand(World::start(&["bu1"], "").await).await;
}

pub(crate) async fn deleted_by_hand(world: World) {
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let book = include_str!("../../../examples/pricing/10-power-daily-average.json");
    let mut book: serde_json::Value = serde_json::from_str(book).unwrap();
    book["paths"] = 1_000_000_000.into();
    let work = world.upload("bu1", "session", "slow.json", &book.to_string()).await;
    world.publish(&work).await;
    let jobs: Api<Job> = Api::namespaced(world.kube.clone(), &world.business("bu1").namespace);
    let name = work.identity.job_name();
    eventually("its pod runs", async || {
        let job = jobs.get_opt(&name).await.unwrap();
        job.and_then(|job| job.status).and_then(|status| status.active).unwrap_or_default() > 0
    })
    .await;
    jobs.delete(&name, &kube::api::DeleteParams::background()).await.unwrap();
    let expected = BTreeMap::from([(work.identity.object.clone(), State::Cancelled)]);
    world.assert_equation("bu1", &expected).await;
    // Its message comes again; it is not run after all.
    world.publish(&work).await;
    let marker = world.upload("bu1", "session", "marker", "payload").await;
    world.publish(&marker).await;
    let mut expected = expected;
    expected.insert(marker.identity.object, State::Succeeded);
    world.assert_equation("bu1", &expected).await;
    assert!(jobs.get_opt(&name).await.unwrap().is_none());
    orchestrator.stop().await;
    world.stop().await;
}

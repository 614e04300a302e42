//! A batch while it runs: what the verbs say of its inputs, and the death of the node that it is on.

use std::collections::BTreeMap;

use contract::{batch::is_job_name, outcome::State};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use localcloud::kubernetes::NodeSettings;
use orchestrator::Hooks;
use serde_json::Value;

use crate::world::{World, eventually};

const BATCH: &str = "max_active_jobs = 4\ndispatch = \"batch\"";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// The pricing example with so many paths.
fn book(paths: u64) -> String {
    let text = include_str!("../../../examples/pricing/10-power-daily-average.json");
    let mut book: Value = serde_json::from_str(text).unwrap();
    book["paths"] = paths.into();
    book.to_string()
}

/// The pods of batches that run now, each with its node.
async fn running(world: &World) -> Vec<(String, String)> {
    let pods: Api<Pod> = Api::namespaced(world.kube.clone(), "bu1");
    let list = pods.list(&ListParams::default().labels("app=engine")).await.unwrap();
    let running = list.items.into_iter().filter_map(|pod| {
        let job = pod.metadata.labels.as_ref()?.get(JOB_NAME)?;
        let runs = pod.status.as_ref()?.phase.as_deref() == Some("Running");
        (runs && is_job_name(job)).then_some((pod.metadata.name?, pod.spec?.node_name?))
    });
    running.collect()
}

/// What a verb prints.
async fn said(world: &World, arguments: &[&str]) -> String {
    let output = world.command(arguments).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn document(world: &World, arguments: &[&str]) -> Value {
    let text = said(world, &[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_survives_the_death_of_its_node() {
    let world = World::start_with(&["bu1"], BATCH, "").await;
    world.apply_without_orchestrators().await;
    let mut expected = BTreeMap::new();
    for index in 0..40 {
        let work = world.upload("bu1", "session", &format!("{index:04}"), &book(20_000)).await;
        world.publish(&work).await;
        expected.insert(work.identity.object, State::Succeeded);
    }
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let mut died = None;
    eventually("a batch runs on a node", async || {
        died = running(&world).await.pop();
        died.is_some()
    })
    .await;
    let (pod, node) = died.unwrap();
    world.cloud.kubernetes.add_node(&NodeSettings::named("another"));
    world.cloud.kubernetes.kill_node(&node);
    world.assert_equation("bu1", &expected).await;
    let outcomes = world.outcomes("bu1").await;
    assert!(outcomes.iter().any(|outcome| outcome.node.as_deref() == Some("another")), "{pod} of {node} was replaced");
    orchestrator.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verbs_tell_of_a_batch_that_runs() {
    let world = World::start_with(&["bu1"], BATCH, "").await;
    world.apply_without_orchestrators().await;
    let mut expected = BTreeMap::new();
    // One, since each takes a thread for itself.
    for (job, body) in [("quick", "quick".to_owned()), ("slow", book(1_000_000_000))] {
        let work = world.upload("bu1", "session", job, &body).await;
        world.publish(&work).await;
        let state = if job == "slow" { State::Cancelled } else { State::Succeeded };
        expected.insert(work.identity.object, state);
    }
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    eventually("the batch runs", async || !running(&world).await.is_empty()).await;
    eventually("the quick one is computed", async || {
        world.objects("bu1", "output").await.iter().any(|result| result.name.contains("/quick/"))
    })
    .await;

    let jobs = document(&world, &["jobs", "--session", "session"]).await;
    let slow = jobs.as_array().unwrap().iter().find(|job| job["job"] == "slow").expect("it is listed");
    assert_eq!((&slow["state"], &slow["reason"]["code"]), (&"running".into(), &"running".into()), "{slow:#}");
    assert!(is_job_name(slow["kubernetes_job"].as_str().unwrap()), "{slow:#}");
    let job = document(&world, &["job", "slow"]).await;
    assert_eq!((&job["state"], &job["job"]), (&"running".into(), &"slow".into()), "{job:#}");
    assert!(job["explanation"].as_str().unwrap().contains("batch"), "{job:#}");
    assert!(!job["pods"].as_array().unwrap().is_empty(), "{job:#}");
    let logs = said(&world, &["logs", "slow"]).await;
    assert!(logs.contains("read the input") && logs.lines().all(|line| line.contains("slow")), "only its own: {logs}");
    let sessions = document(&world, &["session", "list"]).await;
    assert_eq!(sessions[0]["session"], "session", "{sessions:#}");
    let pending = ["waiting", "running"].map(|state| sessions[0][state].as_u64().unwrap());
    assert!(pending.iter().sum::<u64>() > 0, "{sessions:#}");

    // A person cancels it.
    said(&world, &["session", "cancel", "session", "--yes"]).await;
    eventually("it ended", async || world.objects("bu1", "outcome").await.len() == 2).await;
    world.assert_equation("bu1", &expected).await;
    orchestrator.stop().await;
    world.stop().await;
}

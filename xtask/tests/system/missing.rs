//! Resources that were deleted by hand: commands name them with the repair, and refuse new Jobs until then.

use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Namespace};
use kube::{Api as Kube, api::DeleteParams};
use provision::{
    Cloud,
    google::{Api, Method, Request},
};
use serde_json::Value;

use crate::{setup_verbs::Desk, world::eventually};

const FILE: &str = "project = \"missing-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n\n[businesses.bu1]\n\
                    [businesses.bu1.engine]\ncpu = \"100m\"\n";
const BUCKET: &str = "missing-desk-bucket";
const INPUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/malformed.json");

async fn delete(cloud: &Cloud, api: Api, path: &str) {
    cloud.google.send(&Request::new(api, Method::Delete, path)).await.unwrap();
}

/// What `doctor` finds of a subject.
fn finding(desk: &Desk, what: &str, code: i32) -> Value {
    let found = desk.json(&["doctor"], code);
    found.as_array().unwrap().iter().find(|one| one["what"] == what).unwrap().clone()
}

/// The problems of the business in `status`.
fn problems(desk: &Desk) -> String {
    desk.json(&["status"], 0)["businesses"][0]["problems"].to_string()
}

async fn inputs(cloud: &Cloud) -> usize {
    let store = cloud::storage::Store::connect(&cloud.connection()).await.unwrap();
    store.list(BUCKET, "bu1/input/").await.unwrap().len()
}

/// The orchestrator is deleted with its namespace, and nobody else removes the finalizers of its Jobs.
#[tokio::test]
async fn a_namespace_that_is_deleted_with_jobs_running_is_no_deadlock() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::deployed(FILE);
    let cloud = desk.cloud().await;
    let client = cloud.cluster().unwrap().clone();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("slow.json");
    let mut book: Value =
        serde_json::from_str(include_str!("../../../examples/pricing/10-power-daily-average.json")).unwrap();
    book["paths"] = 1_000_000_000.into();
    std::fs::write(&input, book.to_string()).unwrap();
    desk.run(&["submit", input.to_str().unwrap()], 0);
    let jobs: Kube<Job> = Kube::namespaced(client.clone(), "bu1");
    eventually("its Job runs", async || {
        let all = jobs.list(&Default::default()).await.unwrap().items;
        all.iter().any(|job| job.status.as_ref().is_some_and(|status| status.active == Some(1)))
    })
    .await;
    let namespaces: Kube<Namespace> = Kube::all(client.clone());
    // Deleted with the namespace, in an order that nobody chooses; here the orchestrator is first.
    let deployments: Kube<Deployment> = Kube::namespaced(client.clone(), "bu1");
    deployments.delete("orchestrator", &DeleteParams::foreground()).await.unwrap();
    eventually("it is gone", async || deployments.get_opt("orchestrator").await.unwrap().is_none()).await;
    namespaces.delete("bu1", &DeleteParams::default()).await.unwrap();
    let found = finding(&desk, "namespaces", 1);
    assert!(found["seen"].as_str().unwrap().contains("bu1 is being deleted"), "{found}");
    assert!(found["fix"].as_str().unwrap().starts_with("cargo xtask clean --business bu1"), "{found}");
    assert!(problems(&desk).contains("clean --business bu1"), "{}", problems(&desk));
    let said = desk.run(&["deploy"], 1);
    assert!(said.contains("error[namespace-ending]") && said.contains("clean --all"), "{said}");
    let cleaned = desk.json(&["clean", "--business", "bu1", "--yes"], 0);
    assert_eq!(cleaned[0]["held"], 1, "{cleaned}");
    eventually("the namespace is gone", async || namespaces.get_opt("bu1").await.unwrap().is_none()).await;
    desk.run(&["deploy"], 0);
    assert_eq!(finding(&desk, "namespaces", 0)["fine"], true);
    assert_eq!(inputs(&cloud).await, 1, "the input is kept");
}

#[tokio::test]
async fn what_was_deleted_by_hand_is_named_and_repaired() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::deployed(FILE);
    let cloud = desk.cloud().await;
    let pubsub = "v1/projects/missing-desk";
    assert_eq!(finding(&desk, "resources", 0)["fine"], true);
    assert_eq!(finding(&desk, "namespaces", 0)["fine"], true);

    for (paths, seen) in [
        (
            &["topics/missing-desk-bu1-topic"][..],
            "the topic of the subscription missing-desk-bu1-subscription was deleted",
        ),
        (&["subscriptions/missing-desk-bu1-subscription"], "there is no subscription missing-desk-bu1-subscription"),
    ] {
        for path in paths {
            delete(&cloud, Api::Pubsub, &format!("{pubsub}/{path}")).await;
        }
        let resources = finding(&desk, "resources", 1);
        assert!(resources["seen"].as_str().unwrap().contains(seen), "{resources}");
        assert!(resources["fix"].as_str().unwrap().starts_with("cargo xtask provision"), "{resources}");
        let problems = problems(&desk);
        assert!(problems.contains("missing-desk-bu1-subscription") && problems.contains("provision"), "{problems}");
        let said = desk.run(&["submit", INPUT], 1);
        assert!(said.contains("error[not-found]") && said.contains("bu1 cannot receive Jobs"), "{said}");
        assert!(said.contains("next: cargo xtask") && said.contains("provision"), "{said}");
        assert_eq!(inputs(&cloud).await, 0, "nothing was uploaded");
        desk.run(&["provision"], 0);
        assert_eq!(finding(&desk, "resources", 0)["fine"], true);
        // The input is malformed, so the Job fails: that it has an outcome is what counts.
        desk.run(&["submit", INPUT, "--wait"], 1);
        let store = cloud::storage::Store::connect(&cloud.connection()).await.unwrap();
        for object in store.list(BUCKET, "bu1/").await.unwrap() {
            store.delete(BUCKET, &object.name, object.generation).await.unwrap();
        }
    }

    let namespaces: Kube<Namespace> = Kube::all(cloud.cluster().unwrap().clone());
    namespaces.delete("bu1", &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", async || namespaces.get_opt("bu1").await.unwrap().is_none()).await;
    let found = finding(&desk, "namespaces", 1);
    assert_eq!((found["seen"].as_str(), found["fix"].as_str()), (Some("missing: bu1"), Some("cargo xtask deploy")));
    assert!(problems(&desk).contains("the namespace bu1 does not exist"));
    desk.run(&["deploy"], 0);
    assert_eq!(finding(&desk, "namespaces", 0)["fine"], true);

    let store = cloud::storage::Store::connect(&cloud.connection()).await.unwrap();
    for object in store.list(BUCKET, "").await.unwrap() {
        store.delete(BUCKET, &object.name, object.generation).await.unwrap();
    }
    delete(&cloud, Api::Storage, &format!("storage/v1/b/{BUCKET}")).await;
    let resources = finding(&desk, "resources", 1);
    assert!(resources["seen"].as_str().unwrap().contains("there is no bucket missing-desk-bucket"), "{resources}");
    assert!(problems(&desk).contains("the bucket missing-desk-bucket does not exist"));
    desk.run(&["provision"], 0);
    assert_eq!(finding(&desk, "resources", 0)["fine"], true);
}

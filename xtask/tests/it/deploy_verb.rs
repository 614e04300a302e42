//! `deploy` as a person runs it, against a laptop cloud that runs the web apps too: what it may never take away or
//! write unasked.

use std::path::PathBuf;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use provision::Cloud;
use serde_json::{Value, json};

use crate::setup_verbs::Desk;

const FILE: &str = "project = \"deploy-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n\
                    [businesses.bu1]\n[businesses.bu1.engine]\ncpu = \"100m\"\n";

/// Where the last build's images are noted.
fn note(desk: &Desk) -> PathBuf {
    desk.folder().join("generated/verbs/images.json")
}

fn noted(desk: &Desk) -> Value {
    serde_json::from_str(&std::fs::read_to_string(note(desk)).unwrap()).unwrap()
}

/// The image of a Deployment's pods.
async fn image(cloud: &Cloud, namespace: &str, name: &str) -> String {
    let deployments: Api<Deployment> = Api::namespaced(cloud.cluster().unwrap().clone(), namespace);
    let live = deployments.get(name).await.unwrap();
    live.spec.unwrap().template.spec.unwrap().containers[0].image.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_of_named_images_keeps_the_web_apps_as_they_run() {
    let _ = common::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    desk.run(&["provision"], 0);
    desk.run(&["deploy"], 0);
    let images = noted(&desk);
    let of = |name: &str| images[name].as_str().unwrap().to_owned();
    let (orchestrator, engine, monitor) = (of("orchestrator"), of("engine"), of("monitor"));
    let named = ["deploy", "--orchestrator-image", &orchestrator, "--engine-image", &engine];
    let cloud = desk.cloud().await;

    // As from a fresh copy of the source, which has no note of a build.
    std::fs::remove_file(note(&desk)).unwrap();
    let report = desk.json(&named, 0);
    assert_eq!(report["changed"], 0, "{report:#}");
    assert_eq!(image(&cloud, "deskgrid", "monitor").await, monitor);

    // A note of long ago, and one that cannot be read.
    for text in [json!({"monitor": format!("r/monitor@sha256:{}", "0".repeat(64))}).to_string(), "{".to_owned()] {
        std::fs::write(note(&desk), text).unwrap();
        let report = desk.json(&named, 0);
        assert_eq!(report["changed"], 0, "{report:#}");
        assert_eq!(image(&cloud, "deskgrid", "monitor").await, monitor);
    }
}

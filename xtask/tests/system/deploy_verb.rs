//! `deploy` as a person runs it, against a laptop cloud that runs the web apps too: what it may never take away or
//! write unasked.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use provision::{
    Cloud,
    lock::{Acquired, Holder, Lock, Settings},
};
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
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::deployed(FILE);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_only_looks_or_may_not_go_on_writes_nothing() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    desk.run(&["provision"], 0);
    let images = desk.folder().join("generated/verbs/cloud/cluster/images");
    let count = || std::fs::read_dir(&images).map_or(0, Iterator::count);
    let before = count();
    desk.run(&["deploy", "--dry-run"], 0);
    assert!(!note(&desk).exists(), "a dry run notes no images");
    assert_eq!(count(), before, "a dry run makes no images");
    desk.run(&["deploy"], 0);

    let client = desk.cloud().await.cluster().unwrap().clone();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "bu1");
    let scale = Patch::Apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2}}));
    deployments.patch("orchestrator", &PatchParams::apply("autoscaler").force(), &scale).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, "deskgrid");
    secrets.delete("web-access", &DeleteParams::default()).await.unwrap();
    let said = desk.run(&["deploy"], 1);
    assert!(said.contains("error[field-conflict]") && said.contains("nothing was changed"), "{said}");
    assert!(secrets.get_opt("web-access").await.unwrap().is_none(), "it made a token all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deploy_would_delete_is_asked_about() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::deployed(FILE);
    // A laptop cloud needs no questions; a cluster of the kubeconfig may be anybody's.
    let kubeconfig = desk.folder().join("generated/verbs/cloud/kubeconfig");
    let parsed: Value = serde_json::from_str(&std::fs::read_to_string(&kubeconfig).unwrap()).unwrap();
    let context = parsed["current-context"].as_str().unwrap();
    let deploy = |flags: &[&str], code: i32| {
        let mut command = desk.command(&[&["deploy", "--context", context], flags].concat());
        let ended = command.env("KUBECONFIG", &kubeconfig).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        said
    };
    deploy(&[], 0);
    let text = std::fs::read_to_string(desk.file()).unwrap();
    std::fs::write(desk.file(), format!("{text}[web]\nenabled = false\n")).unwrap();
    let said = deploy(&[], 64);
    assert!(said.contains("Deployment deskgrid/monitor") && said.contains("--yes"), "{said}");
    let cloud = desk.cloud().await;
    image(&cloud, "deskgrid", "monitor").await;
    deploy(&["--yes"], 0);
    let deployments: Api<Deployment> = Api::namespaced(cloud.cluster().unwrap().clone(), "deskgrid");
    assert!(deployments.list(&Default::default()).await.unwrap().items.is_empty());
    deploy(&[], 0);
}

/// Takes the lock of the environment, as another operator.
async fn lock(cloud: &Cloud) -> Lock {
    let holder = Holder { who: "ann".to_owned(), host: "h".to_owned(), process: 1, space: None };
    let settings = Settings::new(holder, "deploy", Duration::ZERO, Arc::new(|_| {}));
    match Lock::acquire(&cloud.google, "deploy-desk-bucket", "verbs", &settings).await.unwrap() {
        Acquired::Held(lock) => *lock,
        Acquired::NoBucket => panic!("there is a bucket"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_stops_when_the_cluster_changed_after_it_showed_its_plan() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::deployed(FILE);
    let cloud = desk.cloud().await;
    let client = cloud.cluster().unwrap().clone();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "bu1");
    let data = async || maps.get("deskgrid-config").await.unwrap().data.unwrap();
    let before = data().await;
    std::fs::write(desk.file(), FILE.replace("[businesses.bu1]\n", "[businesses.bu1]\nmax_active_jobs = 7\n")).unwrap();

    let theirs = lock(&cloud).await;
    let mut waits = desk.begin(&["deploy", "--yes"]);
    let mut lines = BufReader::new(waits.stderr.take().unwrap()).lines().map(Result::unwrap);
    let shown: Vec<String> = lines.by_ref().take_while(|line| !line.contains("waiting: somebody")).collect();
    assert!(shown.iter().any(|line| line.contains("~ change ConfigMap bu1/deskgrid-config")), "{shown:?}");
    let policies: Api<NetworkPolicy> = Api::namespaced(client, "bu1");
    policies.delete("engine", &DeleteParams::default()).await.unwrap();
    theirs.release().await;
    let said = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(waits.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("error[cluster-moved]"), "{said}");
    assert!(said.contains("NetworkPolicy bu1/engine: not in the plan, and now `create`"), "{said}");
    assert_eq!(data().await, before, "nothing was written");
    assert!(policies.get_opt("engine").await.unwrap().is_none());

    // The next run shows the new plan and carries it out.
    let said = desk.run(&["deploy"], 0);
    assert!(said.contains("+ create NetworkPolicy bu1/engine") && said.contains("~ change ConfigMap"), "{said}");
    assert!(data().await["config.json"].contains("\"max_active_jobs\": 7"));
    assert!(policies.get_opt("engine").await.unwrap().is_some());
}

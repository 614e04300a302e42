//! An environment with keys: the key reaches the Secret and nothing else, and work is done with it.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use provision::google::{self, Method, Request};
use serde_json::Value;

use crate::setup_verbs::Desk;

const FILE: &str = "project = \"key-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\nauth = \"key\"\n\
                    [businesses.bu1]\nmax_active_jobs = 4\n[businesses.bu1.engine]\ncpu = \"100m\"\n";
const KEYS: &str = "v1/projects/key-desk/serviceAccounts/bu1-engine@key-desk.iam.gserviceaccount.com/keys";

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[tokio::test]
async fn a_key_is_only_in_its_secret() {
    let _ = common::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    let pricing = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pricing");
    let first = std::fs::read_dir(pricing).unwrap().flatten().map(|entry| entry.path()).min().unwrap();
    let verbs: [&[&str]; 6] = [
        &["--verbose", "provision"],
        &["--verbose", "deploy"],
        &["deploy", "--json"],
        &["plan", "--json"],
        &["submit", "--wait", first.to_str().unwrap()],
        &["job", "--json", first.file_name().unwrap().to_str().unwrap()],
    ];
    let mut said = String::new();
    for verb in verbs {
        let ended = desk.xtask(verb);
        for bytes in [ended.stdout, ended.stderr] {
            said.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert_eq!(ended.status.code(), Some(0), "{verb:?}\n{said}");
    }
    let cloud = desk.cloud().await;
    let secrets: Api<Secret> = Api::namespaced(cloud.cluster().unwrap().clone(), "bu1");
    let read = async || {
        let secret = secrets.get("google-key-engine").await.unwrap();
        serde_json::from_slice::<Value>(&secret.data.unwrap()["key.json"].0).unwrap()
    };
    let key = read().await;
    let part = key["private_key"].as_str().unwrap().lines().nth(3).unwrap().to_owned();
    assert!(part.len() > 40);
    assert!(!said.contains(&part), "the key was written to the terminal");
    let (node, others): (Vec<PathBuf>, Vec<PathBuf>) =
        files(desk.folder()).into_iter().partition(|path| path.file_name().is_some_and(|name| name == "key.json"));
    // What a node mounts is the Secret itself.
    assert!(node.iter().all(|path| path.to_string_lossy().contains("/cloud/")), "{node:?}");
    for path in others {
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(&part), "{} holds the key", path.display());
    }

    // The same key serves on; one that is gone is replaced, and no account has two.
    let ids = async || {
        let request = Request::get(google::Api::Iam, KEYS).query("keyTypes", "USER_MANAGED");
        let answer = cloud.google.send(&request).await.unwrap();
        let keys = answer["keys"].as_array().cloned().unwrap_or_default();
        keys.iter().map(|key| key["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let id = key["private_key_id"].as_str().unwrap();
    assert_eq!(ids().await, [id]);
    let gone = Request::new(google::Api::Iam, Method::Delete, format!("{KEYS}/{id}"));
    cloud.google.send(&gone).await.unwrap();
    let stray = Request::new(google::Api::Iam, Method::Post, KEYS).body(serde_json::json!({}));
    cloud.google.send(&stray).await.unwrap();
    desk.run(&["deploy"], 0);
    let renewed = read().await["private_key_id"].as_str().unwrap().to_owned();
    assert_ne!(renewed, id);
    assert_eq!(ids().await, [renewed]);
    desk.run(&["teardown"], 0);
    assert_eq!(ids().await, Vec::<String>::new());
}

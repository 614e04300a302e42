//! An environment with keys: the key reaches the Secret and nothing else, and work is done with it.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use localcloud::node::images::Images;
use provision::google::{self, Method, Request};
use serde_json::Value;

use crate::{setup_verbs::Desk, world::eventually};

const FILE: &str = "project = \"key-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\nauth = \"key\"\n\
                    [businesses.bu1]\nmax_active_jobs = 4\n[businesses.bu1.engine]\ncpu = \"100m\"\n\
                    [businesses.bu2.engine]\ncpu = \"100m\"\nimage = \"SHELL\"\n\
                    command = [\"/bin/sh\", \"-c\", \"read -r gate; while [ ! -e $gate ]; do sleep 0.1; done\"]\n";
const KEYS: &str = "v1/projects/key-desk/serviceAccounts/verbs-bu1-engine@key-desk.iam.gserviceaccount.com/keys";

/// Every file below a folder that can hold a key: all but the programs of images, which were compiled before there was
/// a key. To search them too takes longer than the rest of a test.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() && entry.path().ends_with("cluster/images") => {}
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_only_in_its_secret() {
    let _ = cloud::clients::install_tls_provider();
    let shell = Path::new("/bin/sh");
    let elsewhere = tempfile::tempdir().unwrap();
    let image = Images::new(elsewhere.path().to_owned()).register("registry/shell", shell).unwrap();
    let desk = Desk::start(&FILE.replace("SHELL", &image));
    Images::new(desk.folder().join("generated/verbs/cloud/cluster/images")).register("registry/shell", shell).unwrap();
    let pricing = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pricing");
    let mut books: Vec<PathBuf> =
        std::fs::read_dir(pricing).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    books.sort();
    let [first, second, ..] = books.as_slice() else { panic!("there are examples") };
    let verbs: [&[&str]; 6] = [
        &["--verbose", "provision"],
        &["--verbose", "deploy"],
        &["deploy", "--json"],
        &["plan", "--json"],
        &["submit", "--business", "bu1", "--wait", first.to_str().unwrap()],
        &["job", "--business", "bu1", "--json", first.file_name().unwrap().to_str().unwrap()],
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
    let read_in = async |business: &str| {
        let secrets: Api<Secret> = Api::namespaced(cloud.cluster().unwrap().clone(), business);
        let secret = secrets.get("google-key-engine").await.unwrap();
        serde_json::from_slice::<Value>(&secret.data.unwrap()["key.json"].0).unwrap()
    };
    let read = async || read_in("bu1").await;
    let read_of = async |business: &str| read_in(business).await["private_key_id"].as_str().unwrap().to_owned();
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
    let keys_of = async |business: &str| {
        let path = KEYS.replace("bu1", business);
        let request = Request::get(google::Api::Iam, path).query("keyTypes", "USER_MANAGED");
        let answer = cloud.google.send(&request).await.unwrap();
        let keys = answer["keys"].as_array().cloned().unwrap_or_default();
        keys.iter().map(|key| key["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let ids = async || keys_of("bu1").await;
    let id = key["private_key_id"].as_str().unwrap();
    assert_eq!(ids().await, [id]);
    let gone = Request::new(google::Api::Iam, Method::Delete, format!("{KEYS}/{id}"));
    cloud.google.send(&gone).await.unwrap();
    let stray = Request::new(google::Api::Iam, Method::Post, KEYS).body(serde_json::json!({}));
    let theirs = cloud.google.send(&stray).await.unwrap();
    let theirs = theirs["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    desk.run(&["deploy"], 0);
    let renewed = read().await["private_key_id"].as_str().unwrap().to_owned();
    assert_ne!(renewed, id);
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    assert_eq!(sorted(ids().await), sorted(vec![renewed.clone(), theirs.clone()]), "a person's key is not ours");

    // Keys change while an engine works: it ends its work with the old one, which goes only then.
    let gate = desk.folder().join("gate");
    let book = desk.folder().join("held.txt");
    std::fs::write(&book, gate.to_str().unwrap()).unwrap();
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(cloud.cluster().unwrap().clone(), "bu2");
    let engines = kube::api::ListParams::default().labels("app=engine");
    let phases = async || {
        let pods = pods.list(&engines).await.unwrap().items;
        pods.into_iter().filter_map(|pod| pod.status?.phase).collect::<Vec<_>>()
    };
    let before = read_of("bu2").await;
    let works = desk.begin(&["submit", "--business", "bu2", "--wait", book.to_str().unwrap()]);
    eventually("an engine works", async || phases().await == ["Running"]).await;
    let rotates = desk.begin(&["rotate-keys", "--json"]);
    eventually("the Secret has a new key", async || read_of("bu2").await != before).await;
    assert!(keys_of("bu2").await.contains(&before), "the old key serves what still runs");
    std::fs::write(&gate, "").unwrap();
    let (worked, rotated) = (works.wait_with_output().unwrap(), rotates.wait_with_output().unwrap());
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(worked.status.success(), "{}", said(&worked));
    assert!(rotated.status.success(), "{}", said(&rotated));
    assert_eq!(phases().await, ["Succeeded"], "the first attempt was the only one: no call was refused");
    let report: Value = serde_json::from_slice(&rotated.stdout).unwrap();
    assert_eq!(report.as_array().unwrap().len(), 6);
    for one in report.as_array().unwrap() {
        assert_eq!(one["deleted"].as_array().unwrap().len(), 1, "{report:#}");
    }
    assert_eq!(keys_of("bu2").await, [read_of("bu2").await]);
    let rotated = read().await["private_key_id"].as_str().unwrap().to_owned();
    assert_ne!(rotated, renewed);
    assert_eq!(sorted(ids().await), sorted(vec![rotated, theirs.clone()]), "a person's key is not ours");
    // The orchestrators work with theirs.
    desk.run(&["submit", "--business", "bu1", "--wait", second.to_str().unwrap()], 0);
    desk.run(&["teardown"], 0);
    assert_eq!(ids().await, [theirs]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_shows_the_keys_that_a_deploy_would_make() {
    let _ = cloud::clients::install_tls_provider();
    let (first, _) = FILE.split_once("[businesses.bu2").unwrap();
    let desk = Desk::start(first);
    desk.run(&["provision"], 0);
    let plan = desk.json(&["deploy", "--dry-run"], 0);
    let secrets: Vec<(&str, &str, &str)> = plan
        .as_array()
        .unwrap()
        .iter()
        .filter(|change| change["kind"] == "Secret")
        .map(|change| (&change["change"], &change["name"], &change["difference"]))
        .map(|(change, name, lines)| (change.as_str().unwrap(), name.as_str().unwrap(), lines.as_str().unwrap()))
        .collect();
    let key = |account: &str| format!("+a new key of verbs-{account}@key-desk.iam.gserviceaccount.com");
    let (orchestrator, engine) = (key("bu1-orchestrator"), key("bu1-engine"));
    let (monitor, client) = (key("web-monitor"), key("web-client"));
    assert_eq!(
        secrets,
        [
            ("created", "google-key-orchestrator", orchestrator.as_str()),
            ("created", "google-key-engine", engine.as_str()),
            ("created", "google-key-web-monitor", monitor.as_str()),
            ("created", "google-key-web-client", client.as_str()),
            ("created", "web-access", "+a token for the web apps"),
        ]
    );
    let cloud = desk.cloud().await;
    let request = Request::get(google::Api::Iam, KEYS).query("keyTypes", "USER_MANAGED");
    assert_eq!(cloud.google.send(&request).await.unwrap()["keys"], Value::Null, "it made a key");
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cloud.cluster().unwrap().clone());
    assert!(namespaces.get_opt("bu1").await.unwrap().is_none(), "it made a namespace");

    desk.run(&["deploy"], 0);
    assert_eq!(desk.json(&["deploy", "--dry-run"], 0), serde_json::json!([]));

    // Of a business that does not exist yet, and of a rotation.
    let plan = desk.json(&["add-business", "bu3", "--dry-run"], 0);
    let engine = "+a new key of verbs-bu3-engine@key-desk.iam.gserviceaccount.com";
    assert!(plan["cluster"].as_array().unwrap().iter().any(|change| change["difference"] == engine), "{plan:#}");
    let ids = async || cloud.google.send(&request).await.unwrap()["keys"].clone();
    let before = ids().await;
    let id = before[0]["name"].as_str().unwrap().rsplit('/').next().unwrap();
    let plan = desk.json(&["rotate-keys", "--dry-run"], 0);
    let of = |kind: &str, name: &str| {
        let found = plan.as_array().unwrap().iter().find(|change| change["kind"] == kind && change["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name} in {plan:#}")).clone()
    };
    let account = "verbs-bu1-engine@key-desk.iam.gserviceaccount.com";
    let lines = format!("+a new key of {account}\n-the old key {id} of {account}");
    assert_eq!(of("Secret", "google-key-engine")["difference"], lines);
    assert_eq!(of("Deployment", "orchestrator")["change"], "changed");
    assert_eq!(ids().await, before, "a dry run changes nothing");
    let said = desk.run(&["rotate-keys"], 0);
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words:?} is not in\n{said}"));
    assert!(at("~ change Secret bu1/google-key-engine") < at("is in its Secret"), "it shows everything first: {said}");
    assert_ne!(ids().await, before);
}

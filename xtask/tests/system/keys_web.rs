//! The web apps of an environment with keys: they serve with theirs, notice nothing of a rotation, and the keys go when
//! the apps do.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::Child,
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use provision::{
    Cloud,
    google::{self, Request},
};
use serde_json::Value;

use crate::{keys::files, setup_verbs::Desk, world::eventually};

const FILE: &str = "project = \"key-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\nauth = \"key\"\n\
                    [businesses.bu1]\nmax_active_jobs = 4\n[businesses.bu1.engine]\ncpu = \"100m\"\n";
const ACCOUNTS: [&str; 2] = ["web-monitor", "web-client"];
const LIMIT: Duration = Duration::from_secs(60);
/// A pod ends once, and takes few connections with it.
const TRIES: usize = 5;

/// An app behind `open`, which ends with it.
struct Opened {
    open: Child,
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = self.open.kill();
        let _ = self.open.wait();
    }
}

impl Opened {
    fn of(desk: &Desk, app: &str) -> Self {
        let mut open = desk.begin(&["open", app, "--json"]);
        let mut line = String::new();
        BufReader::new(open.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let opened: Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| opened[key].as_str().unwrap().to_owned();
        let url = text("url").trim_end_matches('/').to_owned();
        // Every request looks for a pod anew.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(LIMIT).build().unwrap();
        Self { open, url, token: text("token"), http }
    }

    /// What the app answers; asked again when its pod went in the middle of it.
    async fn get(&self, path: &str) -> (u16, String) {
        for _ in 0..TRIES {
            let asked = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
            let answered = async {
                let answer = asked.header("accept", "text/html").send().await?;
                reqwest::Result::Ok((answer.status().as_u16(), answer.text().await?))
            };
            if let Ok(answer) = answered.await {
                return answer;
            }
        }
        panic!("{path}: no answer")
    }

    async fn json(&self, path: &str) -> Value {
        let (status, text) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn submit(&self, job: &str, body: &str) {
        let url = format!("{}/api/v1/inputs?business=bu1&session=s1&job={job}", self.url);
        let answer = self.http.put(url).bearer_auth(&self.token).body(body.to_owned()).send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
    }
}

/// Ids of the keys that IAM has of an account.
async fn known(cloud: &Cloud, account: &str) -> Vec<String> {
    let path = format!("v1/projects/key-desk/serviceAccounts/verbs-{account}@key-desk.iam.gserviceaccount.com/keys");
    let request = Request::get(google::Api::Iam, path).query("keyTypes", "USER_MANAGED");
    let answer = cloud.google.send(&request).await.unwrap();
    let keys = answer["keys"].as_array().cloned().unwrap_or_default();
    keys.iter().map(|key| key["name"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

/// The keys in the Secrets of the web apps, by account.
async fn held(cloud: &Cloud) -> Vec<Value> {
    let secrets: Api<Secret> = Api::namespaced(cloud.cluster().unwrap().clone(), "deskgrid");
    let mut held = Vec::new();
    for account in ACCOUNTS {
        let Some(secret) = secrets.get_opt(&format!("google-key-{account}")).await.unwrap() else { continue };
        held.push(serde_json::from_slice(&secret.data.unwrap()["key.json"].0).unwrap());
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_apps_serve_with_keys_and_notice_no_rotation() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    let mut said = desk.run(&["--verbose", "provision"], 0);
    said += &desk.run(&["--verbose", "deploy"], 0);
    let cloud = desk.cloud().await;
    let before = held(&cloud).await;
    assert_eq!(before.len(), 2);
    let (monitor, client) = (Opened::of(&desk, "monitor"), Opened::of(&desk, "client"));
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pricing/01-index-calls.json");
    let book = std::fs::read_to_string(book).unwrap();
    let done = async |count: u64| {
        eventually(&format!("{count} jobs succeeded, and both apps show it"), async || {
            let jobs = monitor.json("/api/v1/jobs?business=bu1&state=succeeded").await;
            let session = client.json("/api/v1/session?business=bu1&session=s1").await;
            jobs["total"] == count && session["counts"]["succeeded"] == count
        })
        .await;
    };
    client.submit("one.json", &book).await;
    done(1).await;

    // Both look at the bucket all the time, and say so when that is refused.
    let mut rotates = desk.begin(&["rotate-keys", "--json"]);
    let mut looks = 0;
    while rotates.try_wait().unwrap().is_none() {
        let session = client.json("/api/v1/session?business=bu1&session=s1").await;
        assert_eq!(session["trouble"], Value::Null, "{session}");
        let (status, page) = monitor.get("/jobs").await;
        assert!(status == 200 && !page.contains("Something does not answer"), "{page}");
        looks += 1;
    }
    assert!(looks > 2);
    let rotated = rotates.wait_with_output().unwrap();
    said += &String::from_utf8_lossy(&rotated.stderr);
    assert!(rotated.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&rotated.stdout).unwrap();
    let of_web: BTreeSet<&str> = report
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["deleted"].as_array().unwrap().len() == 1)
        .filter_map(|one| one["account"].as_str()?.split_once('@').map(|(account, _)| account))
        .collect();
    assert!(ACCOUNTS.iter().all(|account| of_web.contains(&format!("verbs-{account}").as_str())), "{report:#}");
    let after = held(&cloud).await;
    for (account, (old, new)) in ACCOUNTS.iter().zip(before.iter().zip(&after)) {
        assert_ne!(old["private_key_id"], new["private_key_id"]);
        assert_eq!(known(&cloud, account).await, [new["private_key_id"].as_str().unwrap()]);
    }
    client.submit("two.json", &book).await;
    done(2).await;

    // What a node mounts is the Secret itself; a key is nowhere else.
    let keys = before.iter().chain(&after).map(|key| key["private_key"].as_str().unwrap());
    let parts: Vec<&str> = keys.map(|key| key.lines().nth(3).unwrap()).collect();
    assert!(parts.iter().all(|part| part.len() > 40 && !said.contains(part)), "a key was written to the terminal");
    for path in files(desk.folder()) {
        let is_mount = path.file_name().is_some_and(|name| name == "key.json");
        if is_mount && path.to_string_lossy().contains("/cloud/") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!parts.iter().any(|part| text.contains(part)), "{} holds a key", path.display());
    }

    // What is switched off has no key, and gets one when it is on again.
    drop((monitor, client));
    let text = std::fs::read_to_string(desk.file()).unwrap();
    std::fs::write(desk.file(), format!("{text}[web]\nenabled = false\n")).unwrap();
    let said = desk.run(&["deploy"], 0);
    assert!(said.contains("verbs-web-client@key-desk.iam.gserviceaccount.com is deployed no longer"), "{said}");
    assert!(held(&cloud).await.is_empty());
    for account in ACCOUNTS {
        assert!(known(&cloud, account).await.is_empty(), "{account}");
    }
    assert_eq!(desk.json(&["deploy"], 0)["changed"], 0);
    std::fs::write(desk.file(), text).unwrap();
    desk.run(&["deploy"], 0);
    assert_eq!(held(&cloud).await.len(), 2);
    desk.run(&["teardown"], 0);
    for account in ACCOUNTS {
        assert!(known(&cloud, account).await.is_empty(), "{account}");
    }
}

//! The verbs that set an environment up and take it down, as a person runs them, against a laptop cloud.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use provision::{
    Cloud, LocalState,
    environment::{self, Overrides},
};
use serde_json::{Value, json};

use crate::world::{eventually, programs};

const FILE: &str = "# a comment that stays\nproject = \"verb-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n\n\
                    [businesses.bu1] # the first\nmax_active_jobs = 4\n[businesses.bu1.engine]\ncpu = \"100m\"\n";
const BUCKET: &str = "verb-desk-bucket";

/// A folder with an environment and its laptop cloud, which ends with it.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// One whose laptop cloud is not started yet.
    pub(crate) fn new(text: &str) -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(desk.file(), text).unwrap();
        desk
    }

    pub(crate) fn start(text: &str) -> Self {
        let desk = Self::new(text);
        desk.run(&["local", "up"], 0);
        desk
    }

    /// One that is provisioned and deployed, too.
    pub(crate) fn deployed(text: &str) -> Self {
        let desk = Self::start(text);
        desk.run(&["provision"], 0);
        desk.run(&["deploy"], 0);
        desk
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("verbs.toml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&programs()["xtask"]);
        command.arg("--env").arg(self.file()).args(arguments).env_remove("BUSINESS_NAME").stdin(Stdio::null());
        command
    }

    pub(crate) fn xtask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Begins a verb.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a verb that must end with this code; gives what it said on standard error.
    pub(crate) fn run(&self, arguments: &[&str], code: i32) -> String {
        let ended = self.xtask(arguments);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let written = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}\n{written}\n{said}");
        said
    }

    /// Runs a verb with `--json`, and gives its document; of one that tells of its events, the last.
    pub(crate) fn json(&self, arguments: &[&str], code: i32) -> Value {
        let ended = self.xtask(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}\n{said}");
        let whole = serde_json::from_slice(&ended.stdout);
        whole.unwrap_or_else(|_| {
            let text = String::from_utf8(ended.stdout).unwrap();
            let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let named = |event: &Value| event["event"].is_string();
            assert!(events.iter().all(named) && events[0]["event"] == "plan", "{text}");
            events.last().unwrap().clone()
        })
    }

    /// What `plan` tells of that is not as it should be; its exit code must fit.
    pub(crate) fn pending(&self) -> Vec<Value> {
        let code = self.xtask(&["plan", "--quiet"]).status.code().unwrap();
        let plan = self.json(&["plan"], code);
        let changes = plan["changes"].as_array().unwrap();
        let pending: Vec<Value> = changes.iter().filter(|change| change["action"] != "nothing").cloned().collect();
        let changes = pending.iter().any(|change| change["action"] != "extra");
        assert_eq!(code, if changes { 2 } else { 0 });
        pending
    }

    pub(crate) async fn cloud(&self) -> Cloud {
        let environment = environment::load(&self.file(), &Overrides::new()).unwrap();
        let state: &Path = &self.folder.path().join("generated/verbs/cloud.json");
        Cloud::connect(&environment, Some(LocalState::read(state).unwrap())).await.unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.xtask(&["local", "down"]);
    }
}

async fn scale(cloud: &Cloud, namespace: &str, replicas: u32) {
    let deployments: Api<Deployment> = Api::namespaced(cloud.cluster().unwrap().clone(), namespace);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch("orchestrator", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_business_comes_and_goes_and_the_others_do_not_notice() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    let found = desk.json(&["doctor"], 0);
    let names: Vec<&str> = found.as_array().unwrap().iter().filter_map(|one| one["what"].as_str()).collect();
    assert!(
        ["credentials", "billing", "permissions", "services", "cluster", "names"]
            .iter()
            .all(|name| names.contains(name))
    );
    let cluster =
        |found: &Value| found.as_array().unwrap().iter().find(|one| one["what"] == "cluster").unwrap().clone();
    assert_eq!((&cluster(&found)["fine"], &cluster(&found)["fix"]), (&false.into(), &"cargo xtask provision".into()));
    let done = desk.json(&["provision"], 0);
    let seen = cluster(&desk.json(&["doctor"], 0));
    assert!(seen["fine"] == true && seen["seen"].as_str().unwrap().starts_with("Kubernetes v"), "{seen}");
    assert!(done["event"] == "done" && done["applied"]["done"].as_u64() > Some(10), "{done}");
    desk.run(&["deploy"], 0);
    assert_eq!(desk.pending(), Vec::<Value>::new());

    let plan = desk.json(&["add-business", "bu2", "--dry-run"], 0);
    assert_eq!(desk.text(), FILE, "a dry run changes nothing");
    let changes = plan["changes"].as_array().unwrap();
    assert!(changes.len() > 5);
    for change in changes {
        assert_ne!(change["business"], "bu1", "{change}");
        for difference in change["differences"].as_array().into_iter().flatten() {
            let grants = change["kind"].as_str().unwrap().ends_with("policy");
            assert!(!grants || !difference.to_string().contains("bu1"), "{difference}");
        }
    }
    let cluster = |document: &Value| -> Vec<String> {
        let changes = document["cluster"].as_array().unwrap().iter();
        changes.map(|change| format!("{} {} {}", change["change"], change["kind"], change["name"])).collect()
    };
    let shown = cluster(&plan);
    for part in [r#""created" "Namespace" "bu2""#, r#""created" "Deployment" "orchestrator""#] {
        assert!(shown.iter().any(|line| line == part), "{part} is not in {shown:#?}");
    }
    let said = desk.run(&["add-business", "bu2"], 0);
    let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words:?} is not in\n{said}"));
    assert!(at("+ create Deployment bu2/orchestrator") < at("  done "), "it shows everything first: {said}");
    assert!(desk.text().starts_with("# a comment that stays\n") && desk.text().contains("[businesses.bu2]"));
    assert_eq!(desk.pending(), Vec::<Value>::new());
    desk.run(&["add-business", "bu2"], 0);
    desk.run(&["add-business", "Bad_Name"], 64);

    // Its orchestrator was deployed with it: work is done.
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/malformed.json");
    let pricing = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pricing");
    let first = std::fs::read_dir(pricing).unwrap().flatten().map(|entry| entry.path()).min().unwrap();
    desk.run(&["submit", "--business", "bu2", "--wait", first.to_str().unwrap()], 0);

    // Work that waits is in the way.
    let cloud = desk.cloud().await;
    scale(&cloud, "bu2", 0).await;
    let namespaces: Api<Namespace> = Api::all(cloud.cluster().unwrap().clone());
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(cloud.cluster().unwrap().clone(), "bu2");
    eventually("the orchestrator stopped", async || {
        pods.list(&Default::default()).await.unwrap().items.iter().all(|pod| {
            pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")).is_none_or(|app| app != "orchestrator")
        })
    })
    .await;
    desk.run(&["submit", "--business", "bu2", example], 0);
    let shown = cluster(&desk.json(&["remove-business", "bu2", "--dry-run"], 0));
    for part in [
        r#""pruned" "Namespace" "bu2""#,
        r#""pruned" "Deployment" "orchestrator""#,
        r#""changed" "ConfigMap" "deskgrid-config""#,
    ] {
        assert!(shown.iter().any(|line| line == part), "{part} is not in {shown:#?}");
    }
    let said = desk.run(&["remove-business", "bu2"], 1);
    assert!(said.contains("error[pending]") && said.contains("1 input without an outcome"), "{said}");
    assert!(desk.text().contains("[businesses.bu2]"));
    assert_eq!(desk.pending(), Vec::<Value>::new());

    scale(&cloud, "bu2", 1).await;
    eventually("the work is done and the business removed", async || {
        desk.xtask(&["remove-business", "bu2"]).status.success()
    })
    .await;
    assert_eq!(desk.text(), FILE);
    assert_eq!(namespaces.get_opt("bu2").await.unwrap().map(|found| found.metadata.name), None);
    let left = desk.pending();
    assert!(left.iter().all(|change| change["action"] == "extra" && change["kind"] == "service-account"), "{left:#?}");
    let store = cloud::storage::Store::connect(&cloud.connection()).await.unwrap();
    assert_eq!(store.list(BUCKET, "bu2/output/").await.unwrap().len(), 1, "data stays");
    assert_eq!(store.list(BUCKET, "bu2/input/").await.unwrap().len(), 1);

    // And the whole of it.
    let said = desk.run(&["teardown", "--dry-run"], 0);
    assert!(!said.contains("error"));
    let report = desk.json(&["teardown"], 0);
    assert_eq!((&report["left"], &report["objects_deleted"]), (&json!([]), &json!(0)));
    assert_eq!(store.list(BUCKET, "bu2/output/").await.unwrap().len(), 1, "data stays");
    desk.run(&["teardown", "--delete-data"], 64);
    let everything = ["teardown", "--delete-data", "--yes-delete", BUCKET, "--identities"];
    let report = desk.json(&everything, 0);
    assert_eq!(report["left"], json!([]));
    assert_ne!(report["objects_deleted"], json!(0));
    let again = desk.json(&everything, 0);
    assert_eq!(again["plan"]["changes"].as_array().unwrap().iter().filter(|c| c["action"] != "nothing").count(), 0);
}

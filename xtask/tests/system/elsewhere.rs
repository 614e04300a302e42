//! A laptop cloud for the pods of another cluster, and a cluster that cannot be reached.

use serde_json::{Value, json};

use crate::setup_verbs::Desk;

const FILE: &str = "project = \"else-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n[web]\nenabled = false\n\
                    [businesses.bu1]\n[businesses.bu1.engine]\ncpu = \"100m\"\n";

/// Another address of this machine than the usual one; every Linux has it.
const ADDRESS: &str = "127.0.0.2";

#[test]
#[cfg(target_os = "linux")]
fn a_laptop_cloud_serves_at_the_address_that_it_is_given() {
    let desk = Desk::start(FILE);
    desk.run(&["local", "down"], 0);
    desk.run(&["local", "up", "--listen", ADDRESS], 0);
    let state = std::fs::read(desk.folder().join("generated/verbs/cloud.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    for api in ["pubsub", "storage", "iam", "iamcredentials", "container", "artifactregistry"] {
        let endpoint = state["endpoints"][api].as_str().unwrap();
        assert!(endpoint.starts_with(&format!("http://{ADDRESS}:")), "{api} is at {endpoint}");
    }
    // All that runs finds it there: the verbs, the orchestrator, and the engine.
    desk.run(&["provision", "--yes"], 0);
    desk.run(&["deploy"], 0);
    let input = desk.folder().join("one.json");
    std::fs::write(&input, "{}").unwrap();
    let failed = desk.run(&["submit", "--wait", input.to_str().unwrap()], 1);
    assert!(failed.contains("malformed-input"), "the engine read its input: {failed}");
}

#[test]
fn doctor_says_that_a_cluster_cannot_be_reached() {
    let desk = Desk::start(FILE);
    desk.run(&["provision", "--yes"], 0);
    // Whoever had this port listens no more.
    let port = localcloud::serve::free_port().unwrap();
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "gone", "cluster": {"server": format!("https://127.0.0.1:{port}")}}],
        "users": [{"name": "gone", "user": {"token": "any"}}],
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "gone"}}],
    });
    let file = desk.folder().join("kubeconfig");
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    let cases =
        [("gone", "Connection refused", "kubectl version"), ("nobody", "nobody", "kubectl config get-contexts")];
    for (context, seen, fix) in cases {
        let looked =
            desk.command(&["--context", context, "doctor", "--json"]).env("KUBECONFIG", &file).output().unwrap();
        assert_eq!(looked.status.code(), Some(1), "{looked:?}");
        let found: Vec<Value> = serde_json::from_slice(&looked.stdout).unwrap();
        let cluster = found.iter().find(|one| one["what"] == "cluster").unwrap();
        assert_eq!((&cluster["fine"], &cluster["needed"]), (&false.into(), &true.into()), "{cluster}");
        assert!(cluster["seen"].as_str().unwrap().contains(seen), "{cluster}");
        assert!(cluster["fix"].as_str().unwrap().contains(fix), "{cluster}");
        let why: Value = serde_json::from_slice(&looked.stderr).unwrap();
        assert_eq!((&why["code"], &why["why"]), (&"unhealthy".into(), &"cluster".into()), "{why}");
    }
}

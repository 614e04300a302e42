//! Tests of the state file and of the way to a laptop cloud.

use serde_json::json;

use super::*;
use crate::environment::tests::environment;

fn state(folder: &Path) -> LocalState {
    serde_json::from_value(json!({
        "environment": "local",
        "pid": 7,
        "endpoints": {
            "pubsub": "http://127.0.0.1:1",
            "storage": "http://127.0.0.1:2",
            "iam": "http://127.0.0.1:3",
            "iamcredentials": "http://127.0.0.1:3",
            "cloudresourcemanager": "http://127.0.0.1:3",
            "serviceusage": "http://127.0.0.1:3",
            "container": "http://127.0.0.1:3",
            "kubernetes": "https://127.0.0.1:4",
        },
        "credentials": folder.join("adc.json"),
        "kubeconfig": folder.join("kubeconfig"),
    }))
    .unwrap()
}

#[tokio::test]
async fn a_laptop_cloud_is_reached_by_its_state_file() {
    let folder = tempfile::tempdir().unwrap();
    let written = state(folder.path());
    let path = folder.path().join("state.json");
    written.write(&path).unwrap();
    let read = LocalState::read(&path).unwrap();
    assert_eq!(read, written);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");

    let user = json!({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
        "token_uri": "http://127.0.0.1:3/token"});
    std::fs::write(&read.credentials, user.to_string()).unwrap();
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "local",
        "clusters": [{"name": "local", "cluster": {"server": "https://127.0.0.1:4"}}],
        "users": [{"name": "local", "user": {"token": "t"}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}]});
    std::fs::write(&read.kubeconfig, kubeconfig.to_string()).unwrap();
    let local =
        environment("project = \"desk-one\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n[businesses.bu1]\n");
    let cloud = Cloud::connect(&local, Some(read)).await.unwrap();
    assert_eq!(cloud.endpoints.storage.as_deref(), Some("http://127.0.0.1:2"));
    assert!(cloud.cluster().is_ok());

    let error = Cloud::connect(&local, None).await.err().unwrap().to_string();
    assert!(error.contains("cargo xtask local up"), "{error}");
}

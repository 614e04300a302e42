//! A laptop cloud that was killed starts again with its data and at its ports, where deployed services expect it.

use std::{net::TcpListener, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use provision::LocalState;
use serde_json::Value;

use crate::{setup_verbs::Desk, world::eventually};

const FILE: &str = "project = \"again-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n\n[businesses.bu1]\n\
                    [businesses.bu1.engine]\ncpu = \"100m\"\n";

fn state(desk: &Desk) -> LocalState {
    LocalState::read(&desk.folder().join("generated/verbs/cloud.json")).unwrap()
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_killed_laptop_cloud_starts_again_at_the_same_ports() {
    let desk = Desk::new(FILE);
    let data = desk.folder().join("data");
    let up = ["local", "up", "--data", data.to_str().unwrap()];
    desk.run(&up, 0);
    desk.run(&["provision"], 0);
    desk.run(&["deploy"], 0);
    let before = state(&desk);
    // Objects are saved now and then; what is killed before that forgets the newest.
    let saved = data.join("kubernetes/objects.json");
    eventually("the orchestrator is saved", async || {
        let objects: Value =
            std::fs::read(&saved).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let is_orchestrator =
            |object: &Value| object["kind"] == "Deployment" && object["metadata"]["namespace"] == "bu1";
        objects["objects"].as_array().is_some_and(|all| all.iter().any(is_orchestrator))
    })
    .await;
    kill(Pid::from_raw(i32::try_from(before.pid).unwrap()), Signal::SIGKILL).unwrap();
    eventually("it is gone", async || !is_running(before.pid)).await;
    desk.run(&up, 0);
    assert_eq!(state(&desk).endpoints, before.endpoints);
    // Without a deploy: the orchestrator works on.
    let pricing = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/pricing");
    let first = std::fs::read_dir(pricing).unwrap().flatten().map(|entry| entry.path()).min().unwrap();
    desk.run(&["submit", "--wait", "--timeout", "2m", first.to_str().unwrap()], 0);

    desk.run(&["local", "down"], 0);
    let address = before.endpoints.google.pubsub.trim_start_matches("http://").to_owned();
    let squatter = TcpListener::bind(&address).unwrap();
    let said = desk.run(&up, 1);
    assert!(
        said.contains("another program uses it") && said.contains("ports.json") && said.contains(&address),
        "{said}"
    );
    drop(squatter);
    desk.run(&up, 0);
    assert_eq!(state(&desk).endpoints, before.endpoints);
}

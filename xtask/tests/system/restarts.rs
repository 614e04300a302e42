//! A laptop cloud that was killed starts again with its data and at its ports, where deployed services expect it.

use std::{net::TcpListener, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use provision::LocalState;

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
    // Wait until it has saved the objects of the deploy.
    let saved = data.join("kubernetes");
    eventually("the objects are saved", async || {
        let files = std::fs::read_dir(&saved).into_iter().flatten().flatten();
        files
            .into_iter()
            .any(|file| std::fs::read_to_string(file.path()).is_ok_and(|text| text.contains("\"Deployment\"")))
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

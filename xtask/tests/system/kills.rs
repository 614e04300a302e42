//! Processes are killed in the middle of a session: first the orchestrator, then an engine.

use std::{collections::BTreeMap, path::Path};

use contract::outcome::State;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::{World, command_lines, eventually};

/// Process ids of running programs below a folder whose name is `program`.
fn processes(folder: &Path, program: &str) -> Vec<i32> {
    let folder = folder.to_string_lossy();
    let is_wanted = |line: &str| {
        let path = line.split(' ').next().unwrap_or_default();
        path.starts_with(folder.as_ref()) && path.ends_with(&format!("/{program}"))
    };
    command_lines().into_iter().filter(|(_, line)| is_wanted(line)).map(|(pid, _)| pid).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_survives_the_death_of_its_orchestrator_and_of_an_engine() {
    let world = World::start(&["bu1"], "").await;
    world.deploy().await;
    let book = include_str!("../../../examples/pricing/10-power-daily-average.json");
    let mut expected = BTreeMap::new();
    for index in 0..16 {
        let work = world.upload("bu1", "session", &format!("{index}.json"), book).await;
        world.publish(&work).await;
        expected.insert(work.identity.object, State::Succeeded);
    }
    let folder = world.folder();
    eventually("some of the session is settled", async || !world.objects("bu1", "outcome").await.is_empty()).await;
    let orchestrators = processes(&folder, "orchestrator");
    assert_eq!(orchestrators.len(), 1, "one orchestrator runs");
    kill(Pid::from_raw(orchestrators[0]), Signal::SIGKILL).unwrap();

    let mut killed = Vec::new();
    eventually("an engine is killed", async || {
        for pid in processes(&folder, "engine") {
            // It may have ended a moment ago.
            if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
                killed.push(pid);
                return true;
            }
        }
        false
    })
    .await;
    // What the dead orchestrator had in hand comes back when its lease ends.
    world.cloud.clock.advance(std::time::Duration::from_secs(61));
    world.assert_equation("bu1", &expected).await;
    assert!(processes(&folder, "orchestrator") != orchestrators, "another orchestrator took over");
    world.cloud.stop().await;
    eventually("no process is left", async || {
        processes(&folder, "orchestrator").is_empty() && processes(&folder, "engine").is_empty()
    })
    .await;
}

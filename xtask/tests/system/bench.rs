//! The bench measures, and leaves nothing.

use std::process::Command;

use serde_json::Value;

use crate::world::{command_lines, programs};

#[test]
fn figures_come_with_the_machine_and_their_goals() {
    let bench = Command::new(&programs()["xtask"])
        .args(["bench", "--dev", "--quick", "--only", "engine-start,setup", "--json", "--quiet"])
        .output()
        .unwrap();
    assert!(bench.status.success(), "{}", String::from_utf8_lossy(&bench.stderr));
    let report: Value = serde_json::from_slice(&bench.stdout).unwrap();
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    let rows = report["rows"].as_array().unwrap();
    let what: Vec<&str> = rows.iter().map(|row| row["what"].as_str().unwrap()).collect();
    assert_eq!(what.len(), 5, "{what:?}");
    let script = rows.iter().find(|row| row["what"].as_str().unwrap().ends_with("and a script")).unwrap();
    if crate::laptop::are_there(&["gcloud"]) {
        assert_eq!(script["reached"], true, "{script:#}");
    } else {
        assert!(script["note"].as_str().unwrap().starts_with("skipped"), "{script:#}");
    }
    assert!(rows.iter().all(|row| row["measured"]["value"].as_f64().unwrap() > 0.0), "{rows:#?}");
    let start = rows.iter().find(|row| row["what"].as_str().unwrap().starts_with("engine started")).unwrap();
    assert!(start["reached"].is_boolean() && start["goal"]["value"][0] == 30.0, "{start:#}");
    let left: Vec<_> = command_lines().into_iter().filter(|(_, line)| line.contains("generated/bench-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

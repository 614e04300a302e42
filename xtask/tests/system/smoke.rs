//! The smoke test, in a laptop cloud: every command ends as it should, and its report has no names.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::world::{command_lines, programs};

fn begin(report: &Path) -> Child {
    Command::new(&programs()["xtask"])
        .args(["smoke", "--local", "--report"])
        .arg(report)
        .env("DESKGRID_ENV", "no-such-environment")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the smoke test")
}

fn read(report: &Path) -> (String, Value) {
    let text = std::fs::read_to_string(report).unwrap();
    let report = serde_json::from_str(&text).unwrap();
    (text, report)
}

/// Checks that nothing is left of the environment of this process id.
fn check_removed(id: u32) {
    let name = format!("smoke-{id}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/generated").join(&name);
    assert!(!folder.exists(), "{} is left", folder.display());
    let left: Vec<_> = command_lines().into_iter().filter(|(_, line)| line.contains(&format!("/{name}/"))).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_command_ends_as_it_should_and_the_report_has_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let smoke = begin(&file);
    let id = smoke.id();
    let ended = smoke.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    let (text, report) = read(&file);
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["fine"] == true), "{text}");
    assert_eq!(steps.last().unwrap()["verb"], "teardown");

    // Each kind of client has its requests in the report: ours, Google's libraries, and that of Kubernetes.
    let has = |verb: &str, method: &str, path: &str, status: &str| {
        let step = steps.iter().find(|step| step["verb"] == verb).unwrap();
        let found = step["requests"].as_array().unwrap().iter().any(|request| {
            (&request["method"], &request["path"], &request["status"]) == (&method.into(), &path.into(), &status.into())
        });
        assert!(found, "{verb}: {method} {path} {status} is not in {step:#}");
    };
    has("provision", "PUT", "/v1/projects/*/topics/*", "200");
    has("deploy", "PATCH", "/apis/apps/v1/namespaces/*/deployments/*", "201");
    let grpc = |request: &Value| request["method"] == "gRPC" && request["path"].as_str().unwrap().contains("storage");
    let jobs = steps.iter().find(|step| step["verb"] == "jobs").unwrap();
    assert!(jobs["requests"].as_array().unwrap().iter().any(grpc), "{jobs:#}");

    let user = contract::config::variables().remove("USER").unwrap_or_default();
    let names = ["smoke-desk", "127.0.0.1", "localhost", "@", "Bearer", "ya29", &format!("smoke-{id}")];
    for name in names.into_iter().chain((user.len() > 4).then_some(user.as_str())) {
        assert!(!text.contains(name), "{name:?} is in the report\n{text}");
    }
    check_removed(id);
}

#[test]
fn an_interrupted_smoke_test_removes_its_environment_and_reports() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let mut smoke = begin(&file);
    let id = smoke.id();
    let mut lines = BufReader::new(smoke.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line == "running provision"), "it provisions");
    kill(Pid::from_raw(id.try_into().unwrap()), Signal::SIGINT).unwrap();
    let said = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(smoke.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains("error[interrupted]"), "{said}");
    let (text, report) = read(&file);
    let verbs: Vec<(&str, bool)> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["verb"].as_str().unwrap(), step["fine"].as_bool().unwrap()))
        .collect();
    assert_eq!(verbs.first(), Some(&("plan", true)), "{text}");
    assert_eq!(verbs.last(), Some(&("teardown", true)), "{text}");
    check_removed(id);
}

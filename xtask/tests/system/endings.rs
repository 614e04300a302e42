//! How verbs end: exit codes of signals, errors as JSON, whole lists, and refusals before anything is changed.

use std::{
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use provision::google::{Api, Method, Request};
use serde_json::{Value, json};

use crate::{
    setup_verbs::Desk,
    world::{eventually, programs},
};

const FILE: &str =
    "project = \"ends-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n\n[businesses.bu0]\n[businesses.bu1]\n";
const TOPIC: &str = "v1/projects/ends-desk/topics/ends-desk-bu2-topic";
const SUBSCRIPTION: &str = "v1/projects/ends-desk/subscriptions/ends-desk-bu2-subscription";
/// Jobs, more than a list shows to a person.
const JOBS: usize = 101;

fn error_of(output: &std::process::Output) -> Value {
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.trim().lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn verbs_end_as_their_callers_expect() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    desk.run(&["provision"], 0);
    let inputs = desk.folder().join("inputs");
    std::fs::create_dir(&inputs).unwrap();
    for number in 0..JOBS {
        std::fs::write(inputs.join(format!("{number}.txt")), "count\n").unwrap();
    }
    // There is no orchestrator: everything waits.
    let inputs = inputs.to_str().unwrap();
    desk.run(&["submit", "--business", "bu1", "--session", "s", inputs], 0);

    // Lists.
    assert_eq!(desk.json(&["jobs"], 0).as_array().unwrap().len(), JOBS);
    assert_eq!(desk.json(&["jobs", "--limit", "7", "--state", "waiting"], 0).as_array().unwrap().len(), 7);
    for cut in [&["jobs"][..], &["jobs", "--state", "waiting"], &["jobs", "--json", "--limit", "100"]] {
        let said = desk.run(cut, 0);
        assert!(said.contains("the list is cut after 100; --limit shows more"), "{cut:?}: {said}");
    }

    // Signals, in a verb that leaves them to the program and in verbs that finish first.
    for verb in [
        &["session", "wait", "s", "--business", "bu1", "--json"][..],
        &["submit", "--business", "bu1", "--session", "s", inputs, "--wait", "--json"],
        &["logs", "--follow", "--json"],
    ] {
        for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
            let child = desk.begin(verb);
            let pid = child.id();
            eventually("it handles the signal", async || handles(pid, signal)).await;
            kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
            let ended = child.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(code), "{verb:?}: {}", String::from_utf8_lossy(&ended.stderr));
            if verb[0] == "session" {
                assert_eq!(error_of(&ended)["exit"], code);
            }
        }
    }

    // Arguments, of both programs.
    for program in ["xtask", "deskgrid"] {
        for wrong in
            [&["jobs", "--json", "--nonsense"][..], &["--json", "jobs", "--limit", "many"], &["submit", "--json"]]
        {
            let ended = Command::new(&programs()[program]).args(wrong).stdin(Stdio::null()).output().unwrap();
            assert_eq!(ended.status.code(), Some(64), "{wrong:?}");
            let error = error_of(&ended);
            assert_eq!((&error["code"], &error["exit"]), (&json!("usage"), &json!(64)), "{error}");
            assert!(error["what"].as_str().is_some_and(|what| !what.contains("error:")), "{error}");
        }
    }

    // Waiting inputs are in the way of a teardown as of a removal.
    for verb in [&["teardown", "--yes"][..], &["remove-business", "bu1", "--yes"]] {
        let said = desk.run(verb, 1);
        assert!(said.contains("error[pending]") && said.contains("101 inputs without an outcome"), "{said}");
    }
    assert_eq!(desk.pending(), Vec::<Value>::new(), "nothing was removed");

    // A file that cannot be written stops a removal before it begins.
    let mode = |mode| std::fs::set_permissions(desk.file(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o444);
    // Root writes any file, unless it gives that right away.
    let mut remove = Command::new("setpriv");
    remove.args(["--bounding-set=-dac_override", "--inh-caps=-dac_override", "--"]).arg(&programs()["xtask"]);
    remove.arg("--env").arg(desk.file()).args(["remove-business", "bu1", "--yes", "--cancel"]).stdin(Stdio::null());
    match remove.output() {
        Ok(ended) => {
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.code() == Some(1) && said.contains("error[environment-file]"), "{said}");
            assert_eq!(desk.pending(), Vec::<Value>::new(), "nothing was removed");
        }
        Err(error) => println!("skipped: setpriv: {error}"),
    }
    mode(0o644);

    // Messages are in the way of pruning.
    desk.run(&["add-business", "bu2"], 0);
    let cloud = desk.cloud().await;
    let message = json!({"messages": [{"data": "eA=="}, {"data": "eQ=="}]});
    let publish = Request::new(Api::Pubsub, Method::Post, format!("{TOPIC}:publish")).body(message);
    cloud.google.send(&publish).await.unwrap();
    std::fs::write(desk.file(), FILE).unwrap();
    let said = desk.run(&["provision", "--prune", "--yes"], 1);
    assert!(said.contains("error[pending]") && said.contains("2 messages in ends-desk-bu2-subscription"), "{said}");
    let subscription = Request::get(Api::Pubsub, SUBSCRIPTION);
    assert!(cloud.google.send_optional(&subscription).await.unwrap().is_some());
    let shown = desk.json(&["plan", "--prune"], 2);
    let done = desk.json(&["provision", "--prune", "--yes", "--cancel"], 0);
    let pending = shown["changes"].as_array().unwrap().iter().filter(|change| change["action"] != "nothing").count();
    assert_eq!(done["applied"]["done"], json!(pending));
    assert!(cloud.google.send_optional(&subscription).await.unwrap().is_none());
    let again = desk.json(&["plan", "--prune"], 0);
    assert!(again["changes"].as_array().unwrap().iter().all(|change| change["action"] == "nothing"), "{again}");

    desk.run(&["teardown", "--yes", "--cancel"], 0);
}

#[test]
fn accounts_that_workloads_act_as_are_not_pruned() {
    for auth in ["", "auth = \"key\"\n"] {
        let text = FILE.replacen("\n\n", &format!("\n{auth}\n"), 1);
        let named = "\n[businesses.bu1.accounts]\nclient = \"old-client\"\norchestrator = \"old-orchestrator\"\n\
                     engine = \"old-engine\"\n";
        let desk = Desk::deployed(&format!("{text}{named}"));
        std::fs::write(desk.file(), &text).unwrap();
        let said = desk.run(&["provision", "--prune", "--yes"], 1);
        assert!(said.contains("error[pending]") && said.contains("old-orchestrator@"), "{said}");
        desk.run(&["provision"], 0);
        desk.run(&["deploy"], 0);
        desk.run(&["provision", "--prune", "--yes"], 0);
        let again = desk.json(&["plan", "--prune"], 0).to_string();
        assert!(!again.contains("old-orchestrator"), "{again}");
    }
}

/// Whether a process catches a signal by now.
fn handles(pid: u32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    caught & (1 << (signal as i32 - 1)) != 0
}

#[tokio::test]
async fn two_operators_add_businesses_at_once() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    desk.run(&["provision"], 0);
    let names = ["bu2", "bu3"];
    let operators = names.map(|name| desk.begin(&["add-business", name, "--yes"]));
    for operator in operators {
        let ended = operator.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    let text = std::fs::read_to_string(desk.file()).unwrap();
    assert!(names.iter().all(|name| text.contains(&format!("[businesses.{name}]"))), "{text}");
    assert_eq!(desk.pending(), Vec::<Value>::new());
    let config = std::fs::read_to_string(desk.folder().join("generated/verbs/config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert!(names.iter().all(|name| config["businesses"][name].is_object()), "{config}");
}

#[test]
fn without_credentials_every_verb_says_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("far.toml");
    let text =
        "project = \"far-desk\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n[build]\nbuilder = \"cloud-build\"\n";
    std::fs::write(&file, text).unwrap();
    let input = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/malformed.json");
    for verb in [
        &["status"][..],
        &["jobs"],
        &["submit", input],
        &["session", "list"],
        &["dead-letters", "list"],
        &["plan"],
        &["provision", "--yes"],
        &["teardown", "--yes"],
        &["deploy"],
        &["clean", "--business", "bu1"],
    ] {
        for key in [None, Some("no-such-file.json")] {
            let mut command = Command::new(&programs()["xtask"]);
            command.arg("--env").arg(&file).args(verb).arg("--json").env_clear().env("HOME", folder.path());
            if let Some(key) = key {
                command.env("GOOGLE_APPLICATION_CREDENTIALS", folder.path().join(key));
            }
            let started = Instant::now();
            let ended = command.stdin(Stdio::null()).output().unwrap();
            assert!(started.elapsed() < Duration::from_secs(20), "{verb:?} took {:?}", started.elapsed());
            let error = error_of(&ended);
            assert_eq!(error["code"], "credentials", "{verb:?}: {error}");
            assert!(error["next"].as_str().unwrap().contains("gcloud auth application-default login"), "{error}");
        }
    }
}

//! The demo as a person runs it: two at once, and one that is interrupted.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::{command_lines, programs};

fn demo() -> Child {
    Command::new(&programs()["xtask"])
        .args(["demo", "--json"])
        // Nothing of the laptop cloud is reached through a proxy.
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        // A person may have set up another environment in this shell.
        .env("PROJECT_NAME", "other-desk")
        .env_remove("DESKGRID_ENV")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the demo")
}

/// Processes that belong to the demo of this process id.
fn left_of(demo: u32) -> Vec<String> {
    let mark = format!("/demo-{demo}/");
    command_lines().into_iter().map(|(_, line)| line).filter(|line| line.contains(&mark)).collect()
}

#[test]
fn two_demos_at_once_do_not_disturb_each_other() {
    let demos = [demo(), demo()];
    for demo in demos {
        let id = demo.id();
        let ended = demo.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success(), "the demo ended with {}: {stderr}", ended.status);
        let document: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("--json prints one document");
        let checks = document["checks"].as_array().expect("checks");
        assert!(checks.len() >= 6 && checks.iter().all(|check| check["holds"] == true), "{checks:#?}");
        assert!(document["jobs"].as_array().expect("jobs").len() >= 44);
        assert_eq!(left_of(id), Vec::<String>::new());
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing_and_says_what_to_run_next() {
    for (moment, signal) in
        [("provisioning", Signal::SIGINT), ("submitting", Signal::SIGINT), ("deploying", Signal::SIGTERM)]
    {
        let mut demo = demo();
        let id = demo.id();
        let stderr = BufReader::new(demo.stderr.take().expect("standard error"));
        let mut said = String::new();
        for line in stderr.lines() {
            let line = line.unwrap();
            if line.contains(moment) {
                kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
            }
            said.push_str(&line);
            said.push('\n');
        }
        let status = demo.wait().unwrap();
        assert_eq!(status.code(), Some(128 + signal as i32), "{said}");
        assert!(said.contains("interrupted") && said.contains("cargo xtask demo"), "{said}");
        assert_eq!(left_of(id), Vec::<String>::new(), "{said}");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../infra/generated/demo-{id}"));
        assert!(!folder.exists(), "{} is left", folder.display());
    }
}

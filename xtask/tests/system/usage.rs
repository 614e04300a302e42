//! Wrong usage, help and completions: no environment is needed for these.

use std::process::{Command, Output, Stdio};

/// Runs the command line in an empty folder without any of our variables.
fn xtask(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Exit code, and a part of standard error.
fn check(arguments: &[&str], code: i32, said: &str) {
    let output = xtask(arguments);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
    assert!(stderr.contains(said), "{arguments:?}: {said:?} is not in\n{stderr}");
    assert!(stdout.is_empty(), "{arguments:?} wrote {stdout}");
}

#[test]
fn wrong_usage_exits_64() {
    check(&["sumbit"], 64, "submit");
    check(&["submit"], 64, "PATHS");
    check(&["jobs", "--state", "done"], 64, "succeeded");
    check(&["submit", "--items", "0", "x"], 64, "--items");
    check(&["submit", "--timeout", "5s", "x"], 64, "--wait");
    check(&["submit", "--session", "no/slash", "x"], 64, "is not a valid session name");
    check(&["jobs", "--env", "no-such-environment"], 64, "no-such-environment");
    check(&["--quiet", "--verbose", "jobs"], 64, "--quiet");
    check(&["explain", "no-such-code"], 64, "error[unknown-code]");
    check(&["teardown", "--yes-delete", "b"], 64, "--delete-data");
    check(&["logs", "--orchestrator", "a"], 64, "--orchestrator");
}

#[test]
fn what_cannot_be_read_exits_1_and_says_so() {
    check(&["submit", "--env", "local", "no-such-file"], 1, "error[no-such-file]");
    check(&["submit", "--env", "local", "."], 1, "error[nothing-to-submit]");
}

#[test]
fn errors_are_json_when_results_are() {
    let output = xtask(&["--json", "submit", "--env", "local", "no-such-file"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["code"], "no-such-file");
}

#[test]
fn every_verb_is_listed_with_one_line() {
    for arguments in [&[][..], &["--help"]] {
        let output = xtask(arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0));
        for verb in ["submit", "jobs", "job", "logs", "results", "status", "completions"] {
            assert!(text.lines().any(|line| line.trim_start().starts_with(&format!("{verb} "))), "{verb}\n{text}");
        }
    }
}

#[test]
fn completions_name_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let output = xtask(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains("submit"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["completions", "bash"])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}

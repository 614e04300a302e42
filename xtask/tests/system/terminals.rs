//! Text of others on an operator's terminal: no control character of a name, a log or a result reaches it.

use std::process::Stdio;

use cloud::storage::Properties;
use contract::{Outcome, object, outcome::State};

use crate::{
    desk::{Desk, ended, text, within},
    laptop::are_there,
};

/// Sets the title of a terminal, clears it, and begins an 8-bit control sequence.
const ATTACK: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m";

#[tokio::test(flavor = "multi_thread")]
async fn control_characters_of_others_do_not_reach_a_terminal() {
    let desk = Desk::start().await;
    for name in ["a.json", "bad.json"] {
        desk.input(name, name);
    }
    let inputs = desk.inputs();
    desk.run(&["submit", "--session", "s1", text(&inputs)], 0).await;
    desk.settle().await;
    let bucket = &desk.business.bucket;
    for outcome in desk.list("outcome/s1/").await {
        let (_, bytes) = desk.store.read(bucket, &outcome.name, None).await.unwrap().unwrap();
        let mut read: Outcome = serde_json::from_slice(&bytes).unwrap();
        if read.state == State::Failed {
            read.reason.message = format!("line 1: {ATTACK} is no trade");
            read.log_tail = Some(format!("reading {ATTACK}\n"));
        } else {
            let result = serde_json::json!({"kernel": "monte-carlo", "trades": [
                {"id": format!("t{ATTACK}"), "price": 1.5, "standard_error": 0.25}]});
            let output = read.work.as_ref().unwrap().output();
            desk.store.write(bucket, &output, result.to_string(), Properties::json()).await.unwrap();
        }
        let properties = Properties { metadata: read.metadata(), ..Properties::json() };
        desk.store.write(bucket, &outcome.name, serde_json::to_vec(&read).unwrap(), properties).await.unwrap();
    }
    let object = object::input("bu1", "s1", &format!("x{ATTACK}"));
    desk.store.write(bucket, &object, "x", Properties::default()).await.unwrap();

    let hostile = |shown: &str| shown.chars().find(|c| c.is_control() && !"\n\r\t".contains(*c));
    let verbs: [&[&str]; 7] = [
        &["results", "--format", "table"],
        &["results", "--format", "json"],
        &["jobs"],
        &["job", "a.json"],
        &["job", "bad.json"],
        &["logs", "bad.json"],
        &["session", "failures", "s1"],
    ];
    let has_script = are_there(&["script"]);
    for arguments in verbs {
        let (stdout, stderr) = desk.run(arguments, 0).await;
        let raw = arguments[0] == "logs";
        assert_eq!(hostile(&stdout).is_some(), raw, "{arguments:?}: only a program reads the raw log: {stdout:?}");
        assert_eq!(hostile(&stderr), None, "{arguments:?}: {stderr:?}");
        if has_script {
            let command = desk.command(arguments);
            let words = std::iter::once(command.as_std().get_program()).chain(command.as_std().get_args());
            let line: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
            let mut script = tokio::process::Command::new("script");
            script.args(["-qec", &format!("stty cols 200; {}", line.join(" ")), "/dev/null"]);
            script.env("NO_COLOR", "1").env("TERM", "xterm").current_dir(desk.folder.path());
            let shown = within(script.stdin(Stdio::null()).output()).await.unwrap();
            let (shown, _) = ended(&shown, 0);
            assert_eq!(hostile(&shown), None, "{arguments:?} on a terminal: {shown:?}");
            assert!(
                shown.contains("\\x1b") || arguments[0] == "jobs" || shown.contains("\\u"),
                "{arguments:?}: {shown}"
            );
        }
    }
    // With --output and in a pipe, results are what they are.
    let (stdout, _) = desk.run(&["results"], 0).await;
    assert!(stdout.contains(&format!("t{ATTACK}")), "{stdout:?}");
}

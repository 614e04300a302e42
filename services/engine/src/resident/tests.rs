//! Programs that stay, written for the shell.

use super::*;
use crate::input::tests::block_on;

/// A program that runs this for each item, which is `$x`.
fn shell(each: &str) -> Program {
    let script = format!("while read -r header; do length=${{header##*:}}; x=$(head -c ${{length%?}}); {each}; done");
    Program {
        command: ["sh", "-c", &script].map(str::to_owned).into(),
        permanent_exit_codes: vec![3],
        timeout: Some(Duration::from_secs(60)),
        max_output_bytes: Some(1000),
        content_type: None,
        resident: true,
    }
}

/// The results of some items one after another, and the failures.
fn compute(program: &Program, items: &[&str]) -> Vec<Result<String, String>> {
    let common = std::env::temp_dir();
    block_on(async {
        let residents = Residents::default();
        let mut results = Vec::new();
        for (index, item) in (0..).zip(items) {
            let name = item.strip_prefix("file ");
            let position = Position { share: Share { index, count: 9 }, name };
            let computed = residents.compute(program, &common, item.as_bytes(), position, None).await;
            let text = |output: Output| format!("{} {}", output.content_type, String::from_utf8_lossy(&output.bytes));
            results.push(computed.map(text).map_err(|failure| format!("{} {failure}", failure.permanent)));
        }
        residents.close().await;
        results
    })
}

#[test]
fn one_process_answers_one_item_after_another() {
    let program = shell("n=$((n + 1)); printf '{\"length\":%d}\\n%s' $((${#x} + 2)) \"$n $x\"");
    let expected =
        ["text/plain; charset=utf-8 1 a", "text/plain; charset=utf-8 2 ", "text/plain; charset=utf-8 3 c\n\nd"];
    assert_eq!(compute(&program, &["a", "", "c\n\nd"]), expected.map(|text| Ok(text.to_owned())));
    let program = shell("printf '{\"length\":%d,\"content_type\":\"x/y\"}\\n%s' ${#header} \"$header\"");
    assert_eq!(compute(&program, &["a"]), [Ok(r#"x/y {"index":0,"count":9,"length":1}"#.to_owned())]);
    let file = r#"x/y {"index":0,"count":9,"name":"a\"/b","length":9}"#;
    assert_eq!(compute(&program, &["file a\"/b"]), [Ok(file.to_owned())]);
}

#[test]
fn a_failure_is_that_of_its_item() {
    let program = shell(
        "case $x in \
         bad) echo '{\"error\":\"no bad\",\"permanent\":true}';; \
         busy) echo '{\"error\":\"later\"}';; \
         chatter) echo hello;; \
         large) echo '{\"length\":1001}';; \
         short) printf '{\"length\":9}\\nabc'; exit 0;; \
         never) exit 3;; \
         dies) kill -9 $$;; \
         *) printf '{\"length\":2}\\nok';; esac",
    );
    let found =
        compute(&program, &["bad", "a", "busy", "b", "chatter", "c", "large", "d", "short", "never", "dies", "e"]);
    let failed: Vec<String> = found.iter().filter_map(|result| result.clone().err()).collect();
    let expected = [
        "true program-failed: no bad",
        "false program-failed: later",
        "true malformed-answer: sh wrote \"hello\" to standard output in place of an answer: a line of JSON with length \
         or error, see --resident",
        "true output-too-large: the result of sh has more than 1000 bytes (--max-output-bytes, or max_output of the \
         business)",
        "false program-ended: sh exited with code 0 before it answered",
        "true program-failed: sh exited with code 3",
        "false program-ended: sh was ended by signal 9 (SIGKILL) before it answered",
    ];
    assert_eq!(failed, expected);
    assert_eq!(found.iter().flatten().count(), 5);
}

#[test]
fn a_program_that_takes_too_long_is_ended_and_started_again() {
    let mut program = shell("[ $x = slow ] && sleep 600; printf '{\"length\":2}\\nok'");
    program.timeout = Some(Duration::from_secs(1));
    let found = compute(&program, &["slow", "a"]);
    assert_eq!(found[0], Err("false timeout: sh ran longer than 1 s".to_owned()));
    assert!(found[1].is_ok(), "{found:?}");
    program.command = vec!["/no/such/program".into()];
    assert!(compute(&program, &["a"])[0].as_ref().unwrap_err().contains("cannot-start"));
}

//! `engine try` with a program and without.

use std::time::{Duration, Instant};

use crate::{engine, run, try_engine};

fn shell(flags: &[&str], script: &str, input: &[u8]) -> (i32, String, String) {
    try_engine(&[flags, &["--", "sh", "-c", script]].concat(), input)
}

#[test]
fn the_built_in_kernel_echoes_text() {
    let (code, out, _) = try_engine(&[], b"engine payload 1");
    assert_eq!(code, 0);
    assert!(out.starts_with(r#"{"kernel":"echo","payload":"engine payload 1","bytes":16,"sha256":""#), "{out}");
}

#[test]
fn threads_change_no_byte_of_a_result() {
    let input = include_bytes!("../../../../examples/pricing/01-index-calls.json");
    let with = |threads: &str| {
        let mut command = engine(&["try"]);
        command.env("DESKGRID_THREADS", threads);
        run(command, input)
    };
    let (one, eight) = (with("1"), with("8"));
    assert!(one.status.success());
    assert_eq!(one.stdout, eight.stdout);
}

#[test]
fn the_result_is_standard_output_or_the_file() {
    assert_eq!(shell(&[], "cat; cat $DESKGRID_INPUT", b"ab"), (0, "abab".into(), String::new()));
    let (code, out, log) = shell(&[], "echo chatter; echo result > $DESKGRID_RESULT", b"");
    assert_eq!((code, out.as_str()), (0, "result\n"));
    // Output that is not the result goes to the log.
    assert_eq!(log, "chatter\n");
    assert_eq!(shell(&[], "echo $DESKGRID_INDEX/$DESKGRID_COUNT; test -d $DESKGRID_COMMON", b"").1, "0/1\n");
    assert_eq!(shell(&[], "true", b"unread").1, "");
    let mut named = engine(&["try", "--", "sh", "-c", "echo $DESKGRID_NAME"]);
    named.env("DESKGRID_NAME", "a/b.json");
    assert_eq!(run(named, b"").stdout, b"a/b.json\n");
}

#[test]
fn exit_codes_are_mapped() {
    let (code, out, log) = shell(&[], "echo partial; echo why >&2; exit 3", b"");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(log.starts_with("why\n") && log.contains("exited with code 3"), "{log}");
    assert_eq!(shell(&["--permanent-exit-codes", "2,3"], "exit 3", b"").0, 10);
    assert_eq!(shell(&["--permanent-exit-codes", "2,3"], "exit 4", b"").0, 1);
    // The program's own 10 means nothing to us unless it is configured.
    assert_eq!(shell(&[], "exit 10", b"").0, 1);
    let (code, _, log) = shell(&[], "kill -9 $$", b"");
    assert!(code == 1 && log.contains("SIGKILL"), "{code} {log}");
    let (code, _, log) = try_engine(&["--", "/no/such/program"], b"");
    assert!(code == 1 && log.contains("/no/such/program"), "{code} {log}");
    assert_eq!(try_engine(&["--no-such-flag"], b"").0, 64);
    assert_eq!(try_engine(&["--resident"], b"").0, 64);
    assert_eq!(try_engine(&["--help"], b"").0, 0);
}

#[test]
fn a_program_that_runs_too_long_is_ended_with_what_it_started() {
    let started = Instant::now();
    let (code, _, log) = shell(&["--timeout-secs", "1"], "sleep 600 & sleep 600", b"");
    assert!(code == 1 && log.contains("longer than 1 s"), "{code} {log}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn processes_that_a_program_leaves_running_do_not_delay_its_result() {
    let started = Instant::now();
    assert_eq!(shell(&[], "sleep 600 & echo done", b"").1, "done\n");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn results_have_a_limit() {
    assert_eq!(shell(&["--max-output-bytes", "4"], "printf 1234", b"").1, "1234");
    for script in ["printf 12345", "yes", "printf 12345 > $DESKGRID_RESULT"] {
        let (code, out, log) = shell(&["--max-output-bytes", "4"], script, b"");
        assert_eq!((code, out.as_str()), (10, ""), "{script}");
        assert!(log.contains("output-too-large"), "{log}");
    }
}

#[test]
fn a_signal_reaches_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let script = format!("trap 'echo stopped; exit 0' TERM; touch {}; while :; do sleep 0.01; done", ready.display());
    let mut child = engine(&["try", "--", "sh", "-c", &script]).spawn().unwrap();
    drop(child.stdin.take());
    let started = Instant::now();
    while !ready.exists() {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"stopped\n"[..]));
}

#[test]
fn the_work_folder_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    for script in ["echo $DESKGRID_RESULT", "exit 1"] {
        let mut command = engine(&["try", "--", "sh", "-c", script]);
        command.env("DESKGRID_WORK_DIR", folder.path());
        let output = run(command, b"");
        if output.status.success() {
            assert!(String::from_utf8(output.stdout).unwrap().starts_with(folder.path().to_str().unwrap()));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

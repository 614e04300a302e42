//! `engine run` and `engine exec` as far as they go without a cloud; the rest is for the end-to-end tests.

use crate::{engine, run};

#[test]
fn what_is_missing_is_named_in_the_termination_message() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("termination-log");
    for arguments in [&[][..], &["run"], &["exec", "--", "true"]] {
        let mut command = engine(arguments);
        command.env("DESKGRID_TERMINATION_LOG", &log).env_remove("DESKGRID_WORK").env_remove("DESKGRID_CONFIG");
        let output = run(command, b"");
        assert_eq!(output.status.code(), Some(1));
        let message: serde_json::Value = serde_json::from_slice(&std::fs::read(&log).unwrap()).unwrap();
        assert_eq!(message["code"], "configuration");
        let text = message["message"].as_str().unwrap();
        assert!(text.contains("DESKGRID_WORK") && text.contains("DESKGRID_CONFIG"), "{text}");
        assert!(message["cpu_seconds"].as_f64().unwrap() >= 0.0);
        std::fs::remove_file(&log).unwrap();
    }
}

#[test]
fn exec_needs_a_program() {
    assert_eq!(run(engine(&["exec"]), b"").status.code(), Some(64));
}

//! The part of `engine run` and `engine exec` that needs no cloud; the end-to-end tests cover the rest.

use std::{io::Read as _, net::TcpListener, time::Duration};

use crate::{command, engine, run};

/// A storage that takes requests and never answers. The image of the installed engine has no certificate authorities.
#[test]
fn the_engine_requests_its_input_and_stops_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let (installed, none) = (folder.path().join("bin/engine"), folder.path().join("none"));
    std::fs::create_dir(&none).unwrap();
    let output = run(engine(&["install", installed.to_str().unwrap()]), b"");
    assert!(output.status.success(), "{output:?}");
    let mut exec = command(&installed, &["exec", "--resident", "--", "true"]);
    exec.env("SSL_CERT_DIR", none).env_remove("SSL_CERT_FILE");
    for mut command in [engine(&[]), exec] {
        let (config, log) = (folder.path().join("config.json"), folder.path().join("termination-log"));
        std::fs::write(&config, serde_json::to_vec(&contract::testing::config(&["bu1"])).unwrap()).unwrap();
        let work = serde_json::to_string(&contract::testing::work("bu1", "s", "j")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        command
            .env("DESKGRID_CONFIG", &config)
            .env("DESKGRID_WORK", work)
            .env("DESKGRID_TERMINATION_LOG", &log)
            .env("STORAGE_EMULATOR_HOST", listener.local_addr().unwrap().to_string())
            .env("PUBSUB_EMULATOR_HOST", "127.0.0.1:9");
        let child = command.spawn().unwrap();
        let mut connections = Vec::new();
        let request = loop {
            let (mut connection, _) = listener.accept().unwrap();
            connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut start = [0; 4096];
            let length = connection.read(&mut start).unwrap();
            let start = String::from_utf8_lossy(&start[..length]).into_owned();
            connections.push(connection);
            if start.starts_with("GET ") {
                break start;
            }
        };
        assert!(request.contains("bu1%2Finput%2Fs%2Fj") && request.contains("generation=7"), "{request}");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        let message: serde_json::Value = serde_json::from_slice(&std::fs::read(&log).unwrap()).unwrap();
        assert_eq!(message["code"], "stopped");
    }
}

#[test]
fn the_termination_message_names_missing_variables() {
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

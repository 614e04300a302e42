//! The programs of the services, and which of them run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Programs of the services, built once for all tests.
pub(crate) fn programs() -> &'static BTreeMap<String, PathBuf> {
    static PROGRAMS: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask has a parent folder");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--message-format=json-render-diagnostics"])
            .args(
                ["xtask", "orchestrator", "engine", "client", "monitor"].map(|package| format!("--package={package}")),
            )
            .current_dir(root)
            .output()
            .expect("run cargo build");
        assert!(built.status.success(), "cargo build failed: {}", String::from_utf8_lossy(&built.stderr));
        let lines = String::from_utf8_lossy(&built.stdout).into_owned();
        lines
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter_map(|message| {
                let program = message["executable"].as_str()?;
                Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(program)))
            })
            .collect()
    })
}

/// Process ids and command lines of everything that runs on this machine.
pub(crate) fn command_lines() -> Vec<(i32, String)> {
    let listed = Command::new("ps").args(["-axww", "-o", "pid=,args="]).output();
    if let Ok(listed) = listed
        && listed.status.success()
    {
        let lines = String::from_utf8_lossy(&listed.stdout).into_owned();
        let parse =
            |line: &str| line.trim().split_once(' ').and_then(|(pid, line)| Some((pid.parse().ok()?, line.to_owned())));
        return lines.lines().filter_map(parse).collect();
    }
    // A machine without `ps`, such as a slim container: /proc has the same.
    let entries = std::fs::read_dir("/proc").expect("a machine has ps or /proc").flatten();
    let parse = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, String::from_utf8_lossy(&line).replace('\0', " ")))
    };
    entries.filter_map(parse).collect()
}

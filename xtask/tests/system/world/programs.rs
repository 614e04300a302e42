//! The programs of the services, their images, and which of them run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock},
};

use localcloud::node::images::Images;

/// Programs of the services, built once for all tests.
pub(crate) fn programs() -> &'static BTreeMap<String, PathBuf> {
    static PROGRAMS: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask has a parent folder");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--message-format=json-render-diagnostics"])
            .args(
                ["xtask", "cli", "orchestrator", "engine", "client", "monitor"]
                    .map(|package| format!("--package={package}")),
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

/// The image of a program in the folder of a laptop cloud. The digest is computed once for all tests, and the file is a
/// hard link where that is possible: copies of all programs for every test would be tens of gigabytes.
pub(crate) fn image(cloud: &Path, name: &str) -> String {
    static REFERENCES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let program = &programs()[name];
    let reference = REFERENCES
        .lock()
        .unwrap()
        .entry(name.to_owned())
        .or_insert_with(|| Images::reference(&format!("registry/{name}"), program).unwrap())
        .clone();
    let (_, digest) = reference.split_once("@sha256:").expect("a reference has a digest");
    let images = cloud.join("cluster/images");
    let folder = images.join(format!("sha256-{digest}"));
    std::fs::create_dir_all(&folder).unwrap();
    let kept = folder.join(name);
    // One that runs cannot be written.
    if !kept.exists() && std::fs::hard_link(program, &kept).is_err() {
        std::fs::copy(program, &kept).unwrap();
    }
    assert!(Images::new(images).find(&reference).is_some(), "the laptop cloud does not find {reference}");
    reference
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

//! The orchestrator's memory.

use std::path::Path;

use anyhow::Context as _;

use super::{
    report::{Better, Goal, Measure, Row},
    target::Target,
};

/// Goal for the memory of an orchestrator, in MiB.
const GOAL_MIB: f64 = 30.0;

/// Reads the memory of the orchestrator of a cluster, which has `jobs` Jobs in its namespace.
pub(super) fn measure(target: &Target, jobs: usize) -> anyhow::Result<Row> {
    let resident = resident_bytes(&target.namespace)
        .context("find the orchestrator among this machine's processes; only Linux reports their memory in /proc")?;
    Ok(Row::new(
        format!("orchestrator's memory with {jobs} Jobs in its namespace{}", target.label),
        Measure { value: resident.all as f64 / 1024.0 / 1024.0, unit: "MiB" },
        None,
        Goal::Value(GOAL_MIB, Better::Lower),
        format!(
            "resident set of its process, once it has created them; {:.0} MiB of it are pages of the program itself",
            resident.file as f64 / 1024.0 / 1024.0
        ),
    ))
}

/// Resident memory of a process, in bytes.
struct Resident {
    all: u64,
    /// Pages of the program's file: replicas share them, and the system can drop them.
    file: u64,
}

/// Resident memory of the orchestrator that works in this namespace, among the descendants of this process.
fn resident_bytes(namespace: &str) -> Option<Resident> {
    let variable = format!("NAMESPACE={namespace}");
    let ours = std::process::id().to_string();
    std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path()).find_map(|process| {
        let program = std::fs::read_link(process.join("exe")).ok()?;
        let variables = std::fs::read(process.join("environ")).ok()?;
        let has_variable = variables.split(|byte| *byte == 0).any(|found| found == variable.as_bytes());
        let is_orchestrator = has_variable && runs_orchestrator(&program, &process);
        if !is_orchestrator || !descends_from(&process, &ours) {
            return None;
        }
        let bytes = |field| status(&process, field).map(|kib| kib * 1024);
        Some(Resident { all: bytes("VmRSS:")?, file: bytes("RssFile:")? })
    })
}

fn runs_orchestrator(program: &Path, process: &Path) -> bool {
    let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    program.to_string_lossy().contains("orchestrator") || arguments.contains("orchestrator")
}

fn descends_from(process: &Path, ancestor: &str) -> bool {
    let mut process = process.to_owned();
    for _ in 0..16 {
        let Some(parent) = status(&process, "PPid:") else { return false };
        if parent.to_string() == ancestor {
            return true;
        }
        process = Path::new("/proc").join(parent.to_string());
    }
    false
}

/// A number of a process's status, such as `VmRSS`, in KiB.
fn status(process: &Path, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

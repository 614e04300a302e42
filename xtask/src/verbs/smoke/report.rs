//! The report of a smoke test. It has no project, no account, no address and no name of the user.

use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::steps::NOT_RUN;

/// Version of the form of the report.
const SCHEMA: u32 = 1;

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    version: &'static str,
    made: Timestamp,
    cloud: &'static str,
    location: String,
    pub(super) steps: Vec<Done>,
    /// Commands that are not run, with the reason.
    not_run: &'static [(&'static str, &'static str)],
}

/// A command that has ended.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    pub(super) verb: String,
    /// Exit code; nothing after a signal.
    pub(super) exit: Option<i32>,
    /// It ended as it should.
    pub(super) fine: bool,
    pub(super) milliseconds: u64,
    /// Code of its error.
    pub(super) error: Option<String>,
    /// Its requests, see `cloud::requests`.
    pub(super) requests: Vec<Value>,
}

impl Report {
    pub(super) fn new(local: bool, location: &str) -> Self {
        let (version, cloud) = (env!("CARGO_PKG_VERSION"), if local { "local" } else { "google" });
        let location = location.to_owned();
        Self { schema: SCHEMA, version, made: Timestamp::now(), cloud, location, steps: Vec::new(), not_run: NOT_RUN }
    }

    /// The commands that did not end as they should.
    pub(super) fn failed(&self) -> Vec<String> {
        let failed = self.steps.iter().filter(|step| !step.fine);
        let line = |step: &Done| format!("{}: {}", step.verb, step.error.as_deref().unwrap_or("another exit code"));
        failed.map(line).collect()
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("encode the report")? + "\n";
        std::fs::write(path, text).with_context(|| format!("write the report {}", path.display()))
    }
}

/// The requests in the record of a command; none when it sent none.
pub(super) fn requests(path: &Path) -> anyhow::Result<Vec<Value>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let context = || format!("read the requests in {}", path.display());
    let text = std::fs::read_to_string(path).with_context(context)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(context)).collect()
}

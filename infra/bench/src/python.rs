//! The import of the Python package and small calls by `map`, beside Ray and Dask; `python/bench.py` makes them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;
use cli::output::Output;
use localcloud::node::images::Images;
use serde::Deserialize;
use tokio::process::Command;
use xtask::{binaries::Binaries, stage::Stage};

use super::report::{Better, Goal, Measure, Row};

/// What runs the interpreter in a container of the laptop cloud.
const SHELL: &str = "/bin/sh";

/// A line that the script prints.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Rate { system: String, chunk: usize, calls_per_second: f64 },
    Import { system: String, import_seconds: f64 },
    Skipped { system: String, why: String },
}

/// The business `python` of the environment file: its engines compute Python calls, one at a time.
///
/// # Errors
/// When there is no shell, or no Python that the package supports.
pub(super) fn business() -> anyhow::Result<String> {
    let version = "import sys; print(sys.executable); sys.exit(sys.version_info < (3, 10))";
    let found = std::process::Command::new("python3").args(["-c", version]).output().context("run python3")?;
    anyhow::ensure!(found.status.success(), "python3 is older than 3.10");
    let python = String::from_utf8(found.stdout)?;
    let image = Images::reference("registry/shell", Path::new(SHELL))?;
    let package = format!("PYTHONPATH={}", package().display());
    let command = serde_json::to_string(&["/usr/bin/env", &package, python.trim(), "-m", "deskgrid.worker"])?;
    Ok(format!(
        "[businesses.python]\ndispatch = \"pool\"\n\
         [businesses.python.pool]\nmin = 2\nmax = 2\nslots = 1\n\
         [businesses.python.engine]\ncpu = \"500m\"\nmemory = \"512Mi\"\n\
         image = \"{image}\"\ncommand = {command}\nresident = true\n"
    ))
}

/// Gives the laptop cloud the image of that business.
///
/// # Errors
/// When it cannot be kept.
pub(super) fn register(stage: &Stage) -> anyhow::Result<()> {
    Images::new(stage.images()).register("registry/shell", Path::new(SHELL)).map(drop)
}

/// Measures the business `python`.
///
/// # Errors
/// When the script does not run.
pub(super) async fn measure(stage: &Stage, binaries: &Binaries, output: &Output) -> anyhow::Result<Vec<Row>> {
    let mut command = Command::new("python3");
    command.arg(package().join("bench.py")).arg("python").env("PYTHONPATH", package()).envs(stage.variables());
    command.env("DESKGRID_PROGRAM", binaries.path("deskgrid")?).env("DESKGRID_CONFIG", stage.config());
    let ended = command.stdin(Stdio::null()).kill_on_drop(true).output().await.context("run python3")?;
    let said = String::from_utf8_lossy(&ended.stderr);
    anyhow::ensure!(ended.status.success(), "python/bench.py ended with {}: {said}", ended.status);
    let (mut rates, mut imports, mut rows) = (Vec::new(), BTreeMap::new(), Vec::new());
    for line in String::from_utf8_lossy(&ended.stdout).lines() {
        match serde_json::from_str(line).with_context(|| format!("read {line:?} of python/bench.py"))? {
            Line::Rate { system, chunk, calls_per_second } => rates.push((system, chunk, calls_per_second)),
            Line::Import { system, import_seconds } => {
                imports.insert(system, import_seconds * 1000.0);
            }
            Line::Skipped { system, why } => output.note(format_args!("{system} was not measured: {why}")),
        }
    }
    if let (Some(ours), Some(ray)) = (imports.get("deskgrid"), imports.get("ray")) {
        let measure = Measure { value: *ours, unit: "ms" };
        let goal = Goal::Ratio(0.2, Better::Lower);
        rows.push(Row::new("import of the Python package", measure, Some(("ray", *ray)), goal, ""));
    }
    let ours: Vec<(usize, f64)> =
        rates.iter().filter(|(system, ..)| system == "deskgrid").map(|(_, chunk, rate)| (*chunk, *rate)).collect();
    for (chunk, rate) in ours {
        let name = format!("Python calls by map, in chunks of {chunk}");
        for (peer, ratio) in [("ray", 1.0), ("dask", 3.0)] {
            let measure = Measure { value: rate, unit: "calls/s" };
            let Some((.., peers)) = rates.iter().find(|(system, of, _)| system == peer && *of == chunk) else {
                continue;
            };
            let goal = Goal::Ratio(ratio, Better::Higher);
            rows.push(Row::new(name.clone(), measure, Some((peer, *peers)), goal, ""));
        }
    }
    Ok(rows)
}

/// The folder of the package.
fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python")
}

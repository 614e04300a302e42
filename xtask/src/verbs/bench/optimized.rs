//! Builds optimised programs, this one among them, and has them measured.

use std::process::Stdio;

use anyhow::Context as _;
use clap::ValueEnum as _;
use cli::{error::Failure, output::Output};
use contract::exit;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::Args;
use crate::binaries::Binaries;

/// Runs the same bench with them, and passes its exit code on.
///
/// # Errors
/// When they do not build, or cannot be run.
pub(super) async fn run(args: &Args, stop: &CancellationToken, output: &Output) -> anyhow::Result<u8> {
    output.note("building optimised programs (the first time takes many minutes; `--dev` measures what the demo runs)");
    let binaries = tokio::select! {
        built = Binaries::build_optimized(output) => built?,
        () = stop.cancelled() => return Err(Failure::new("interrupted", "the build was interrupted").into()),
    };
    let program = binaries.path("xtask")?;
    let mut command = Command::new(program);
    command.args(["bench", "--as-built"]);
    for (wanted, flag) in [(args.quick, "--quick"), (output.json, "--json"), (output.is_quiet(), "--quiet")] {
        if wanted {
            command.arg(flag);
        }
    }
    if let Some(name) = &args.context {
        command.args(["--context", name]);
    }
    for part in &args.only {
        let name = part.to_possible_value().context("name a part of the bench")?;
        command.args(["--only", name.get_name()]);
    }
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("start {}", program.display()))?;
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = stop.cancelled() => {
            // It takes down what it started, and ends.
            let id = child.id().and_then(|id| i32::try_from(id).ok());
            if let Some(id) = id {
                let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
            }
            child.wait().await
        }
    };
    let ended = ended.context("wait for the bench")?;
    Ok(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILED))
}

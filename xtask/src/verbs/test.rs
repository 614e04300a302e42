//! `test` and `check`: what must hold before a change lands.

use std::process::Stdio;

use anyhow::Context as _;
use common::exit;
use tokio::process::Command;

use crate::{context, error::Failure, output::Output};

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this, as `cargo test` takes it
    filter: Option<String>,
}

/// Runs every test of the workspace.
///
/// # Errors
/// When one fails, or cargo cannot be run.
pub(crate) async fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    let mut arguments = vec!["test", "--workspace", "--no-fail-fast"];
    arguments.extend(args.filter.as_deref());
    cargo(&arguments, output).await?;
    Ok(exit::DONE)
}

/// Checks format and lints, then runs every test.
///
/// # Errors
/// When something does not hold, or cargo cannot be run.
pub(crate) async fn check(output: &Output) -> anyhow::Result<u8> {
    cargo(&["fmt", "--all", "--check"], output).await?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], output).await?;
    run(&Args { filter: None }, output).await
}

async fn cargo(arguments: &[&str], output: &Output) -> anyhow::Result<()> {
    let cargo = common::config::variables().remove("CARGO").unwrap_or_else(|| "cargo".to_owned());
    let line = format!("cargo {}", arguments.join(" "));
    output.note(format_args!("running {line}"));
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(context::root()).stdin(Stdio::null()).kill_on_drop(true);
    // What this very run was told is not for the tests, which start this program themselves.
    command.env_remove("DESKGRID_ENV");
    let status = command.status().await.with_context(|| format!("run {line}"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new("check", format!("{line} ended with {status}")).next("see its messages above").into())
}

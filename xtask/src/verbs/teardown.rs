//! `teardown`: the whole environment out of the cloud, and nothing lost of its work.

use cli::{error::Failure, output::Output};
use contract::exit;

use crate::{context, globals::Globals, removing, removing::Removal, setup};

/// Arguments of `teardown`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: removing::Options,
}

/// Stops every intake, lets Jobs settle, takes everything away, and proves that nothing is left.
///
/// # Errors
/// When the user does not agree, a step failed (a repeated run continues from there), or something is left.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    let cloud = setup::connect(&environment, globals).await?;
    let lock = args.options.lock.settings(globals, "teardown", output);
    let (cloud, changed) = (&cloud, Vec::new());
    let removal = Removal { before: &environment, after: None, cloud, changed, options: &args.options, lock };
    let Some(report) = removal.run(output).await? else { return Ok(exit::DONE) };
    removing::forget_manifests(&environment, None)?;
    if output.json {
        output.record(&report)?;
    } else {
        output.note(report.summary());
    }
    if report.left.is_empty() {
        return Ok(exit::DONE);
    }
    Err(Failure::new("left-behind", "something of the environment is left")
        .on(format!("environment {}", environment.name))
        .why(report.left.join("\n"))
        .next("cargo xtask teardown again, or see who makes it anew")
        .into())
}

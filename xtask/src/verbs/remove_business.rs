//! `remove-business`: one business out of the cloud and the environment file, and nothing lost of its work.

use std::path::Path;

use anyhow::Context as _;
use cli::{error::Failure, output::Output};
use contract::exit;
use provision::{
    Environment,
    deploy::{Foreign, Only},
    environment, locked,
};

use crate::{context, globals::Globals, removing, removing::Removal, setup};

/// Arguments of `remove-business`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the business
    name: String,
    #[command(flatten)]
    options: removing::Options,
}

/// Stops its intake, takes everything of it away, and takes it out of the environment file last.
///
/// # Errors
/// When work is pending and is not to be cancelled, the user does not agree, or a step failed; a repeated run continues
/// from there.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let before = context::load(globals)?;
    if before.business(&args.name).is_none() {
        return Err(Failure::usage(format!("there is no business {:?} in environment {}", args.name, before.name))
            .next("see the environment file")
            .into());
    }
    let path = before.path.clone().context("find the environment file")?;
    check_writable(&path)?;
    let (_, after) = without(&before, &path, &args.name)?;
    let cloud = setup::connect(&before, globals).await?;
    let lock = args.options.lock.settings(globals, "remove-business", output);
    // They would read resources that are gone.
    let web = setup::plan_part(&after, globals, &cloud, Only::Web, Foreign::Refuse).await?;
    let changed = web.as_ref().map(|part| part.plan.changes()).unwrap_or_default();
    let removal =
        Removal { before: &before, after: Some(&after), cloud: &cloud, changed, options: &args.options, lock };
    let Some(report) = removal.run(output).await? else { return Ok(exit::DONE) };
    let settings = args.options.lock.settings(globals, "remove-business", output);
    let after = locked::with_lock(&after, &cloud, &settings, None, async |step| {
        // Read again: somebody else may have changed it while this took its time.
        let (text, after) = without(&before, &path, &args.name)?;
        step("configures the web apps");
        setup::deploy_part(&after, globals, &cloud, web.as_ref(), output).await?;
        cli::destination::replace(&path, &text)?;
        anyhow::Ok(after)
    })
    .await?;
    setup::write_config(&after, &cloud)?;
    removing::forget_manifests(&before, Some(&args.name))?;
    if output.json {
        output.record(&report)?;
    } else {
        output.note(format_args!("  took {} out of {}", args.name, path.display()));
        output.note(report.summary());
    }
    Ok(exit::DONE)
}

/// Checks that the environment file can be written, before anything is removed from the cloud.
fn check_writable(path: &Path) -> anyhow::Result<()> {
    let opened = std::fs::OpenOptions::new().append(true).open(path).map(drop);
    opened.map_err(|error| {
        Failure::new("environment-file", "the environment file cannot be written; nothing was removed")
            .on(path.display().to_string())
            .why(error.to_string())
            .next("make it writable, and run it again")
            .into()
    })
}

/// The text of the environment file without the business, and what it says then.
fn without(environment: &Environment, path: &Path, name: &str) -> anyhow::Result<(String, Environment)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let text = environment::edit::remove_business(&text, name)?;
    let variables = contract::config::variables();
    let mut after = environment::parse(&environment.name, &path.display().to_string(), &text, &variables)?;
    after.path = Some(path.to_owned());
    Ok((text, after))
}

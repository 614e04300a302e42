//! `demo`: the whole system on this machine, from nothing to checked results, and back to nothing.

mod checks;
mod impersonate;
mod summary;
mod work;

use std::{path::PathBuf, time::Instant};

use anyhow::Context as _;
use cli::{error::Failure, output::Output};
use cloud::shutdown;
use provision::{
    deploy::{Foreign, Only},
    environment,
};
use tokio_util::sync::CancellationToken;

use super::add_business;
use crate::{
    binaries::Binaries,
    context,
    globals::Globals,
    removing::{self, Removal},
    setup,
    stage::{Stage, leftovers},
};

/// The businesses of the demo.
const BUSINESSES: [&str; 2] = ["bu1", "bu2"];

/// How long Jobs may take to settle at the end; all are by then.
const TEARDOWN_SECS: u64 = 60;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave everything running, and print commands that show it
    #[arg(long)]
    keep: bool,
}

/// Runs the demo.
///
/// # Errors
/// When a step fails, a check does not hold, or it is interrupted; nothing is left in any case.
pub(crate) async fn run(args: &Args, output: &Output) -> anyhow::Result<u8> {
    let stop = shutdown::on_signal()?;
    output.note("building the services (the first time takes minutes)");
    let binaries = unless_stopped(&stop, Binaries::build(output)).await?;

    let started = Instant::now();
    let mut stage = Stage::make("demo", &environment_file()?)?;
    let performed = unless_stopped(&stop, perform(&mut stage, args, &binaries, &stop, output)).await;
    let seconds = || format!("{:.1} s after the build", started.elapsed().as_secs_f64());
    if args.keep
        && let Ok(summary) = &performed
    {
        summary.print(output)?;
        output.note(stage.example_commands()?);
        output.note(seconds());
        stage.keep();
        return Ok(summary.exit_code());
    }
    let left = stage.remove();
    let summary = performed?;
    summary.print(output)?;
    let left = left?;
    output.note(leftovers::describe(&left));
    output.note(seconds());
    if left.is_empty() {
        return Ok(summary.exit_code());
    }
    Err(Failure::new("left-behind", "the demo left something behind").why(left.join("\n")).into())
}

/// The steps, up to the checks.
async fn perform(
    stage: &mut Stage,
    args: &Args,
    binaries: &Binaries,
    stop: &CancellationToken,
    output: &Output,
) -> anyhow::Result<summary::Summary> {
    output.note(format_args!("starting a laptop cloud for the environment {}", stage.environment().name));
    stage.start_cloud(!args.keep, false)?;

    let [first, second] = BUSINESSES;
    output.note(format_args!("provisioning the business {first}"));
    let quiet = output.errors_only();
    let cloud = setup::connect(stage.environment(), &Globals::default()).await?;
    let plan = setup::make_plan(stage.environment(), &cloud, provision::plan::Options::default(), &quiet).await?;
    let report = setup::carry_out(plan, &cloud, &quiet).await?;
    output.note(format_args!("  {} changes in {} ms", report.applied.done, report.elapsed_ms));
    setup::write_config(stage.environment(), &cloud)?;

    output.note("deploying its orchestrator");
    let images = setup::images(stage.environment(), binaries)?;
    setup::deploy(stage.environment(), &cloud, images, Foreign::Refuse, output).await?;

    output.note(format_args!("adding the business {second} beside it"));
    let overrides = provision::environment::Overrides::new();
    let (before, after, text) = add_business::with(stage.environment().clone(), second, &overrides)?;
    let options = provision::plan::Options::default();
    let plan = provision::plan_addition(&before, &after, &cloud, options, &setup::progress(&quiet)).await?;
    let report = add_business::make(&after, second, text, plan, &cloud, &quiet).await?;
    let only = Only::Business(second.to_owned());
    let part = setup::plan_part(&after, &Globals::default(), &cloud, only, Foreign::Refuse).await?;
    setup::deploy_part(&after, &Globals::default(), &cloud, part.as_ref(), &quiet).await?;
    output.note(format_args!("  {} changes in {} ms, none of {first}", report.applied.done, report.elapsed_ms));
    stage.set_environment(after);

    let context = stage.context().await?;
    let examples = work::examples()?;
    output.note(format_args!(
        "submitting to each a session of {} pricing jobs, one malformed input, and one message by hand",
        examples.len()
    ));
    let mut submitted = Vec::new();
    for business in BUSINESSES {
        submitted.push(work::submit(&context, business, &examples, stop).await?);
    }
    let outcomes = work::wait(&context, &submitted, output).await?;

    output.note("checking what the queue promises");
    let checks = checks::all(&context, stage.environment(), &cloud, &submitted, &outcomes).await?;
    let summary = summary::Summary::new(&context, outcomes, checks).await?;
    if !args.keep {
        output.note("taking the environment down");
        let options = removing::Options {
            delete_data: true,
            yes_delete: vec![stage.environment().bucket.clone()],
            identities: true,
            wait: TEARDOWN_SECS,
            yes: true,
            ..removing::Options::default()
        };
        let lock = options.lock.settings(&Globals::default(), "demo", &quiet);
        let (before, changed) = (stage.environment(), Vec::new());
        let removal = Removal { before, after: None, cloud: &cloud, changed, options: &options, lock };
        if let Some(report) = removal.run(&quiet).await? {
            if !report.left.is_empty() {
                return Err(Failure::new("left-behind", "the teardown left something")
                    .why(report.left.join("\n"))
                    .into());
            }
            output.note(format_args!("  {}", report.summary()));
        }
    }
    Ok(summary)
}

/// What `work` comes to, unless the person stops it before.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let done = tokio::select! {
        done = work => done,
        () = stop.cancelled() => Err(interrupted()),
    };
    // A step that was stopped in the middle has failed for that reason.
    if done.is_err() && stop.is_cancelled() { Err(interrupted()) } else { done }
}

fn interrupted() -> anyhow::Error {
    Failure::new("interrupted", "the demo was interrupted")
        .why("it received a signal; everything it had started is stopped and removed")
        .next("cargo xtask demo")
        .into()
}

/// The environment of the laptop, with the first business.
fn environment_file() -> anyhow::Result<String> {
    let original = context::environments().join("local.toml");
    let text = std::fs::read_to_string(&original).with_context(|| format!("read {}", original.display()))?;
    let parsed = environment::parse("local", "local.toml", &text, &environment::Overrides::new())?;
    match parsed.business(BUSINESSES[0]) {
        Some(_) => Ok(text),
        None => Ok(environment::edit::add_business(&text, BUSINESSES[0])?),
    }
}

/// The examples' folder.
fn examples_folder() -> PathBuf {
    context::root().join("examples")
}

//! `deploy`: builds the services, and brings them into the cluster.

use common::exit;
use provision::{Cloud, Environment, deploy::Foreign, guarded, manifests, manifests::Images};

use crate::{args::Globals, context, locking, output::Output, setup};

/// Arguments of `deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only render the manifests, below infra/generated
    #[arg(long)]
    dry_run: bool,
    /// Take over namespaces of our names that somebody else made
    #[arg(long)]
    adopt: bool,
    #[command(flatten)]
    lock: locking::LockArgs,
}

/// Builds, renders, applies, and waits until every orchestrator is ready.
///
/// # Errors
/// When the build, a template, the cluster or a rollout fails.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    let cloud = setup::connect(&environment, globals).await?;
    let images = setup::ready_images(&environment, &cloud, output).await?;
    if args.dry_run {
        return show(&environment, &cloud, &images, output);
    }
    let settings = args.lock.settings(globals, "deploy", output);
    let report = guarded::under_lock(&environment, &cloud, &settings, None, async |step| {
        step("brings the services into the cluster");
        setup::deploy(&environment, &cloud, images, None, Foreign::adopt(args.adopt), output).await
    })
    .await?;
    if output.json {
        output.document(&report)?;
    } else {
        output.note(format_args!(
            "  {} objects, {} of them new, changed or taken away",
            report.objects.len(),
            report.changed
        ));
        output.note("next: cargo xtask submit --wait examples/pricing");
    }
    Ok(exit::DONE)
}

/// Writes what would be applied, and lists it.
fn show(environment: &Environment, cloud: &Cloud, images: &Images, output: &Output) -> anyhow::Result<u8> {
    let rendered = manifests::render(environment, &cloud.endpoints, images)?;
    let folder = context::generated(environment);
    rendered.write(&folder)?;
    output.note(format_args!("  rendered {}", folder.join("manifests").display()));
    if output.json {
        output.document(&rendered.objects().collect::<Vec<_>>())?;
        return Ok(exit::DONE);
    }
    for object in rendered.objects() {
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        output.line(format_args!("{kind} {} {}", text("namespace"), text("name")))?;
    }
    Ok(exit::DONE)
}

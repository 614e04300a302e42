//! `deploy`: builds the services, and deploys them into the cluster.

use cli::{confirm, error::Failure, output::Output, text};
use contract::exit;
use provision::{
    Environment,
    deploy::{self, Foreign, Options},
    environment::CloudKind,
    locked,
    manifests::Images,
};

use crate::{
    context,
    globals::Globals,
    image_notes, locking,
    setup::{self, Chosen, showing},
};

/// Arguments of `deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what would change in the cluster, line by line, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take over namespaces of our names that somebody else made
    #[arg(long)]
    adopt: bool,
    /// Take over fields that another tool owns
    #[arg(long)]
    force_conflicts: bool,
    /// Take everything back when an object is refused or a rollout fails
    #[arg(long)]
    rollback_on_failure: bool,
    /// Image of the orchestrator that the cluster has already or can pull; nothing is built then
    #[arg(long, value_name = "IMAGE", requires = "engine_image")]
    orchestrator_image: Option<String>,
    /// Image of the engine
    #[arg(long, value_name = "IMAGE", requires = "orchestrator_image")]
    engine_image: Option<String>,
    /// Do not ask before deleting objects that the environment no longer has
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    lock: locking::LockArgs,
}

/// Builds, renders, applies, and waits until everything runs.
///
/// # Errors
/// When the build, a template, the cluster or a rollout fails.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    let cloud = setup::connect(&environment, globals).await?;
    let images = match (&args.orchestrator_image, &args.engine_image) {
        (Some(orchestrator), Some(engine)) => {
            let services = Images { orchestrator: orchestrator.clone(), engine: engine.clone() };
            Chosen::named(&environment, &cloud, services).await?
        }
        // The nodes of another cluster know nothing of the programs that a laptop cloud takes for images.
        _ if environment.cloud == CloudKind::Local && globals.context().is_some() => {
            Chosen::built(&environment, &cloud, brought(&environment)?).await?
        }
        _ if args.dry_run => Chosen::foreseen(&environment, &cloud, output).await?,
        _ => {
            let services = setup::ready_images(&environment, &cloud, output).await?;
            Chosen::built(&environment, &cloud, services).await?
        }
    };
    let options = Options {
        foreign: Foreign::adopt(args.adopt),
        force_conflicts: args.force_conflicts,
        rollback: args.rollback_on_failure,
        ..setup::deploy_options(&environment, globals, images)
    };
    let plan = deploy::plan(&environment, &cloud, &options).await?;
    if args.dry_run {
        showing::show(&plan.changes(), output)?;
        plan.check()?;
        return Ok(exit::DONE);
    }
    plan.check()?;
    showing::note(&plan.changes(), output);
    let gone = plan.pruned().count();
    let asks = environment.cloud == CloudKind::Google || globals.context().is_some();
    if gone > 0 && asks && !args.yes {
        confirm::yes(&format!("delete {} from the cluster?", text::count(gone, "object")))?;
    }
    // A deploy without changes takes no lock, which is a write itself; it still checks the rollouts.
    let report = if plan.is_empty() {
        setup::carry_out_deploy(&environment, &cloud, &options, &plan, output).await?
    } else {
        let settings = args.lock.settings(globals, "deploy", output);
        locked::with_lock(&environment, &cloud, &settings, None, async |step| {
            step("deploys the services");
            setup::deploy_agreed(&environment, &cloud, &options, Some(&plan), output).await
        })
        .await?
    };
    if output.json {
        output.document(&report)?;
    } else {
        output.note(format_args!(
            "  {} objects, {} of them new, changed or taken away",
            report.objects.len(),
            report.changed
        ));
        for app in without_audience(&environment) {
            output.note(format_args!(
                "  nobody is let into the {app} before web.iap.{app}_audience is named: the id of its backend service, \
                 which comes with the load balancer, is shown by `gcloud compute backend-services list \
                 --filter='name~deskgrid-{app}' --format='table(name,id)'`"
            ));
        }
        output.note("next: cargo xtask submit --wait examples/pricing");
    }
    Ok(exit::DONE)
}

/// The images of the last build, for a cluster that has them already.
fn brought(environment: &Environment) -> anyhow::Result<Images> {
    match image_notes::read(environment)? {
        Some(images) => Ok(images),
        None => Err(Failure::new("no-image", "no image was built for this environment")
            .on(format!("environment {}", environment.name))
            .why("the cluster of --context runs images, and no programs of this machine")
            .next(
                "cargo xtask build --output images.tar, and bring that into the cluster (`kind load image-archive`, \
                 `ctr images import`); or name images with --orchestrator-image and --engine-image",
            )
            .into()),
    }
}

/// The apps behind Identity-Aware Proxy that do not know yet which assertions are for them.
fn without_audience(environment: &Environment) -> Vec<&'static str> {
    let Some(iap) = environment.web.iap.as_ref().filter(|_| environment.web.enabled) else { return Vec::new() };
    let apps = [("monitor", &iap.monitor), ("client", &iap.client)];
    apps.into_iter().filter(|(_, app)| app.audience.is_none()).map(|(name, _)| name).collect()
}

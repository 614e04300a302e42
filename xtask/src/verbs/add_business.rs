//! `add-business`: one more business in the environment file and the cloud, without a change of any other.

use anyhow::Context as _;
use cli::{confirm, error::Failure, output::Output};
use contract::exit;
use provision::{
    Cloud, Environment, Report,
    deploy::{Foreign, Only},
    environment::{self, CloudKind, Overrides},
    locked, plan, saved, show,
};
use serde_json::json;

use crate::{
    context,
    globals::Globals,
    locking,
    setup::{self, showing},
};

/// Arguments of `add-business`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the business
    name: String,
    /// Take over resources of its names that are not ours
    #[arg(long)]
    adopt: bool,
    /// Do not ask before changing anything
    #[arg(long, short)]
    yes: bool,
    /// Only show the plan
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    lock: locking::LockArgs,
}

/// Plans what the business needs, creates it, and deploys its orchestrator when the other businesses have theirs; the
/// configuration of the web apps is updated.
///
/// # Errors
/// When the name is not valid for a business, a resource of somebody else has its name, the user does not agree, or a
/// step failed; a repeated run continues from there.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let before = context::load(globals)?;
    let variables = contract::config::variables();
    let (before, after, _) = with(before, &args.name, &variables)?;
    let cloud = setup::connect(&after, globals).await?;
    let options = plan::Options { adopt: args.adopt, prune: false };
    let plan = provision::plan_addition(&before, &after, &cloud, options, &setup::progress(output)).await?;
    let (only, foreign) = (Only::Business(args.name.clone()), Foreign::adopt(args.adopt));
    let part = setup::plan_part(&after, globals, &cloud, only, foreign).await?;
    let cluster = part.as_ref().map(|part| part.plan.changes()).unwrap_or_default();
    let shown = show::render(&plan);
    if args.dry_run {
        if output.json {
            let mut document = serde_json::to_value(&plan)?;
            document["cluster"] = json!(cluster);
            output.document(&document)?;
        } else {
            output.changes(&shown)?;
            showing::show(&cluster, output)?;
        }
        setup::check_unblocked(&plan)?;
        return Ok(exit::DONE);
    }
    output.note_changes(&shown);
    showing::note(&cluster, output);
    setup::check_unblocked(&plan)?;
    setup::preflight(&after, &cloud, &plan, output).await?;
    if !(plan.is_empty() && cluster.is_empty()) && after.cloud == CloudKind::Google && !args.yes {
        confirm::yes(&format!("make these changes to project {}?", after.project))?;
    }
    let settings = args.lock.settings(globals, "add-business", output);
    if output.json {
        output.record(&json!({"event": "plan", "plan": plan, "cluster": cluster}))?;
    }
    let progress = setup::progress_and_events(output);
    let first = (!plan.is_empty()).then_some((&plan, &progress));
    let (report, deployed) = locked::with_lock(&after, &cloud, &settings, first, async |step| {
        // Read again: somebody else may have added another one to the file.
        let (before, after, text) = with(context::load(globals)?, &args.name, &variables)?;
        step("reads the project again");
        let now = provision::plan_addition(&before, &after, &cloud, options, &progress).await?;
        saved::beyond(&plan, &own_part(&now, &args.name))?;
        step(&format!("adds {}", args.name));
        let report = make(&after, &args.name, text, now, &cloud, output).await?;
        Ok((report, setup::deploy_part(&after, globals, &cloud, part.as_ref(), output).await?))
    })
    .await?;
    if output.json {
        output.record(&json!({"event": "done", "provisioned": report.applied, "deployed": deployed}))?;
    } else {
        let next = match deployed {
            Some(_) => format!("submit --business {} --wait examples/pricing", args.name),
            None => "deploy".to_owned(),
        };
        output.note(format_args!("{} changes made; next: cargo xtask {next}", report.applied.done));
    }
    Ok(exit::DONE)
}

/// The part of a plan that is for the business alone. What all share follows from the file, in which somebody else may
/// have added another business since the plan was agreed to.
fn own_part(plan: &plan::Plan, name: &str) -> plan::Plan {
    let changes = plan.changes.iter().filter(|change| change.business.as_deref() == Some(name)).cloned().collect();
    plan::Plan { changes, ..plan.clone() }
}

/// Carries the plan out.
///
/// # Errors
/// When a step failed.
pub(super) async fn make(
    after: &Environment,
    name: &str,
    text: Option<String>,
    plan: plan::Plan,
    cloud: &Cloud,
    output: &Output,
) -> anyhow::Result<Report> {
    if let (Some(text), Some(path)) = (text, &after.path) {
        cli::destination::replace(path, &text)?;
        output.note(format_args!("  added {name} to {}", path.display()));
    }
    let report = provision::carry_out(plan, cloud, &setup::progress_and_events(output)).await?;
    setup::write_config(after, cloud)?;
    Ok(report)
}

/// The environment without and with the business, and the new text of its file; none when it is there already, which
/// an earlier try may have come to.
pub(super) fn with(
    environment: Environment,
    name: &str,
    overrides: &Overrides,
) -> anyhow::Result<(Environment, Environment, Option<String>)> {
    let path = environment.path.clone().context("find the environment file")?;
    if environment.business(name).is_some() {
        let mut before = environment.clone();
        before.businesses.retain(|business| business.name != name);
        return Ok((before, environment, None));
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let text = environment::edit::add_business(&text, name)
        .map_err(|error| Failure::usage(format!("{name:?} cannot be added")).why(format!("{error:#}")))?;
    let mut after = environment::parse(&environment.name, &path.display().to_string(), &text, overrides)?;
    after.path = Some(path);
    Ok((environment, after, Some(text)))
}

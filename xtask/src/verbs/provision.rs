//! `plan` and `provision`: what the cloud lacks of what the environment file says, and bringing it there.

use std::path::PathBuf;

use cli::{confirm, output::Output};
use contract::exit;
use provision::{data, environment::CloudKind, in_use, locked, plan, presence, saved::Saved, show};
use serde_json::json;

use crate::{context, globals::Globals, locking, setup};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    options: PlanOptions,
    /// Also write the plan into a file, for `provision --plan FILE`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What a plan may do.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct PlanOptions {
    /// Show what taking over resources of our names that are not ours would change
    #[arg(long)]
    adopt: bool,
    /// Also delete our resources that are not in the environment file any more
    #[arg(long)]
    prune: bool,
}

/// Arguments of `provision`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: PlanOptions,
    /// Carry out this plan of `plan --out FILE`, or nothing when the project or the environment file changed since
    #[arg(long, value_name = "FILE", conflicts_with_all = ["adopt", "prune"])]
    plan: Option<PathBuf>,
    /// Delete subscriptions although undelivered messages would be lost with them
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    lock: locking::LockArgs,
    /// Do not ask before changing anything
    #[arg(long, short)]
    yes: bool,
    /// Only show the plan
    #[arg(long)]
    dry_run: bool,
}

/// Shows the plan; exits 2 when there are changes.
///
/// # Errors
/// When the cloud does not answer, or something is in the way of the plan.
pub(crate) async fn plan(globals: &Globals, args: &PlanArgs, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    let cloud = setup::connect(&environment, globals).await?;
    let options = plan::Options { adopt: args.options.adopt, prune: args.options.prune };
    let plan = setup::make_plan(&environment, &cloud, options, output).await?;
    if let Some(path) = &args.out {
        Saved::new(&plan, options)?.write(path)?;
        output.note(format_args!("  wrote the plan to {}", path.display()));
    }
    if output.json {
        output.document(&plan)?;
    } else {
        output.changes(&show::render(&plan))?;
    }
    setup::check_unblocked(&plan)?;
    Ok(if plan.is_empty() { exit::DONE } else { exit::CHANGES_PENDING })
}

/// Changes the cloud to match the environment file.
///
/// # Errors
/// When the cloud does not answer, something is in the way, the user does not agree, or a change failed.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    if args.dry_run {
        let shown = PlanArgs { options: args.options, out: None };
        let code = plan(globals, &shown, output).await?;
        return Ok(if code == exit::CHANGES_PENDING { exit::DONE } else { code });
    }
    let environment = context::load(globals)?;
    let cloud = setup::connect(&environment, globals).await?;
    let saved = args.plan.as_deref().map(Saved::read).transpose()?;
    let options = plan::Options { adopt: args.options.adopt, prune: args.options.prune };
    let options = saved.as_ref().map_or(options, Saved::options);
    let plan = setup::make_plan(&environment, &cloud, options, output).await?;
    if let Some(saved) = &saved {
        saved.check(&plan)?;
    }
    output.note_changes(&show::render(&plan));
    setup::check_unblocked(&plan)?;
    setup::preflight(&environment, &cloud, &plan, output).await?;
    let check_in_use = async |plan: &plan::Plan| {
        if args.cancel {
            return Ok(());
        }
        let has_cluster = presence::has_cluster(&environment, &cloud).await?;
        in_use::check_accounts(&cloud, plan, has_cluster).await?;
        data::check_messages(&cloud, plan, has_cluster).await
    };
    check_in_use(&plan).await?;
    if !plan.is_empty() && environment.cloud == CloudKind::Google && !args.yes {
        confirm::yes(&format!("make these changes to project {}?", environment.project))?;
    }
    let settings = args.lock.settings(globals, "provision", output);
    let plan_again = async || {
        let plan = setup::make_plan(&environment, &cloud, options, output).await?;
        check_in_use(&plan).await?;
        anyhow::Ok(plan)
    };
    if output.json {
        output.record(&json!({"event": "plan", "plan": plan}))?;
    }
    let progress = setup::progress_and_events(output);
    let report = locked::carry_out_locked(&environment, &cloud, plan, &settings, &progress, plan_again).await?;
    // It may be new.
    let cloud = match environment.cloud {
        CloudKind::Google if globals.context().is_none() => cloud.find_cluster(&environment).await,
        _ => cloud,
    };
    setup::write_config(&environment, &cloud)?;
    setup::write_kubeconfig(&environment, &cloud, output)?;
    if output.json {
        output.record(&json!({"event": "done", "applied": report.applied, "elapsed_ms": report.elapsed_ms}))?;
    } else if report.applied.done > 0 {
        output.note(format_args!("{} changes made; next: cargo xtask deploy", report.applied.done));
    }
    Ok(exit::DONE)
}

//! `plan` and `provision`: what the cloud lacks of what the environment file says, and bringing it there.

use std::io::IsTerminal as _;

use common::exit;
use provision::{environment::CloudKind, plan, show};

use crate::{agree, args::Globals, context, output::Output, setup};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Show what taking over resources of our names that are not ours would change
    #[arg(long)]
    adopt: bool,
    /// Also delete what is ours and not in the environment file any more
    #[arg(long)]
    prune: bool,
}

/// Arguments of `provision`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    plan: PlanArgs,
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
/// When the cloud cannot be asked, or something is in the way of the plan.
pub(crate) async fn plan(globals: &Globals, args: &PlanArgs, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    let cloud = setup::connect(&environment).await?;
    let options = plan::Options { adopt: args.adopt, prune: args.prune };
    let plan = setup::look(&environment, &cloud, options, output).await?;
    if output.json {
        output.document(&plan)?;
    } else {
        output.line(show::render(&plan, std::io::stdout().is_terminal()).trim_end())?;
    }
    setup::free_to_go(&plan)?;
    Ok(if plan.is_empty() { exit::DONE } else { exit::CHANGES_PENDING })
}

/// Brings the cloud to what the environment file says.
///
/// # Errors
/// When the cloud cannot be asked, something is in the way, nobody agreed, or a change failed.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    if args.dry_run {
        let code = plan(globals, &args.plan, output).await?;
        return Ok(if code == exit::CHANGES_PENDING { exit::DONE } else { code });
    }
    let environment = context::load(globals)?;
    let cloud = setup::connect(&environment).await?;
    let options = plan::Options { adopt: args.plan.adopt, prune: args.plan.prune };
    let plan = setup::look(&environment, &cloud, options, output).await?;
    output.note(show::render(&plan, std::io::stderr().is_terminal()).trim_end());
    setup::free_to_go(&plan)?;
    if !plan.is_empty() && environment.cloud == CloudKind::Google && !args.yes {
        agree::to(&format!("make these changes to project {}?", environment.project))?;
    }
    let report = setup::carry_out(plan, &cloud, output).await?;
    setup::write_config(&environment, &cloud)?;
    if output.json {
        output.document(&report)?;
    } else if report.applied.done > 0 {
        output.note(format_args!("{} changes made; next: cargo xtask deploy", report.applied.done));
    }
    Ok(exit::DONE)
}

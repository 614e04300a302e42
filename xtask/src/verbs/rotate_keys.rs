//! `rotate-keys`: a new key for every account, and not one refused call in between.

use std::time::Duration;

use common::exit;
use provision::{
    environment::{Auth, CloudKind},
    guarded, keys,
};

use crate::{agree, args::Globals, context, error::Failure, locking, output::Output, setup};

/// Arguments of `rotate-keys`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this business
    #[arg(long, value_name = "NAME")]
    business: Option<String>,
    /// Longest time to wait for engines that began with the old key, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    wait: u64,
    /// Do not ask before changing anything
    #[arg(long, short)]
    yes: bool,
    /// Only say whose keys would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    lock: locking::LockArgs,
}

/// Makes, hands over, waits, deletes.
///
/// # Errors
/// When the environment has no keys, nobody agreed, or a step failed; every key in use is valid then.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    if environment.auth != Auth::Key {
        return Err(Failure::usage("the environment has no keys to rotate")
            .on(format!("environment {}", environment.name))
            .why("auth is \"workload-identity\": no key exists")
            .into());
    }
    let wanted = |name: &str| args.business.as_deref().is_none_or(|only| only == name);
    let businesses: Vec<_> = environment.businesses.iter().filter(|business| wanted(&business.name)).collect();
    if businesses.is_empty() {
        return Err(Failure::usage("there is no such business").next("see the environment file").into());
    }
    if args.dry_run {
        for business in &businesses {
            for email in [&business.accounts.orchestrator, &business.accounts.engine] {
                output.line(email)?;
            }
        }
        return Ok(exit::DONE);
    }
    let cloud = setup::connect(&environment, globals).await?;
    if environment.cloud == CloudKind::Google && !args.yes {
        agree::to(&format!("replace the keys of {} businesses?", businesses.len()))?;
    }
    let settings = args.lock.settings(globals, "rotate-keys", output);
    let limits = (setup::ROLLOUT, Duration::from_secs(args.wait));
    let rotated = guarded::under_lock(&environment, &cloud, &settings, None, async |step| {
        let mut rotated = Vec::new();
        for business in businesses {
            step(&format!("rotates the keys of {}", business.name));
            let told = |what: &str| output.note(format_args!("  {what}"));
            rotated.extend(keys::rotate(&environment, business, &cloud, limits, &told).await?);
        }
        Ok(rotated)
    })
    .await?;
    if output.json {
        output.document(&rotated)?;
    } else {
        output.note(format_args!("{} accounts have new keys", rotated.len()));
    }
    Ok(exit::DONE)
}

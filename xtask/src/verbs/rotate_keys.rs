//! `rotate-keys`: a new key for every account, and not one refused call in between.

use std::time::Duration;

use cli::{confirm, error::Failure, output::Output};
use contract::exit;
use provision::{
    deploy,
    environment::{Auth, CloudKind},
    guarded,
    keys::{self, Holder},
};

use crate::{args::Globals, context, locking, setup};

/// Arguments of `rotate-keys`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this business, and not the web apps
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
    let holders: Vec<Holder> = match args.business.as_deref() {
        Some(only) => environment.business(only).map(Holder::business).into_iter().collect(),
        None => Holder::all(&environment),
    };
    if holders.is_empty() {
        return Err(Failure::usage("there is no such business").next("see the environment file").into());
    }
    if args.dry_run {
        for workload in holders.iter().flat_map(|holder| &holder.workloads) {
            output.line(&workload.email)?;
        }
        return Ok(exit::DONE);
    }
    let cloud = setup::connect(&environment, globals).await?;
    if environment.cloud == CloudKind::Google && !args.yes {
        let names: Vec<&str> = holders.iter().map(|holder| holder.name.as_str()).collect();
        confirm::yes(&format!("replace the keys of {}?", names.join(", ")))?;
    }
    let settings = args.lock.settings(globals, "rotate-keys", output);
    let limits = (deploy::LIMIT, Duration::from_secs(args.wait));
    let rotated = guarded::under_lock(&environment, &cloud, &settings, None, async |step| {
        let mut rotated = Vec::new();
        for holder in &holders {
            step(&format!("rotates the keys of {}", holder.name));
            let told = |what: &str| output.note(format_args!("  {what}"));
            rotated.extend(keys::rotate(&environment, holder, &cloud, limits, &told).await?);
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

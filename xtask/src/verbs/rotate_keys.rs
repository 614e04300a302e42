//! `rotate-keys`: a new key for every account and a new certificate for every pool, and not one refused call in between.

use std::time::Duration;

use cli::{confirm, error::Failure, output::Output};
use contract::exit;
use provision::{
    deploy,
    environment::{Auth, CloudKind},
    keys::{self, KeyUser},
    locked,
};

use crate::{
    context,
    globals::Globals,
    locking,
    setup::{self, showing},
};

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
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    lock: locking::LockArgs,
}

/// Makes, hands over, waits, deletes.
///
/// # Errors
/// When the environment has no keys, the user does not agree, or a step failed; every key in use is valid then.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let environment = context::load(globals)?;
    let mut users: Vec<KeyUser> = match args.business.as_deref() {
        Some(only) => environment.business(only).map(KeyUser::business).into_iter().collect(),
        None => KeyUser::all(&environment),
    };
    if users.is_empty() {
        return Err(Failure::usage("there is no such business").next("see the environment file").into());
    }
    if environment.auth == Auth::WorkloadIdentity {
        users.retain(|user| environment.businesses.iter().any(|one| one.name == user.name && one.pool.is_some()));
        users.iter_mut().for_each(|user| user.workloads.clear());
    }
    if users.is_empty() {
        return Err(Failure::usage("the environment has no keys to rotate")
            .on(format!("environment {}", environment.name))
            .why("auth is \"workload-identity\": no key exists; and there is no pool, which has a certificate")
            .into());
    }
    let cloud = setup::connect(&environment, globals).await?;
    let changes = users.iter().map(|user| deploy::rotation(&environment, user, &cloud));
    let changes = futures::future::try_join_all(changes).await?.concat();
    if args.dry_run {
        showing::show(&changes, output)?;
        return Ok(exit::DONE);
    }
    showing::note(&changes, output);
    if environment.cloud == CloudKind::Google && !args.yes {
        let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
        confirm::yes(&format!("replace the keys of {}?", names.join(", ")))?;
    }
    let settings = args.lock.settings(globals, "rotate-keys", output);
    let limits = (deploy::LIMIT, Duration::from_secs(args.wait));
    let rotated = locked::with_lock(&environment, &cloud, &settings, None, async |step| {
        let mut rotated = Vec::new();
        for user in &users {
            step(&format!("rotates the keys of {}", user.name));
            let report = |what: &str| output.note(format_args!("  {what}"));
            rotated.extend(keys::rotate(&environment, user, &cloud, limits, &report).await?);
        }
        Ok(rotated)
    })
    .await?;
    if output.json {
        output.document(&rotated)?;
    } else {
        output.note(format_args!("{} keys and certificates are new", rotated.len()));
    }
    Ok(exit::DONE)
}

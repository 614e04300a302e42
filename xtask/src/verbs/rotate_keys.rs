//! `rotate-keys`: a new key for every account and a new certificate for every pool, and not one refused call in between.

use std::time::Duration;

use cli::{confirm, error::Failure, output::Output};
use contract::exit;
use provision::{
    deploy,
    environment::{Auth, Business, CloudKind, Environment},
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
    let only = args.business.as_deref();
    if only.is_some_and(|only| environment.business(only).is_none()) {
        return Err(Failure::usage("there is no such business").next("see the environment file").into());
    }
    let users = users(&environment, only);
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

/// Those with keys or a certificate, without workloads when there are no keys.
fn users(environment: &Environment, only: Option<&str>) -> Vec<KeyUser> {
    let of_business = |business: &Business| match environment.auth {
        Auth::Key => Some(KeyUser::business(business)),
        Auth::WorkloadIdentity => business.pool.is_some().then(|| KeyUser::business(business).without_keys()),
    };
    let businesses = environment.businesses.iter().filter(|business| only.is_none_or(|only| only == business.name));
    let web = (environment.auth == Auth::Key && only.is_none()).then(|| KeyUser::web(environment));
    businesses.filter_map(of_business).chain(web).collect()
}

#[cfg(test)]
mod tests {
    use provision::environment::{Overrides, parse};

    use super::*;

    #[test]
    fn keys_are_rotated_where_there_are_keys_and_certificates_where_there_are_pools() {
        let check = |auth: &str, only: Option<&str>, expected: &[(&str, usize)]| {
            let text = format!(
                "project = \"desk-one\"\nlocation = \"europe-west1\"\nauth = \"{auth}\"\n[businesses.bu1]\n\
                 [businesses.bu2]\ndispatch = \"pool\"\n"
            );
            let environment = parse("e", "e.toml", &text, &Overrides::new()).unwrap();
            let users = users(&environment, only);
            let found: Vec<_> = users.iter().map(|user| (user.name.as_str(), user.workloads.len())).collect();
            assert_eq!(found, expected);
        };
        check("key", None, &[("bu1", 2), ("bu2", 2), ("the web apps", 2)]);
        check("key", Some("bu1"), &[("bu1", 2)]);
        check("workload-identity", None, &[("bu2", 0)]);
        check("workload-identity", Some("bu1"), &[]);
    }
}

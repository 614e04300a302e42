//! A deploy: carry out a plan, and wait until everything runs.

use serde::Serialize;
use tokio::time::Instant;

use super::{
    Applied, Change, Plan, access, certificates,
    event::{Event, Progress, elapsed_ms},
    failure, former_pools, keys,
    options::Options,
    plan::plan,
    rollouts::{self, Waited},
    write,
};
use crate::{Cloud, environment::Environment};

/// What was deployed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Every object with what happened to it.
    pub objects: Vec<Applied>,
    /// Objects that are new, different or gone.
    pub changed: usize,
    /// Milliseconds of it all.
    pub elapsed_ms: u64,
}

/// Plans a deploy and carries it out. Safe to run again; writes nothing when nothing is to be done.
///
/// # Errors
/// As [`plan()`], [`Plan::check`] and [`carry_out`].
pub async fn run(
    environment: &Environment,
    cloud: &Cloud,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let plan = plan(environment, cloud, options).await?;
    plan.check()?;
    carry_out(environment, cloud, options, &plan, progress).await
}

/// Carries out a plan and nothing else.
///
/// # Errors
/// When something cannot be written down or applied; or when something does not run, with the reasons of all that does
/// not.
pub async fn carry_out(
    environment: &Environment,
    cloud: &Cloud,
    options: &Options,
    plan: &Plan,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let client = cloud.cluster()?;
    let preview = &plan.preview;
    plan.everything.write(&options.folder)?;
    let mut objects = write::apply_namespaces(client, preview).await?;
    // Secrets are made before what mounts them, and need the namespaces.
    certificates::provide(client, &plan.certificates, progress).await?;
    keys::provide(environment, cloud, client, &plan.keys, progress).await?;
    if plan.makes_token {
        access::make(client).await?;
        progress(Event::Token);
    }
    let rollouts = rollouts::of_rendered(&plan.desired, options);
    match write::apply_members(client, preview).await {
        Ok(members) => objects.extend(members),
        Err(error) if options.rollback => {
            let notes = failure::roll_back(client, preview, &rollouts, progress).await;
            return Err(failure::with_notes(error, &notes));
        }
        Err(error) => return Err(error),
    }
    for applied in &objects {
        progress(Event::Applied(applied.clone()));
    }
    let Waited { failures, left } = rollouts::wait(client, &rollouts, started, progress).await;
    if !failures.is_empty() {
        let mut notes: Vec<String> =
            left.iter().map(|deployment| format!("{deployment} was not waited for any longer")).collect();
        if options.rollback {
            notes.extend(failure::roll_back(client, preview, &rollouts, progress).await);
        }
        return Err(failure::describe(environment, cloud, failures, notes).await);
    }
    let pruned = write::prune(client, preview).await?;
    for gone in &pruned {
        progress(Event::Applied(gone.clone()));
    }
    objects.extend(former_pools::remove(client, &plan.former_pools, progress).await?);
    keys::withdraw(environment, cloud, client, &plan.keys, options.limit, progress).await?;
    objects.extend(pruned);
    let changed = objects.iter().filter(|applied| applied.change != Change::Unchanged).count();
    Ok(Report { objects, changed, elapsed_ms: elapsed_ms(started) })
}

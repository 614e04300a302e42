//! The steps of the verbs: read the cloud, make a plan, and carry it out.

use std::time::Instant;

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::{
    addition,
    apply::{Applied, Event, Progress, apply},
    cloud::Cloud,
    desired::desired,
    environment::Environment,
    observe::{observe, resolved},
    plan::{Options, Plan, plan},
    removal,
    resource::{Id, Resource},
    show,
};

/// What `run` did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The plan that was carried out.
    pub plan: Plan,
    /// What came of it; nothing of a plan without changes.
    pub applied: Applied,
    /// Milliseconds of it all.
    pub elapsed_ms: u64,
}

/// Reads the cloud and makes the plan. Writes nothing.
///
/// # Errors
/// When the cloud does not answer.
pub async fn make_plan(
    environment: &Environment,
    cloud: &Cloud,
    options: Options,
    progress: &Progress,
) -> anyhow::Result<Plan> {
    let desired = desired(environment);
    progress(Event::Observing { resources: desired.len() });
    let observed = observe(&cloud.google, environment, &desired)
        .await
        .with_context(|| format!("read project {}", environment.project))?;
    Ok(plan(environment, &resolved(&desired, &observed), &observed, options))
}

/// Reads the cloud and plans the deletion of what only `before` has; of everything without an `after`.
/// Writes nothing.
///
/// # Errors
/// When the cloud does not answer.
pub async fn plan_removal(
    before: &Environment,
    after: Option<&Environment>,
    cloud: &Cloud,
    options: removal::Options,
    progress: &Progress,
) -> anyhow::Result<Plan> {
    let resources = removal::resources_to_delete(before, after);
    progress(Event::Observing { resources: resources.len() });
    let observed =
        observe(&cloud.google, before, &resources).await.with_context(|| format!("read project {}", before.project))?;
    let mut removal = removal::plan(before, &resolved(&resources, &observed), &observed, options);
    match after {
        // Resources that all businesses share may name the removed business: update them.
        Some(after) => {
            let shared = changed(after, &addition::shared(before, after), cloud, Options::default()).await?;
            let there = shared.changes.into_iter().filter(|change| change.live.is_some());
            removal.changes.extend(there);
        }
        None => removal.changes.extend(removal::extra(before, &observed, options)),
    }
    Ok(removal)
}

/// Reads the cloud and plans what only `after` needs. Writes nothing.
///
/// # Errors
/// When the cloud does not answer.
pub async fn plan_addition(
    before: &Environment,
    after: &Environment,
    cloud: &Cloud,
    options: Options,
    progress: &Progress,
) -> anyhow::Result<Plan> {
    let added = addition::added_resources(before, after);
    progress(Event::Observing { resources: added.len() });
    changed(after, &added, cloud, options).await
}

/// Resources of an environment that should be deleted and are not.
///
/// # Errors
/// When the cloud does not answer.
pub async fn leftovers(before: &Environment, cloud: &Cloud, options: removal::Options) -> anyhow::Result<Vec<Id>> {
    let silent: Progress = std::sync::Arc::new(|_| {});
    let plan = plan_removal(before, None, cloud, options, &silent).await?;
    Ok(plan.changes.into_iter().filter(|change| change.action.is_change()).map(|change| change.id).collect())
}

/// The plan for some of an environment's resources.
async fn changed(
    environment: &Environment,
    resources: &[Resource],
    cloud: &Cloud,
    options: Options,
) -> anyhow::Result<Plan> {
    let mut observed = observe(&cloud.google, environment, resources)
        .await
        .with_context(|| format!("read project {}", environment.project))?;
    // Resources that were not read are not extra.
    observed.extra.clear();
    Ok(plan(environment, &resolved(resources, &observed), &observed, options))
}

/// Carries a plan out.
///
/// # Errors
/// When something is in the way of the plan, before any write; or when a change failed, after what could still be
/// done was done. Running again goes on from there.
pub async fn carry_out(plan: Plan, cloud: &Cloud, progress: &Progress) -> anyhow::Result<Report> {
    let started = Instant::now();
    if plan.blockers().next().is_some() {
        bail!("the plan cannot be carried out\n{}", show::render(&plan));
    }
    let applied = apply(&plan, &cloud.google, progress).await;
    if !applied.failures.is_empty() {
        let lines: Vec<String> =
            applied.failures.iter().map(|failure| format!("  {}: {}", failure.id, failure.error)).collect();
        bail!(
            "{} of {} changes failed, {} were not begun; run again to go on\n{}",
            applied.failures.len(),
            applied.done + applied.failures.len() + applied.skipped.len(),
            applied.skipped.len(),
            lines.join("\n")
        );
    }
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Report { plan, applied, elapsed_ms })
}

/// Changes the cloud to match the environment file.
///
/// # Errors
/// As [`make_plan`] and [`carry_out`].
pub async fn run(
    environment: &Environment,
    cloud: &Cloud,
    options: Options,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let plan = make_plan(environment, cloud, options, progress).await?;
    let report = carry_out(plan, cloud, progress).await?;
    Ok(Report { elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX), ..report })
}

//! Carries a plan out under the lock, and nothing that was not agreed to.

use crate::{
    Report,
    apply::{Applied, Progress},
    cloud::Cloud,
    environment::Environment,
    kinds::bucket,
    lock::{Acquired, Event, Lock, Settings},
    plan::{Action, Plan},
    resource::Id,
    run::carry_out,
    saved,
};

/// Attempts to find a bucket that was just created.
const BUCKET_ATTEMPTS: u32 = 60;

/// Does `work` under the lock of the environment. Where the bucket does not exist yet and `plan` makes it, that is
/// done first, with what it needs: of two who do that at once, both go on to the lock inside.
///
/// # Errors
/// As `work`; when the lock cannot be taken; when it is lost.
pub async fn with_lock<T>(
    environment: &Environment,
    cloud: &Cloud,
    settings: &Settings,
    plan: Option<(&Plan, &Progress)>,
    work: impl AsyncFnOnce(&dyn Fn(&str)) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let take = async || Lock::acquire(&cloud.google, &environment.bucket, &environment.name, settings).await;
    let mut acquired = take().await?;
    if matches!(acquired, Acquired::NoBucket)
        && let Some((plan, progress)) = plan
        && let Some(first) = up_to_bucket(plan, &environment.bucket)
    {
        carry_out(first, cloud, progress).await?;
        for attempt in 1..BUCKET_ATTEMPTS {
            acquired = take().await?;
            if matches!(acquired, Acquired::Held(_)) {
                break;
            }
            tokio::time::sleep(cloud.google.retry().pause(attempt)).await;
        }
    }
    let Acquired::Held(lock) = acquired else {
        (settings.notify)(Event::Without);
        return work(&|_| {}).await;
    };
    let result = lock.hold(work(&|step| lock.step(step))).await;
    lock.release().await;
    result
}

/// Carries out a plan that was agreed to: under the lock, after `plan_again` made a second plan, which must not have
/// anything that was not agreed to. A plan without changes takes no lock and writes nothing.
///
/// # Errors
/// As [`with_lock`]; when the cloud changed since the plan was made; as [`carry_out`].
pub async fn carry_out_locked(
    environment: &Environment,
    cloud: &Cloud,
    agreed: Plan,
    settings: &Settings,
    progress: &Progress,
    plan_again: impl AsyncFnOnce() -> anyhow::Result<Plan>,
) -> anyhow::Result<Report> {
    if agreed.pending().next().is_none() || agreed.blockers().next().is_some() {
        return carry_out(agreed, cloud, progress).await;
    }
    let all = agreed.pending().count();
    let mut report = with_lock(environment, cloud, settings, Some((&agreed, progress)), async |step| {
        step("reads the project again");
        let now = plan_again().await?;
        saved::beyond(&agreed, &now)?;
        step(&format!("makes {} changes", now.pending().count()));
        carry_out(now, cloud, progress).await
    })
    .await?;
    // With what was done before the lock, or by others meanwhile, that much of the agreed plan is done.
    let Applied { done, .. } = &mut report.applied;
    *done = all.max(*done);
    report.plan = agreed;
    Ok(report)
}

/// The part of a plan that makes the bucket; nothing when it does not.
fn up_to_bucket(plan: &Plan, bucket: &str) -> Option<Plan> {
    let bucket = bucket::id(bucket);
    let makes = |id: &Id| plan.changes.iter().find(|change| change.id == *id && change.action.is_change());
    makes(&bucket).filter(|change| change.action == Action::Create)?;
    let mut desired = vec![bucket];
    let mut next = 0;
    while let Some(id) = desired.get(next).cloned() {
        next += 1;
        let after = makes(&id).and_then(|change| change.resource.as_ref()).map(|resource| resource.after.clone());
        for id in after.unwrap_or_default() {
            if !desired.contains(&id) {
                desired.push(id);
            }
        }
    }
    let changes = plan.changes.iter().filter(|change| desired.contains(&change.id)).cloned().collect();
    Some(Plan { changes, ..plan.clone() })
}

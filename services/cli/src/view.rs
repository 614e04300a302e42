//! The Jobs of a business, from the bucket and the cluster.

use std::ops::Range;

use contract::{config::Business, object, pack::Pack};
use inspect::cluster;
use sessions::jobs::{self, Active, Job, SUSPENDED};

use crate::{context::Context, error::Failure, output::Output};

/// The Jobs of a business. When the cluster cannot be reached, prints a warning and reads only the bucket.
pub(crate) async fn jobs(
    context: &Context,
    business: &Business,
    session: Option<&str>,
    output: &Output,
) -> anyhow::Result<Vec<Job>> {
    Ok(jobs_and_running(context, business, session, output).await?.0)
}

/// As [`jobs`], with the number of Kubernetes Jobs that may have pods.
pub(crate) async fn jobs_and_running(
    context: &Context,
    business: &Business,
    session: Option<&str>,
    output: &Output,
) -> anyhow::Result<(Vec<Job>, usize)> {
    // The cluster first: a Job that ends in between is then found by its outcome.
    let active = active(context, business, session, output).await;
    let objects = jobs::list(&context.store, business, session).await?;
    let running = active.iter().filter(|job| job.reason.code != SUSPENDED).count();
    Ok((jobs::merge(&business.name, session, &objects, &active), running))
}

/// The running Jobs of a business. When the cluster cannot be reached, prints a warning and returns none.
pub(crate) async fn active(
    context: &Context,
    business: &Business,
    session: Option<&str>,
    output: &Output,
) -> Vec<Active> {
    let answer = match &context.cluster {
        Ok(client) => cluster::active_jobs(client, business, session).await,
        Err(why) => Err(anyhow::anyhow!("{why}")),
    };
    answer.unwrap_or_else(|error| {
        output.warn(format_args!("running Jobs are not shown, because the cluster cannot be reached: {error:#}"));
        Vec::new()
    })
}

/// The range of a pack that an item is in.
///
/// # Errors
/// When the Job is no pack with this item, or the bucket cannot be read.
pub(crate) async fn range_of(
    context: &Context,
    business: &Business,
    job: &Job,
    item: u32,
) -> anyhow::Result<Range<u32>> {
    let refused = |why: String| {
        Failure::new("no-such-item", format!("{:?} has no item {item}", job.job))
            .on(format!("{}, session {}", job.business, job.session))
            .why(why)
    };
    let layout = object::layout(&business.name, &job.session, &job.job, job.generation);
    let Some((_, layout)) = context.store.read(&business.bucket, &layout, None).await? else {
        return Err(refused("it is no pack, or is not split yet".to_owned()).into());
    };
    let pack: Pack = serde_json::from_slice(&layout).map_err(|error| refused(format!("its layout: {error}")))?;
    let first = item - item.checked_rem(pack.items_per_range).unwrap_or_default();
    let range = pack.check().ok().and_then(|()| pack.range(first)).filter(|range| range.contains(&item));
    Ok(range.ok_or_else(|| refused(format!("it has {} items, from 0 on", pack.items)))?)
}

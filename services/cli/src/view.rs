//! The Jobs of a business, from the bucket and the cluster.

use contract::config::Business;
use inspect::cluster;
use sessions::jobs::{self, Active, Job};

use crate::{context::Context, output::Output};

/// The Jobs of a business. When the cluster cannot be reached, prints a warning and reads only the bucket.
pub(crate) async fn jobs(
    context: &Context,
    business: &Business,
    session: Option<&str>,
    output: &Output,
) -> anyhow::Result<Vec<Job>> {
    // The cluster first: a Job that ends in between is then found by its outcome.
    let active = active(context, business, session, output).await;
    let objects = jobs::list(&context.store, business, session).await?;
    Ok(jobs::merge(&business.name, session, &objects, &active))
}

/// The running Jobs of a business. When the cluster cannot be reached, prints a warning and returns none.
pub(crate) async fn active(
    context: &Context,
    business: &Business,
    session: Option<&str>,
    output: &Output,
) -> Vec<Active> {
    let answer = match &context.cluster {
        Ok(client) => cluster::active_jobs(client, &context.store, business, session).await,
        Err(why) => Err(anyhow::anyhow!("{why}")),
    };
    answer.unwrap_or_else(|error| {
        output.warn(format_args!("running Jobs are not shown, because the cluster cannot be reached: {error:#}"));
        Vec::new()
    })
}

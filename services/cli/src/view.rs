//! The Jobs of a business as the verbs show them, from the bucket and the cluster.

use contract::config::Business;
use inspect::cluster;
use sessions::jobs::{self, Active, Job};

use crate::{context::Context, output::Output};

/// The Jobs of a business, from the bucket and the cluster. Warns when the cluster cannot be reached; the bucket alone
/// is shown then.
pub(crate) async fn jobs(
    context: &Context,
    business: &Business,
    session: Option<&str>,
    output: &Output,
) -> anyhow::Result<Vec<Job>> {
    // The cluster first: what ends in between is then seen by its outcome, and never by neither.
    let active = active(context, business, session, output).await;
    let objects = jobs::list(&context.store, business, session).await?;
    Ok(jobs::merge(&business.name, session, &objects, &active))
}

/// The Jobs of a business that run. Warns when the cluster cannot be reached.
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
        output.warn(format_args!("what runs is not known, because the cluster cannot be asked: {error:#}"));
        Vec::new()
    })
}

//! Jobs created from a backlog, beside bare creates on the same API server.

use anyhow::Context as _;
use cli::Context;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use tokio::time::Instant;

use super::{
    load::{self, AT_ONCE},
    report::{Better, Goal, Measure, Row},
    target::Target,
};

/// What was created.
pub(super) struct Created {
    /// The row.
    pub(super) row: Row,
    /// Number of Jobs in the namespace now.
    pub(super) jobs: usize,
}

/// Publishes a backlog while no orchestrator runs, then starts one and watches the Jobs that it creates.
pub(super) async fn measure(context: &Context, target: &mut Target, quick: bool) -> anyhow::Result<Created> {
    let count: usize = if quick { 1000 } else { 5000 };
    let business = context.business(Some("wide"))?;
    target.run(false).await?;
    let before = target.jobs().list_metadata(&ListParams::default()).await.context("list Jobs")?.items.len();
    let session = format!("backlog-{}", target.namespace);
    let works = load::upload(context, business, &session, count).await?;
    load::publish_all(context, business, &works).await?;

    let mut seen = load::Seen::begin(&target.client, &target.namespace).await?;
    target.run(true).await?;
    let sightings = seen.wait_for(before + count).await?;
    let mut times: Vec<Instant> = sightings.iter().map(|sighting| sighting.at).collect();
    times.sort_unstable();
    let ours = load::rate(times.split_off(before));
    drop(seen);

    let bare = bare(target, count).await?;
    let row = Row::new(
        format!("Jobs created from a backlog of {count}{}", target.label),
        Measure { value: ours, unit: "Jobs/s" },
        Some((&format!("bare creates, {AT_ONCE} at once"), bare)),
        Goal::Ratio(0.8, Better::Higher),
        "",
    );
    Ok(Created { row, jobs: before + count })
}

/// The same Jobs, created by nothing but a loop.
async fn bare(target: &Target, count: usize) -> anyhow::Result<f64> {
    let one = target.jobs().list(&ListParams::default().limit(1)).await.context("list Jobs")?;
    let mut template = one.items.into_iter().next().context("find a Job to copy")?;
    let name = target.create_namespace("bare").await?;
    let bare: Api<Job> = Api::namespaced(target.client.clone(), &name);
    let (labels, annotations) = (template.metadata.labels.take(), template.metadata.annotations.take());
    template.metadata = Default::default();
    (template.metadata.labels, template.metadata.annotations) = (labels, annotations);
    if let Some(spec) = &mut template.spec {
        // The API server sets these itself, and refuses them in a request.
        spec.selector = None;
        let pod = spec.template.metadata.get_or_insert_default();
        let mine = |name: &String| !name.ends_with("controller-uid") && !name.ends_with("job-name");
        pod.labels.get_or_insert_default().retain(|name, _| mine(name));
    }
    let (bare, template) = (&bare, &template);
    // The same kind of watch as for the orchestrator's Jobs sees them.
    let mut seen = load::Seen::begin(&target.client, &name).await?;
    stream::iter(0..count)
        .map(|index| async move {
            let mut job = template.clone();
            job.metadata.name = Some(format!("bare-{index}"));
            bare.create(&PostParams::default(), &job).await.map(drop).context("create a bare Job")
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    let sightings = seen.wait_for(count).await?;
    Ok(load::rate(sightings.iter().map(|sighting| sighting.at).collect()))
}

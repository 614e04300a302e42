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
    place::Place,
    report::{Better, Goal, Measure, Row},
};

/// What was created.
pub(super) struct Created {
    /// The row.
    pub(super) row: Row,
    /// Jobs that are in the namespace now.
    pub(super) jobs: usize,
}

/// Lets a backlog build up while there is no orchestrator, then watches one work it off.
pub(super) async fn measure(context: &Context, place: &mut Place, quick: bool) -> anyhow::Result<Created> {
    let count: usize = if quick { 1000 } else { 5000 };
    let business = context.business(Some("wide"))?;
    place.run(false).await?;
    let before = place.jobs().list_metadata(&ListParams::default()).await.context("list Jobs")?.items.len();
    let session = format!("backlog-{}", place.namespace);
    let works = load::upload(context, business, &session, count).await?;
    load::publish_all(context, business, &works).await?;

    let mut seen = load::Seen::begin(&place.client, &place.namespace).await?;
    place.run(true).await?;
    let sightings = seen.wait_for(before + count).await?;
    let mut times: Vec<Instant> = sightings.iter().map(|sighting| sighting.at).collect();
    times.sort_unstable();
    let ours = load::rate(times.split_off(before));
    drop(seen);

    let bare = bare(place, count).await?;
    let row = Row::new(
        format!("Jobs created from a backlog of {count}{}", place.called),
        Measure { value: ours, unit: "Jobs/s" },
        Some((&format!("bare creates, {AT_ONCE} at once"), bare)),
        Goal::Ratio(0.8, Better::Higher),
        "",
    );
    Ok(Created { row, jobs: before + count })
}

/// The same Jobs, created by nothing but a loop.
async fn bare(place: &Place, count: usize) -> anyhow::Result<f64> {
    let one = place.jobs().list(&ListParams::default().limit(1)).await.context("list Jobs")?;
    let mut template = one.items.into_iter().next().context("find a Job to copy")?;
    let name = place.further("bare").await?;
    let bare: Api<Job> = Api::namespaced(place.client.clone(), &name);
    let (labels, annotations) = (template.metadata.labels.take(), template.metadata.annotations.take());
    template.metadata = Default::default();
    (template.metadata.labels, template.metadata.annotations) = (labels, annotations);
    if let Some(spec) = &mut template.spec {
        // What the API server puts there itself, and refuses from anybody else.
        spec.selector = None;
        let pod = spec.template.metadata.get_or_insert_default();
        let mine = |name: &String| !name.ends_with("controller-uid") && !name.ends_with("job-name");
        pod.labels.get_or_insert_default().retain(|name, _| mine(name));
    }
    let (bare, template) = (&bare, &template);
    // Seen by the same kind of watch, from the first to the last, as ours are.
    let mut seen = load::Seen::begin(&place.client, &name).await?;
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

//! Jobs created from a backlog, beside bare creates on the same API server.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Namespace};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    load::{self, AT_ONCE},
    report::{Better, Goal, Measure, Row},
};
use crate::context::Context;

/// What was created.
pub(super) struct Created {
    /// The row.
    pub(super) row: Row,
    /// Jobs that are in the namespace now.
    pub(super) jobs: usize,
}

/// Lets a backlog build up while there is no orchestrator, then watches one work it off.
pub(super) async fn measure(context: &Context, quick: bool) -> anyhow::Result<Created> {
    let count: usize = if quick { 1000 } else { 5000 };
    let business = context.business(Some("wide"))?;
    let client = context.cluster()?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &business.namespace);
    let scale = async |replicas: u32| {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch("orchestrator", &PatchParams::default(), &patch).await.context("scale the orchestrator")
    };
    scale(0).await?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), &business.namespace);
    let before = jobs.list_metadata(&ListParams::default()).await.context("list Jobs")?.items.len();
    let works = load::upload(context, business, "backlog", count).await?;
    load::publish_all(context, business, &works).await?;

    let mut seen = load::Seen::begin(client, &business.namespace).await?;
    scale(1).await?;
    let sightings = seen.wait_for(before + count).await?;
    let mut times: Vec<Instant> = sightings.iter().map(|sighting| sighting.at).collect();
    times.sort_unstable();
    let ours = load::rate(times.split_off(before));
    drop(seen);

    let bare = bare(context, &jobs, count).await?;
    let row = Row::new(
        format!("Jobs created from a backlog of {count}"),
        Measure { value: ours, unit: "Jobs/s" },
        Some((&format!("bare creates, {AT_ONCE} at once"), bare)),
        Goal::Ratio(0.8, Better::Higher),
        "",
    );
    Ok(Created { row, jobs: before + count })
}

/// The same Jobs, created by nothing but a loop.
async fn bare(context: &Context, jobs: &Api<Job>, count: usize) -> anyhow::Result<f64> {
    let client = context.cluster()?;
    let one = jobs.list(&ListParams::default().limit(1)).await.context("list Jobs")?;
    let mut template = one.items.into_iter().next().context("find a Job to copy")?;
    let name = "bench-bare";
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await
        .context("make a namespace")?;
    let bare: Api<Job> = Api::namespaced(client.clone(), name);
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
    let begun = Instant::now();
    stream::iter(0..count)
        .map(|index| async move {
            let mut job = template.clone();
            job.metadata.name = Some(format!("bare-{index}"));
            bare.create(&PostParams::default(), &job).await.map(drop).context("create a bare Job")
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

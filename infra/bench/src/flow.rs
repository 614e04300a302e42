//! Jobs from message to outcome, beside bare Jobs on the same node.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use cli::Context;
use contract::labels;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api,
    api::{ListParams, PostParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    load::{self, AT_ONCE},
    report::{Better, Goal, Measure, Row},
};

/// Runs as many Jobs with the queue as without it.
pub(super) async fn measure(context: &Context, quick: bool) -> anyhow::Result<Vec<Row>> {
    let count: usize = if quick { 60 } else { 300 };
    let business = context.business(Some("flow"))?;
    let jobs: Api<Job> = Api::namespaced(context.cluster()?.clone(), &business.namespace);
    // One Job to copy; it also warms the caches for both measurements.
    let warm = load::upload(context, business, "warm", 1).await?;
    load::publish_all(context, business, &warm).await?;
    load::outcomes(context, business, "warm", 1).await?;
    let template = jobs.list(&ListParams::default().limit(1)).await.context("list Jobs")?;
    let template = serde_json::to_value(template.items.first().context("find a Job to copy")?)?;

    let works = load::upload(context, business, "bare", count).await?;
    let started = Instant::now();
    let (template, jobs) = (&template, &jobs);
    stream::iter(&works)
        .map(|work| async move {
            let job = bare(template, &format!("bare-{}", work.job), &serde_json::to_string(work)?)?;
            jobs.create(&PostParams::default(), &job).await.map(drop).context("create a bare Job")
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    wait_for_completion(jobs, count).await?;
    let bare = count as f64 / started.elapsed().as_secs_f64();

    let works = load::upload(context, business, "ours", count).await?;
    let started = Instant::now();
    load::publish_all(context, business, &works).await?;
    load::outcomes(context, business, "ours", count).await?;
    let ours = count as f64 / started.elapsed().as_secs_f64();
    Ok(vec![Row::new(
        format!("one Job per message, {count} published to all settled"),
        Measure { value: ours, unit: "Jobs/s" },
        Some(("bare Jobs with the same engine", bare)),
        Goal::Ratio(0.9, Better::Higher),
        "",
    )])
}

/// A Job with the same Pod that the orchestrator does not know.
fn bare(template: &Value, name: &str, work: &str) -> anyhow::Result<Job> {
    let mut spec = template["spec"].clone();
    let object = spec.as_object_mut().context("read a Job")?;
    object.remove("selector");
    object.remove("suspend");
    spec["template"]["metadata"] = json!({"labels": {labels::APP: "bench"}});
    let variables =
        spec["template"]["spec"]["containers"][0]["env"].as_array_mut().context("read a Job's container")?;
    for variable in variables {
        if variable["name"] == labels::ENV_WORK {
            *variable = json!({"name": labels::ENV_WORK, "value": work});
        }
    }
    let metadata = json!({"name": name, "labels": {labels::APP: "bench"}});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).context("copy a Job")
}

/// Waits until so many bare Jobs are complete.
async fn wait_for_completion(jobs: &Api<Job>, count: usize) -> anyhow::Result<()> {
    let config = watcher::Config::default().labels(&format!("{}=bench", labels::APP));
    let mut events = watcher(jobs.clone(), config).default_backoff().boxed();
    let mut done = BTreeSet::new();
    while done.len() < count {
        let event = tokio::time::timeout(std::time::Duration::from_secs(300), events.next()).await;
        let event = event.with_context(|| format!("only {} of {count} bare Jobs ran", done.len()))?;
        let (Some(Ok(watcher::Event::Apply(job))) | Some(Ok(watcher::Event::InitApply(job)))) = event else { continue };
        let status = job.status.unwrap_or_default();
        if status.failed.unwrap_or_default() > 0 {
            bail!("the bare Job {} failed", job.metadata.name.unwrap_or_default());
        }
        if status.conditions.iter().flatten().any(|found| found.type_ == "Complete" && found.status == "True") {
            done.insert(job.metadata.name);
        }
    }
    Ok(())
}

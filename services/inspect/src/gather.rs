//! Gathers the details of one Job from the bucket and the cluster.

use cloud::{
    controls, outcomes,
    storage::{self, Store},
};
use contract::{
    Identity, Outcome, config::Business, control::Parked, object, outcome, outcome::Timestamps, pack::Item,
    pool_report::InPool,
};
use kube::Client;
use sessions::{
    jobs::{Job, State},
    results,
};

use crate::{
    cluster::{self, EventView, OrchestratorView, PodView},
    detail::{Detail, Stored},
    explain, timeline,
};

/// Rows of result shown.
const ROWS: usize = 10;
/// Ranges of a pack whose results are read for these rows. Each has at least one row.
const RANGES: usize = 16;
/// Bytes of the largest result that is read for these rows.
const RESULT_MAX: usize = 4 * 1024 * 1024;
/// Items without a result that are shown, and outcomes that are read for them.
const ITEMS: usize = 100;
/// Outcomes read at a time.
const READS: usize = 16;

/// The sources of details.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The bucket.
    pub store: &'a Store,
    /// The cluster, if there is a client for it.
    pub cluster: Option<&'a Client>,
    /// The business.
    pub business: &'a Business,
}

/// Gathers the details of a Job. `running` is the number of Jobs of its business with a Kubernetes Job, and `lines` the
/// number of log lines. When the cluster does not answer, its details are left out.
///
/// # Errors
/// When the bucket cannot be read.
pub async fn gather(sources: Sources<'_>, mut job: Job, running: usize, lines: i64) -> anyhow::Result<Detail> {
    let Sources { store, cluster, business } = sources;
    let bucket = &business.bucket;
    let mut outcome_body = None;
    if let Some(name) = job.outcome.clone()
        && let Some(outcome) = outcomes::read_or_replace(store, bucket, &name).await?
    {
        job.fill(&outcome);
        outcome_body = Some(outcome);
    }
    let input_object = match &job.input {
        Some(name) => store.describe(bucket, name, None).await?.map(Stored::from),
        None => None,
    };
    let identity = Identity {
        bucket: bucket.clone(),
        object: object::input(&business.name, &job.session, &job.job),
        generation: job.generation,
        first: None,
        attempt: job.attempt,
    };
    let outcome_name = job.outcome.as_ref().and_then(|name| object::parse_outcome(&business.name, name));
    let shown = match outcome_name {
        Some(name) => Identity { first: name.first, attempt: name.attempt, ..identity.clone() },
        None => identity.clone(),
    };
    let output_name = object::output(&business.name, &job.session, &job.job, &shown);
    let results = store.list(bucket, &output_name).await?.into_iter().filter(|object| {
        object.name.strip_prefix(&output_name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let results = results.map(Stored::from).collect();
    let (read, unread) = job.outcomes.split_at(job.outcomes.len().min(RANGES));
    let mut preview = match job.state {
        Some(State::Succeeded) => results::read(store, business, read, RESULT_MAX).await?,
        _ => Vec::new(),
    };
    let preview_left_out = preview.len().saturating_sub(ROWS) + if preview.is_empty() { 0 } else { unread.len() };
    preview.truncate(ROWS);
    let failed_items = failed_items(store, bucket, &job).await?;
    let failed = job.items.map_or(0, |items| items.failed + items.cancelled) as usize;
    let kubernetes_job = job.kubernetes_job.clone().unwrap_or_else(|| shown.job_name());
    let in_cluster = match cluster {
        Some(client) => read_cluster(client, business, &job, &kubernetes_job, lines).await,
        None => Err(anyhow::anyhow!("the cluster is not known")),
    };
    let (in_cluster, cluster_trouble) = match in_cluster {
        Ok(in_cluster) => (in_cluster, None),
        Err(error) => (InCluster::default(), Some(format!("{error:#}"))),
    };
    let (control, _) = controls::read(store, business, &job.session).await?;
    let parked_name = object::parked(&business.name, &job.session, &job.job, &identity);
    let parked = match job.state {
        // Not every account may read parked messages.
        Some(State::Waiting | State::Expired) => match store.read(bucket, &parked_name, None).await {
            Err(error) if storage::is_denied(&error) => None,
            read => read?,
        },
        _ => None,
    };
    let parked: Option<Parked> = parked.and_then(|(_, body)| serde_json::from_slice(&body).ok());
    let times = match &parked {
        Some(parked) => Timestamps { published: parked.published, received: Some(parked.parked), ..job.timestamps },
        None => with_pod(job.timestamps, in_cluster.pods.last()),
    };
    let log = outcome_body.as_ref().and_then(|outcome| outcome.log_tail.clone()).or(in_cluster.log);
    let mut detail = Detail {
        timeline: timeline::moments(&merged(times, outcome_body.as_ref())),
        explanation: String::new(),
        outcome_body,
        failed_items_left_out: failed.saturating_sub(failed_items.len()),
        failed_items,
        input_object,
        results,
        pods: in_cluster.pods,
        in_pool: in_cluster.in_pool,
        events: in_cluster.events,
        log: log.map(|log| last_lines(&log, lines)),
        preview,
        preview_left_out,
        orchestrator: in_cluster.orchestrator,
        running,
        max_active_jobs: business.max_active_jobs,
        control,
        parked,
        full_quotas: in_cluster.full_quotas,
        others: Vec::new(),
        other_sessions: Vec::new(),
        cluster_trouble,
        job,
    };
    detail.explanation = explain::explain(&detail);
    Ok(detail)
}

/// The first items of a pack that ended without a result.
async fn failed_items(store: &Store, bucket: &str, job: &Job) -> anyhow::Result<Vec<Item>> {
    if job.items.is_none() {
        return Ok(Vec::new());
    }
    let names = job.unsuccessful.iter().take(ITEMS).cloned();
    let outcomes = outcomes::read_all(store, bucket, names, READS).await?;
    let items = outcomes.into_iter().flatten().flat_map(|outcome| outcome.items);
    Ok(items.filter(|item| item.state != outcome::State::Succeeded).take(ITEMS).collect())
}

/// The details of a Job from the cluster.
#[derive(Default)]
struct InCluster {
    pods: Vec<PodView>,
    events: Vec<EventView>,
    log: Option<String>,
    orchestrator: Option<OrchestratorView>,
    full_quotas: Vec<String>,
    in_pool: Option<InPool>,
}

async fn read_cluster(
    client: &Client,
    business: &Business,
    job: &Job,
    name: &str,
    lines: i64,
) -> anyhow::Result<InCluster> {
    let namespace = &business.namespace;
    let mut pods = cluster::pods_of_job(client, namespace, name).await?;
    // Not every account may read what is reported of the pool.
    let pool = cluster::pool_reports(client, business).await.unwrap_or_default();
    let in_pool = InPool::new(&pool, &job.session, &job.job, job.generation);
    if in_pool.as_ref().is_some_and(|pool| pool.waiting > 0) {
        pods.extend(cluster::engines(client, namespace, &business.name, "Pending").await?);
    }
    // Not every cluster keeps events, and none keeps them or logs for long.
    let mut events = cluster::events(client, namespace, name).await.unwrap_or_default();
    for pod in &pods {
        if let Some(name) = &pod.metadata.name {
            events.extend(cluster::events(client, namespace, name).await.unwrap_or_default());
        }
    }
    events.sort_by_key(|event| event.time);
    let log = match pods.last() {
        Some(pod) => cluster::log(client, namespace, pod, Some(lines)).await.ok(),
        None => None,
    };
    let deployments = cluster::orchestrators(client, namespace).await?;
    let orchestrator = cluster::orchestrator(&deployments, &cluster::orchestrator_pods(client, namespace).await?);
    // Not every account may read quotas.
    let full_quotas = cluster::quotas(client, namespace).await.unwrap_or_default();
    let pods = pods.iter().map(PodView::from).collect();
    Ok(InCluster { pods, events, log, orchestrator: Some(orchestrator), full_quotas, in_pool })
}

/// The times of a Job without an outcome, with those of its last pod.
fn with_pod(times: Timestamps, pod: Option<&PodView>) -> Timestamps {
    let Some(pod) = pod else { return times };
    Timestamps { scheduled: pod.scheduled, started: pod.started, finished: times.finished.or(pod.finished), ..times }
}

fn merged(times: Timestamps, outcome: Option<&Outcome>) -> Timestamps {
    outcome.map_or(times, |outcome| outcome.timestamps)
}

fn last_lines(text: &str, max: i64) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(usize::try_from(max).unwrap_or_default());
    lines[skipped..].join("\n")
}

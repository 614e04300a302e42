//! Gathers the details of one Job from the bucket and the cluster.

use cloud::{
    controls, outcomes,
    storage::{self, Store},
};
use contract::{Identity, Outcome, batch, config::Business, control::Parked, object, outcome::Timestamps};
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
        attempt: job.attempt,
    };
    let output_name = object::output(&business.name, &job.session, &job.job, &identity, None);
    let results = store.list(bucket, &output_name).await?.into_iter().filter(|object| {
        object.name.strip_prefix(&output_name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    let results = results.map(Stored::from).collect();
    let mut preview = match &job.outcome {
        Some(name) if job.state == Some(State::Succeeded) => results::read(store, business, name).await?,
        _ => Vec::new(),
    };
    let preview_left_out = preview.len().saturating_sub(ROWS);
    preview.truncate(ROWS);
    let kubernetes_job = job.kubernetes_job.clone().unwrap_or_else(|| identity.job_name());
    let in_cluster = match cluster {
        Some(client) => read_cluster(client, business, &kubernetes_job, &job.job, lines).await,
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
        input_object,
        results,
        pods: in_cluster.pods,
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

/// The details of a Job from the cluster.
#[derive(Default)]
struct InCluster {
    pods: Vec<PodView>,
    events: Vec<EventView>,
    log: Option<String>,
    orchestrator: Option<OrchestratorView>,
    full_quotas: Vec<String>,
}

async fn read_cluster(
    client: &Client,
    business: &Business,
    name: &str,
    job: &str,
    lines: i64,
) -> anyhow::Result<InCluster> {
    let namespace = &business.namespace;
    let pods = cluster::pods_of_job(client, namespace, name).await?;
    // Not every cluster keeps events, and none keeps them or logs for long.
    let mut events = cluster::events(client, namespace, name).await.unwrap_or_default();
    for pod in &pods {
        if let Some(name) = &pod.metadata.name {
            events.extend(cluster::events(client, namespace, name).await.unwrap_or_default());
        }
    }
    events.sort_by_key(|event| event.time);
    let log = match pods.last() {
        Some(_) if batch::is_job_name(name) => {
            let mut text = String::new();
            for pod in &pods {
                let log = cluster::log(client, namespace, pod, None).await.unwrap_or_default();
                let own = log.lines().filter(|line| cluster::is_about(Some(job), pod, line));
                text.extend(own.flat_map(|line| [line, "\n"]));
            }
            Some(text).filter(|text| !text.is_empty())
        }
        Some(pod) => cluster::log(client, namespace, pod, Some(lines)).await.ok(),
        None => None,
    };
    let deployments = cluster::orchestrators(client, namespace).await?;
    let orchestrator = cluster::orchestrator(&deployments, &cluster::orchestrator_pods(client, namespace).await?);
    // Not every account may read quotas.
    let full_quotas = cluster::quotas(client, namespace).await.unwrap_or_default();
    let pods = pods.iter().map(PodView::from).collect();
    Ok(InCluster { pods, events, log, orchestrator: Some(orchestrator), full_quotas })
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

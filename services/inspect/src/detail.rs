//! Everything known of one Job, from the bucket and the cluster.

use std::collections::BTreeMap;

use cloud::{
    controls, outcomes,
    storage::{self, Object, Store},
};
use contract::{
    Identity, Outcome, batch,
    config::Business,
    control::{Control, Parked},
    object,
    outcome::Timestamps,
};
use kube::Client;
use serde::Serialize;
use sessions::{
    jobs::{Job, State},
    results::{self, Row},
};

use crate::{
    cluster::{self, EventView, OrchestratorView, PodView},
    explain,
    timeline::{self, Moment},
};

/// Rows of result shown.
const ROWS: usize = 10;

/// Everything known of one Job.
#[derive(Clone, Debug, schemars::JsonSchema, Serialize)]
#[schemars(rename = "JobDetail")]
pub struct Detail {
    /// The Job.
    #[serde(flatten)]
    pub job: Job,
    /// In plain words.
    pub explanation: String,
    /// What happened to it, in order.
    pub timeline: Vec<Moment>,
    /// Its outcome, once it has one.
    pub outcome_body: Option<Outcome>,
    /// Its input, while that is there.
    pub input_object: Option<Stored>,
    /// Its result objects.
    pub results: Vec<Stored>,
    /// Its Pods, as long as the cluster keeps them.
    pub pods: Vec<PodView>,
    /// What happened to it in the cluster.
    pub events: Vec<EventView>,
    /// The last lines of its log.
    pub log: Option<String>,
    /// The first rows of its result.
    pub preview: Vec<Row>,
    /// Rows that are not among them.
    pub preview_left_out: usize,
    /// How its business's orchestrator does.
    pub orchestrator: Option<OrchestratorView>,
    /// Jobs of the business that have a Kubernetes Job and no outcome.
    pub running: usize,
    /// How many may.
    pub max_active_jobs: u32,
    /// What was decided about its session.
    pub control: Option<Control>,
    /// Its message was put aside because of a pause.
    pub parked: Option<Parked>,
    /// What is used up of the namespace's quotas.
    pub full_quotas: Vec<String>,
    /// Other runs with the same session and id: earlier inputs of that name.
    pub others: Vec<Job>,
    /// Sessions that have a Job of the same id.
    pub other_sessions: Vec<String>,
    /// Why the cluster tells nothing, when it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_trouble: Option<String>,
}

/// Where to look.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The bucket.
    pub store: &'a Store,
    /// The cluster, if it is known.
    pub cluster: Option<&'a Client>,
    /// The business.
    pub business: &'a Business,
}

/// An object in the bucket.
#[derive(Clone, Debug, schemars::JsonSchema, Serialize)]
#[schemars(rename = "Object")]
pub struct Stored {
    /// Name.
    pub name: String,
    /// Generation.
    pub generation: i64,
    /// Bytes.
    pub size: i64,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
}

impl From<Object> for Stored {
    fn from(object: Object) -> Self {
        Self { name: object.name, generation: object.generation, size: object.size, metadata: object.metadata }
    }
}

/// Gathers everything known of a Job; `running` is how many of its business have a Kubernetes Job, and `lines` how much
/// of its log is wanted. A cluster that does not answer leaves out its part.
///
/// # Errors
/// When the bucket cannot be read.
pub async fn gather(sources: Sources<'_>, mut job: Job, running: usize, lines: i64) -> anyhow::Result<Detail> {
    let Sources { store, cluster, business } = sources;
    let bucket = &business.bucket;
    let mut outcome_body = None;
    if let Some(name) = job.outcome.clone()
        && let Some(outcome) = outcomes::shown(store, bucket, &name).await?
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
    let seen = match cluster {
        Some(client) => look(client, business, &kubernetes_job, &job.job, lines).await,
        None => Err(anyhow::anyhow!("the cluster is not known")),
    };
    let (seen, cluster_trouble) = match seen {
        Ok(seen) => (seen, None),
        Err(error) => (Seen::default(), Some(format!("{error:#}"))),
    };
    let (control, _) = controls::read(store, business, &job.session).await?;
    let parked_name = object::parked(&business.name, &job.session, &job.job, &identity);
    let parked = match job.state {
        // Not everybody may look at what was put aside.
        Some(State::Waiting | State::Expired) => match store.read(bucket, &parked_name, None).await {
            Err(error) if storage::is_denied(&error) => None,
            read => read?,
        },
        _ => None,
    };
    let parked: Option<Parked> = parked.and_then(|(_, body)| serde_json::from_slice(&body).ok());
    let times = match &parked {
        Some(parked) => Timestamps { published: parked.published, received: Some(parked.parked), ..job.timestamps },
        None => with_pod(job.timestamps, seen.pods.last()),
    };
    let log = outcome_body.as_ref().and_then(|outcome| outcome.log_tail.clone()).or(seen.log);
    let mut detail = Detail {
        timeline: timeline::moments(&merged(times, outcome_body.as_ref())),
        explanation: String::new(),
        outcome_body,
        input_object,
        results,
        pods: seen.pods,
        events: seen.events,
        log: log.map(|log| last_lines(&log, lines)),
        preview,
        preview_left_out,
        orchestrator: seen.orchestrator,
        running,
        max_active_jobs: business.max_active_jobs,
        control,
        parked,
        full_quotas: seen.full_quotas,
        others: Vec::new(),
        other_sessions: Vec::new(),
        cluster_trouble,
        job,
    };
    detail.explanation = explain::explain(&detail);
    Ok(detail)
}

/// What the cluster shows of a Job.
#[derive(Default)]
struct Seen {
    pods: Vec<PodView>,
    events: Vec<EventView>,
    log: Option<String>,
    orchestrator: Option<OrchestratorView>,
    full_quotas: Vec<String>,
}

async fn look(client: &Client, business: &Business, name: &str, job: &str, lines: i64) -> anyhow::Result<Seen> {
    let namespace = &business.namespace;
    let pods = cluster::pods_of_job(client, namespace, name).await?;
    // Events are kept for an hour and not by every cluster; logs not for long either.
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
    // Not everybody may look at quotas.
    let full_quotas = cluster::quotas(client, namespace).await.unwrap_or_default();
    let pods = pods.iter().map(PodView::from).collect();
    Ok(Seen { pods, events, log, orchestrator: Some(orchestrator), full_quotas })
}

/// The times of a Job that has no outcome yet, with those its last pod tells.
fn with_pod(times: Timestamps, pod: Option<&PodView>) -> Timestamps {
    let Some(pod) = pod else { return times };
    Timestamps { scheduled: pod.scheduled, started: pod.started, finished: times.finished.or(pod.finished), ..times }
}

fn merged(times: Timestamps, outcome: Option<&Outcome>) -> Timestamps {
    outcome.map_or(times, |outcome| outcome.timestamps)
}

fn last_lines(text: &str, most: i64) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(usize::try_from(most).unwrap_or_default());
    lines[skipped..].join("\n")
}

//! `job JOB`: everything known of one Job.

use std::collections::BTreeMap;

use anyhow::Context as _;
use common::{
    Identity, Outcome, batch,
    config::Business,
    control::{self, Control, Parked},
    exit,
    jobs::{self, Job, State},
    object,
    outcome::Timestamps,
    results::{self, Row},
    storage::Object,
};
use serde::Serialize;

use super::jobs::view;
use crate::{
    args::Globals,
    cluster::{self, EventView, OrchestratorView, PodView},
    context::Context,
    error::Failure,
    output::Output,
    text,
    timeline::{self, Moment},
};

mod explain;
mod print;

/// Lines of log shown.
const LOG_LINES: i64 = 20;
/// Rows of result shown.
const ROWS: usize = 10;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Job id (for a refused message, its message id)
    job: String,
    /// Session [default: the one in which a Job of this id changed last]
    #[arg(long, short)]
    session: Option<String>,
    /// Business [default: all]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
}

/// Everything known of one Job.
#[derive(Debug, Serialize)]
pub(crate) struct Detail {
    #[serde(flatten)]
    job: Job,
    /// In plain words.
    explanation: String,
    timeline: Vec<Moment>,
    outcome_body: Option<Outcome>,
    input_object: Option<Stored>,
    results: Vec<Stored>,
    pods: Vec<PodView>,
    events: Vec<EventView>,
    log: Option<String>,
    preview: Vec<Row>,
    preview_left_out: usize,
    orchestrator: Option<OrchestratorView>,
    /// Jobs of the business that have a Kubernetes Job and no outcome.
    running: usize,
    max_active_jobs: u32,
    /// What was decided about its session.
    control: Option<Control>,
    /// Its message was put aside because of a pause.
    parked: Option<Parked>,
    /// What is used up of the namespace's quotas.
    full_quotas: Vec<String>,
    /// Other runs with the same session and id: earlier inputs of that name.
    others: Vec<Job>,
    /// Sessions that have a Job of the same id.
    other_sessions: Vec<String>,
}

/// An object in the bucket.
#[derive(Debug, Serialize)]
struct Stored {
    name: String,
    generation: i64,
    size: i64,
    metadata: BTreeMap<String, String>,
}

impl From<Object> for Stored {
    fn from(object: Object) -> Self {
        Self { name: object.name, generation: object.generation, size: object.size, metadata: object.metadata }
    }
}

/// Shows the Job.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = Context::open(globals).await?;
    let mut found: Vec<Job> = Vec::new();
    let mut running: BTreeMap<String, usize> = BTreeMap::new();
    let mut similar: Vec<String> = Vec::new();
    for business in context.businesses(args.business.as_deref())? {
        let jobs = view(&context, business, args.session.as_deref(), output).await?;
        let active = jobs.iter().filter(|job| job.state == Some(State::Running)).count();
        running.insert(business.name.clone(), active);
        similar.extend(jobs.iter().filter(|job| job.job.contains(&args.job)).map(|job| job.job.clone()));
        found.extend(jobs.into_iter().filter(|job| job.job == args.job));
    }
    found.sort_by_key(|job| std::cmp::Reverse(job.changed));
    if found.is_empty() {
        return Err(missing(args, &context, similar).into());
    }
    let first = found.remove(0);
    let business = context.config.business(&first.business)?.clone();
    let running = running.get(&first.business).copied().unwrap_or_default();
    let (others, elsewhere): (Vec<Job>, Vec<Job>) =
        found.into_iter().partition(|job| job.business == first.business && job.session == first.session);
    let mut detail = gather(&context, &business, first, running, output).await?;
    detail.others = others;
    jobs::fill(&context.store, &business.bucket, &mut detail.others).await?;
    detail.other_sessions = elsewhere.iter().map(|job| format!("{}/{}", job.business, job.session)).collect();
    detail.explanation = explain::explain(&detail);
    if output.json {
        output.document(&detail)?;
    } else {
        output.write(print::page(&detail, &context.flag).as_bytes())?;
    }
    Ok(exit::DONE)
}

async fn gather(
    context: &Context,
    business: &Business,
    mut job: Job,
    running: usize,
    output: &Output,
) -> anyhow::Result<Detail> {
    let (store, bucket) = (&context.store, &business.bucket);
    let mut outcome_body = None;
    if let Some(name) = job.outcome.clone()
        && let Some((_, body)) = store.read(bucket, &name, None).await?
    {
        let outcome: Outcome = serde_json::from_slice(&body).with_context(|| format!("parse the outcome {name}"))?;
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
    let seen = look(context, business, &kubernetes_job, &job.job).await.unwrap_or_else(|error| {
        output.detail(format_args!("the cluster tells nothing more: {error:#}"));
        Seen::default()
    });
    let (control, _) = control::read(store, business, &job.session).await?;
    let parked_name = object::parked(&business.name, &job.session, &job.job, &identity);
    let parked = match job.state {
        Some(State::Waiting) => store.read(bucket, &parked_name, None).await?,
        _ => None,
    };
    let parked: Option<Parked> = parked.and_then(|(_, body)| serde_json::from_slice(&body).ok());
    let times = match &parked {
        Some(parked) => Timestamps { published: parked.published, received: Some(parked.parked), ..job.timestamps },
        None => with_pod(job.timestamps, seen.pods.last()),
    };
    let log = outcome_body.as_ref().and_then(|outcome| outcome.log_tail.clone()).or(seen.log);
    Ok(Detail {
        timeline: timeline::moments(&merged(times, outcome_body.as_ref())),
        explanation: String::new(),
        outcome_body,
        input_object,
        results,
        pods: seen.pods,
        events: seen.events,
        log: log.map(|log| last_lines(&log, LOG_LINES)),
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
        job,
    })
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

async fn look(context: &Context, business: &Business, name: &str, job: &str) -> anyhow::Result<Seen> {
    let client = context.cluster()?;
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
            let mut lines = String::new();
            for pod in &pods {
                let log = cluster::log(client, namespace, pod, None).await.unwrap_or_default();
                let own = log.lines().filter(|line| super::logs::is_about(Some(job), pod, line));
                lines.extend(own.flat_map(|line| [line, "\n"]));
            }
            Some(lines).filter(|lines| !lines.is_empty())
        }
        Some(pod) => cluster::log(client, namespace, pod, Some(LOG_LINES)).await.ok(),
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

fn missing(args: &Args, context: &Context, mut similar: Vec<String>) -> Failure {
    similar.sort();
    similar.dedup();
    let of = args.session.as_ref().map(|session| format!(" in session {session}")).unwrap_or_default();
    let failure = Failure::new("no-such-job", format!("there is no Job {:?}{of}", args.job))
        .on(format!("environment {}", context.config.environment));
    if similar.is_empty() {
        failure.next(format!("cargo xtask{} jobs lists them", context.flag))
    } else {
        failure.next(format!("did you mean {}?", text::some(similar.iter().map(String::as_str), 5)))
    }
}

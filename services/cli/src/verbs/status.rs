//! `status`: an overview of the environment and its problems.

use std::collections::BTreeMap;

use cloud::{controls, queue, storage};
use contract::{
    config::Business,
    exit, labels,
    pool_report::{Load, Report},
};
use inspect::cluster::{self, NamespaceState, OrchestratorView};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sessions::jobs::{self, Job, Objects, State};

use crate::{
    context::{Context, Opener},
    output::Output,
    text,
};

/// Outcomes read for their state when the listing does not contain it.
const READ_MAX: usize = 2000;
/// An input that waits longer, although more Jobs may run, is a problem.
const WAIT_LIMIT: SignedDuration = SignedDuration::from_mins(2);

/// For each business: its orchestrator, its Jobs by state, and how long inputs wait.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Business [default: all]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
}

/// An overview of the environment.
#[derive(Debug, Serialize)]
struct Status {
    environment: String,
    project: String,
    bucket: String,
    businesses: Vec<BusinessStatus>,
}

/// An overview of a business.
#[derive(Debug, PartialEq, Serialize)]
struct BusinessStatus {
    business: String,
    /// Absent when the cluster cannot be reached.
    orchestrator: Option<OrchestratorView>,
    /// Kubernetes Jobs by whether they have ended.
    kubernetes_jobs: Option<KubernetesJobs>,
    max_active_jobs: u32,
    /// Engines of its pool, when it has one and the cluster can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    engines: Option<Engines>,
    /// Jobs by state.
    jobs: BTreeMap<State, usize>,
    /// Ended Jobs whose outcome was not read.
    unread: usize,
    /// Seconds since the oldest waiting input was submitted.
    oldest_waiting_seconds: Option<i64>,
    /// Problems, a sentence each.
    problems: Vec<String>,
    /// Why it is not known how many messages wait that carry their input themselves; absent when none does for long.
    unknown_messages: Option<String>,
}

/// What the cluster has of a business.
struct InCluster {
    orchestrator: OrchestratorView,
    jobs: KubernetesJobs,
    engines: Option<Engines>,
}

/// Kubernetes Jobs of a business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct KubernetesJobs {
    active: usize,
    finished: usize,
}

/// Engines of a pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Engines {
    running: usize,
    max: u32,
    /// What each orchestrator reports; nothing when the caller may not read it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reports: Vec<Report>,
}

impl Engines {
    /// How busy they are, in a sentence; `None` when it is not known.
    fn load(&self) -> Option<String> {
        let Load { assigned, waiting, items_per_second: rate, item_seconds } = Load::new(&self.reports)?;
        let mean = item_seconds.map(|mean| format!(", {:.1} ms each", mean * 1000.0)).unwrap_or_default();
        let waiting = text::count(waiting, "item");
        Some(format!("pool: {assigned} with engines, {waiting} waiting for one, {rate:.1} items/s{mean}"))
    }
}

/// Prints the status.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let now = Timestamp::now();
    let businesses = context.businesses(args.business.as_deref())?;
    let businesses = businesses.into_iter().map(|business| business_status(&context, business, now));
    let status = Status {
        environment: context.config.environment.clone(),
        project: context.config.project.clone(),
        bucket: context.config.bucket.clone(),
        businesses: futures::future::try_join_all(businesses).await?,
    };
    if output.json {
        output.document(&status)?;
        return Ok(exit::DONE);
    }
    output
        .note(format_args!("environment {}: project {}, bucket {}", status.environment, status.project, status.bucket));
    output.line(table(&status.businesses))?;
    for business in &status.businesses {
        if let Some(load) = business.engines.as_ref().and_then(Engines::load) {
            output.line(format_args!("{}: {load}", business.business))?;
        }
        for problem in &business.problems {
            output.line(format_args!("{}: {problem}", business.business))?;
        }
        if let Some(why) = &business.unknown_messages {
            output.line(format_args!("{}: {why}", business.business))?;
        }
    }
    Ok(exit::DONE)
}

async fn business_status(context: &Context, business: &Business, now: Timestamp) -> anyhow::Result<BusinessStatus> {
    let in_cluster = async {
        let client = context.cluster()?;
        let namespace = &business.namespace;
        let engines = async {
            match business.pool {
                Some(pool) => {
                    let running = cluster::engines(client, namespace, &business.name, "Running").await?.len();
                    // Not every account may read them.
                    let reports = cluster::pool_reports(client, business).await.unwrap_or_default();
                    anyhow::Ok(Some(Engines { running, max: pool.max, reports }))
                }
                None => Ok(None),
            }
        };
        let (engines, jobs, deployments, pods, state) = tokio::try_join!(
            engines,
            cluster::jobs(client, namespace, &business.name, None),
            cluster::orchestrators(client, namespace),
            cluster::orchestrator_pods(client, namespace),
            cluster::namespace_state(client, namespace)
        )?;
        anyhow::Ok((jobs, cluster::orchestrator(&deployments, &pods), engines, state))
    };
    let (in_cluster, missing, objects) = tokio::join!(
        in_cluster,
        queue::missing_any(&context.connection, business),
        jobs::list(&context.store, business, None)
    );
    let repair = |what: &dyn std::fmt::Display| format!("{what}; `cargo xtask{} provision` repairs it", context.flag);
    let mut missing: Vec<String> = missing?.iter().map(|missing| repair(missing)).collect();
    let has_bucket = !objects.as_ref().is_err_and(is_absent);
    let objects = if has_bucket { objects? } else { Objects::default() };
    if !has_bucket {
        missing.push(repair(&format_args!("the bucket {} does not exist", business.bucket)));
    }
    let (namespace, flag) = (&business.namespace, &context.flag);
    match &in_cluster {
        Ok((.., NamespaceState::Missing)) => {
            missing.push(format!("the namespace {namespace} does not exist; `cargo xtask{flag} deploy` creates it"));
        }
        Ok((.., NamespaceState::Terminating)) => missing.push(format!(
            "the namespace {namespace} is being deleted, which waits for its unsettled Jobs; `cargo xtask{flag} clean \
             --business {}` releases them",
            business.name
        )),
        Ok((.., NamespaceState::Active)) | Err(_) => {}
    }
    let active: Vec<_> = in_cluster.iter().flat_map(|(jobs, ..)| jobs).filter_map(cluster::active).collect();
    let mut merged = jobs::merge(&business.name, None, &objects, &active);
    let mut rest = merged.split_off(merged.len().min(READ_MAX));
    let mut unread: Vec<Job> = merged.extract_if(.., |job| job.state.is_none()).collect();
    jobs::fill(&context.store, &business.bucket, &mut unread).await?;
    merged.append(&mut unread);
    merged.append(&mut rest);
    let in_cluster = match in_cluster {
        Ok((jobs, orchestrator, engines, _)) => {
            let finished = jobs.iter().filter(|job| cluster::is_finished(job)).count();
            Some(InCluster { orchestrator, jobs: KubernetesJobs { active: jobs.len() - finished, finished }, engines })
        }
        Err(error) => {
            missing.push(format!("cannot reach the cluster: {}", cause(&error)));
            None
        }
    };
    let controls = if has_bucket { controls::all(&context.store, business).await? } else { Default::default() };
    let paused: Vec<&str> =
        controls.iter().filter(|(_, control)| control.paused).map(|(session, _)| session.as_str()).collect();
    Ok(summarise(business, &merged, &paused, in_cluster, missing, now))
}

/// Whether an error is that the bucket does not exist.
fn is_absent(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref().is_some_and(storage::is_not_found))
}

/// Why the cluster cannot be reached, in one line.
fn cause(error: &anyhow::Error) -> String {
    let failure = crate::error::explain(error);
    failure.why.unwrap_or(failure.what)
}

/// Counts the Jobs of a business and finds its problems, after those that are `missing` parts.
fn summarise(
    business: &Business,
    merged: &[Job],
    paused: &[&str],
    in_cluster: Option<InCluster>,
    missing: Vec<String>,
    now: Timestamp,
) -> BusinessStatus {
    let mut by_state: BTreeMap<State, usize> = BTreeMap::new();
    for state in merged.iter().filter_map(|job| job.state) {
        *by_state.entry(state).or_default() += 1;
    }
    let unread = merged.iter().filter(|job| job.state.is_none()).count();
    let oldest = merged.iter().filter(|job| job.state == Some(State::Waiting)).filter_map(|job| job.changed).min();
    // Jobs of paused sessions, and Jobs that a queue has not admitted, may wait.
    let is_held = |job: &Job| paused.contains(&job.session.as_str()) || job.kubernetes_job.is_some();
    let free = merged.iter().filter(|job| job.state == Some(State::Waiting) && !is_held(job));
    let waits = free.filter_map(|job| job.changed).min().map(|oldest| now.duration_since(oldest));
    let count = |state| by_state.get(&state).copied().unwrap_or_default();
    let mut problems = missing;
    let (orchestrator, kubernetes_jobs, engines) = match in_cluster {
        Some(InCluster { orchestrator, jobs, engines }) => (Some(orchestrator), Some(jobs), engines),
        None => (None, None, None),
    };
    if let Some(problem) = orchestrator.as_ref().and_then(|view: &OrchestratorView| view.problem.as_ref()) {
        problems.push(format!("orchestrator: {problem}"));
    }
    let has_room = kubernetes_jobs.is_some_and(|jobs: KubernetesJobs| {
        jobs.active < usize::try_from(business.max_active_jobs).unwrap_or(usize::MAX)
    });
    if let Some(waits) = waits.filter(|waits| *waits > WAIT_LIMIT)
        && has_room
    {
        let inputs = text::count(count(State::Waiting), "input");
        let waits = text::duration(waits);
        problems.push(match &engines {
            Some(Engines { running: 0, .. }) => format!(
                "{inputs} waiting, the oldest for {waits}, and no engine of the pool runs; see: kubectl -n {} describe \
                 pods -l {}",
                business.namespace,
                labels::POOL
            ),
            Some(_) => format!("{inputs} waiting or in the pool, the oldest for {waits}"),
            None => format!("{inputs} waiting, the oldest for {waits}, although more Jobs may run"),
        });
    }
    for (state, verb) in [(State::Failed, "failed"), (State::Refused, "refused")] {
        if count(state) > 0 {
            let thing = if state == State::Refused { "message was" } else { "Job has" };
            problems.push(format!("{} {verb}", people(count(state), thing)));
        }
    }
    BusinessStatus {
        business: business.name.clone(),
        unknown_messages: unknown_messages(business, orchestrator.as_ref(), has_room),
        orchestrator,
        kubernetes_jobs,
        max_active_jobs: business.max_active_jobs,
        engines,
        jobs: by_state,
        unread,
        oldest_waiting_seconds: oldest.map(|oldest| now.duration_since(oldest).as_secs()),
        problems,
    }
}

/// Why the number of messages without an input in the bucket is unknown: only an orchestrator may take them from Pub/Sub,
/// and one with room takes each at once.
fn unknown_messages(business: &Business, orchestrator: Option<&OrchestratorView>, has_room: bool) -> Option<String> {
    let why = match orchestrator {
        _ if !business.intake => "its orchestrator takes no messages (`intake = false`)",
        None => "it is not known whether an orchestrator takes them",
        Some(view) if view.ready == 0 => "no orchestrator is ready to take them",
        Some(_) if !has_room => "its orchestrator takes no more until a Job ends",
        Some(_) => return None,
    };
    let subscription = business.subscription.rsplit('/').next().unwrap_or_default();
    Some(format!(
        "unknown number of waiting messages that carry their input themselves: {why}; \
         num_undelivered_messages of {subscription} in Cloud Monitoring counts all messages"
    ))
}

fn people(count: usize, thing: &str) -> String {
    match (count, thing) {
        (1, thing) => format!("1 {thing}"),
        (count, "message was") => format!("{count} messages were"),
        (count, _) => format!("{count} Jobs have"),
    }
}

fn table(businesses: &[BusinessStatus]) -> String {
    let mut header = vec!["business", "orchestrator", "k8s jobs"];
    header.extend(State::ALL.iter().map(|state| state.as_str()));
    header.push("oldest waiting");
    text::table(
        &header,
        businesses.iter().map(|business| {
            let orchestrator = business.orchestrator.as_ref();
            let mut cells = vec![
                business.business.clone(),
                orchestrator.map_or("?".to_owned(), |view| format!("{}/{}", view.ready, view.wanted)),
                match (&business.engines, business.kubernetes_jobs) {
                    (Some(engines), _) => format!("{}/{} engines", engines.running, engines.max),
                    (None, Some(jobs)) => {
                        format!("{}/{} +{} ended", jobs.active, business.max_active_jobs, jobs.finished)
                    }
                    (None, None) => "?".to_owned(),
                },
            ];
            for state in State::ALL {
                let count = business.jobs.get(&state).copied().unwrap_or_default();
                let more =
                    if business.unread > 0 && !matches!(state, State::Waiting | State::Running) { "+" } else { "" };
                let more = if state == State::Waiting && business.unknown_messages.is_some() { "+?" } else { more };
                cells.push(format!("{count}{more}"));
            }
            let oldest = business.oldest_waiting_seconds.map(SignedDuration::from_secs);
            cells.push(oldest.map_or("-".to_owned(), text::duration));
            cells
        }),
    )
}

#[cfg(test)]
mod tests;

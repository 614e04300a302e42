//! `logs`: logs of engines and orchestrators, from the cluster, or from the outcome when the pods are deleted.

use std::collections::BTreeSet;

use cloud::outcomes;
use contract::{Identity, config::Business, exit, labels, names, object, outcome, pack::Item};
use futures::StreamExt as _;
use inspect::cluster;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use sessions::jobs;

use crate::{
    context::{Context, Opener},
    error::Failure,
    output::Output,
    view,
};

mod follow;

/// Pods read at a time.
const READS: usize = 8;
/// Jobs without pods whose log is read from the outcome.
const OUTCOMES_MAX: usize = 200;

/// Logs of one Job, of a session or of all Jobs. Lines of several logs start with their Job.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Job id
    #[arg(conflicts_with = "orchestrator")]
    job: Option<String>,
    /// Only this session
    #[arg(long, short, conflicts_with = "orchestrator")]
    session: Option<String>,
    /// Business [default: all]
    #[arg(long, short, env = "BUSINESS_NAME")]
    business: Option<String>,
    /// Of a pack, only the range with this item, counted from 0
    #[arg(long, value_name = "N", requires = "job")]
    item: Option<u32>,
    #[arg(skip)]
    range: Option<RangeOf>,
    /// Print new lines as they are written
    #[arg(long, short)]
    follow: bool,
    /// Print only the last N lines of each log
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Also print the log of the previous run of restarted containers
    #[arg(long, short, conflicts_with = "follow")]
    previous: bool,
    /// Print the log of the orchestrator
    #[arg(long)]
    orchestrator: bool,
}

/// The range of a pack whose logs are requested.
#[derive(Clone, Debug)]
struct RangeOf {
    business: String,
    session: String,
    /// Its first item.
    first: u32,
    /// The Kubernetes Jobs of its attempts.
    kubernetes_jobs: BTreeSet<String>,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    business: String,
    /// Job id (or its label), or the name of the pod.
    from: String,
    pod: Option<String>,
    line: String,
}

/// Prints the logs.
pub(crate) async fn run(opener: &Opener<'_>, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let context = opener.open().await?;
    let mut businesses = context.businesses(args.business.as_deref())?;
    let mut args = args.clone();
    if let (Some(job), Some(item)) = (&args.job, args.item) {
        let range = range_of(&context, &businesses, &args, job, item, output).await?;
        businesses.retain(|business| business.name == range.business);
        args.session = Some(range.session.clone());
        args.range = Some(range);
    }
    let args = &args;
    if args.follow {
        return follow::run(&context, &businesses, args, output).await;
    }
    let mut found = false;
    for business in businesses {
        found |= print(&context, business, args, output).await?;
    }
    if found { Ok(exit::DONE) } else { Err(no_log(&context, args).into()) }
}

/// The range of the item that is requested, of the Job of this name that changed last.
async fn range_of(
    context: &Context,
    businesses: &[&Business],
    args: &Args,
    job: &str,
    item: u32,
    output: &Output,
) -> anyhow::Result<RangeOf> {
    let mut found = Vec::new();
    for business in businesses {
        let jobs = view::jobs(context, business, args.session.as_deref(), output).await?;
        found.extend(jobs.into_iter().filter(|other| names::is_same(&other.job, job)).map(|job| (*business, job)));
    }
    let Some((business, job)) = found.into_iter().max_by_key(|(_, job)| job.changed) else {
        return Err(no_log(context, args).into());
    };
    let range = view::range_of(context, business, &job, item).await?;
    let name = |attempt| {
        let object = object::input(&business.name, &job.session, &job.job);
        let (bucket, generation) = (business.bucket.clone(), job.generation);
        Identity { bucket, object, generation, first: Some(range.start), attempt }.job_name()
    };
    Ok(RangeOf {
        business: business.name.clone(),
        session: job.session.clone(),
        first: range.start,
        kubernetes_jobs: (0..=job.attempt).map(name).collect(),
    })
}

/// Prints the logs of one business; returns false when there are none.
async fn print(context: &Context, business: &Business, args: &Args, output: &Output) -> anyhow::Result<bool> {
    let pods = match pods(context, business, args).await {
        Ok(pods) => pods,
        // Without the cluster, the logs in outcomes can still be printed.
        Err(error) if !args.orchestrator && (args.job.is_some() || args.session.is_some()) => {
            output.warn(format_args!("cannot reach the cluster: {error:#}"));
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let tails = if args.orchestrator { Vec::new() } else { log_tails(context, business, args, &pods, output).await? };
    let several = pods.len() + tails.len() > 1;
    let reads: Vec<_> = pods
        .iter()
        .map(|pod| async move {
            let client = context.cluster()?;
            let tail = args.tail.map(i64::from);
            let log = cluster::log(client, &business.namespace, pod, tail).await;
            let before = match args.previous {
                true => cluster::previous_log(client, &business.namespace, pod, tail).await.unwrap_or_default(),
                false => String::new(),
            };
            anyhow::Ok((pod, log.map(|log| before + &log)))
        })
        .collect();
    let mut logs = futures::stream::iter(reads).buffered(READS);
    while let Some(read) = logs.next().await {
        let (pod, log) = read?;
        match log {
            Ok(log) => {
                for line in log.lines() {
                    emit(output, several, &line_of(business, pod, line))?;
                }
            }
            Err(error) => output.warn(format_args!("{}: {error:#}", pod.metadata.name.as_deref().unwrap_or_default())),
        }
    }
    for (job, tail) in &tails {
        let lines: Vec<&str> = tail.lines().collect();
        let skipped = args.tail.map_or(0, |tail| lines.len().saturating_sub(tail as usize));
        for line in &lines[skipped..] {
            let line = Line { business: business.name.clone(), from: job.clone(), pod: None, line: (*line).to_owned() };
            emit(output, several, &line)?;
        }
    }
    Ok(!pods.is_empty() || !tails.is_empty())
}

/// The pods whose logs are requested.
async fn pods(context: &Context, business: &Business, args: &Args) -> anyhow::Result<Vec<Pod>> {
    let client = context.cluster()?;
    if args.orchestrator {
        return cluster::orchestrator_pods(client, &business.namespace).await;
    }
    let (session, job) = (args.session.as_deref(), args.job.as_deref());
    let mut pods = cluster::engine_pods(client, &business.namespace, &business.name, session, job).await?;
    if let Some(range) = &args.range {
        pods.retain(|pod| range.kubernetes_jobs.contains(&label(pod, cluster::JOB_NAME)));
    }
    Ok(pods)
}

/// The logs in the outcomes of requested Jobs whose pods are deleted.
async fn log_tails(
    context: &Context,
    business: &Business,
    args: &Args,
    pods: &[Pod],
    output: &Output,
) -> anyhow::Result<Vec<(String, String)>> {
    if args.job.is_none() && args.session.is_none() {
        return Ok(Vec::new());
    }
    let with_pod: BTreeSet<(String, String)> =
        pods.iter().map(|pod| (label(pod, labels::SESSION), label(pod, labels::JOB))).collect();
    let has_pod = |session: &str, job: &str| with_pod.contains(&(names::label_value(session), names::label_value(job)));
    let objects = jobs::list(&context.store, business, args.session.as_deref()).await?;
    let mut ended = jobs::merge(&business.name, args.session.as_deref(), &objects, &[]);
    if let Some(range) = &args.range {
        for job in &mut ended {
            job.outcome = job.outcome_of_range(range.first).map(str::to_owned);
        }
    }
    ended.retain(|job| {
        job.outcome.is_some()
            && args.job.as_ref().is_none_or(|wanted| *wanted == job.job)
            && !has_pod(&job.session, &job.job)
    });
    if ended.len() > OUTCOMES_MAX {
        output.note(format_args!("reading the newest {OUTCOMES_MAX} of {} logs in outcomes", ended.len()));
        ended.truncate(OUTCOMES_MAX);
    }
    let wanted = ended.iter().filter_map(|job| job.outcome.clone());
    let outcomes = outcomes::read_all(&context.store, &business.bucket, wanted, READS).await?;
    let mut tails = Vec::new();
    for (job, outcome) in ended.iter().zip(outcomes) {
        let Some(outcome) = outcome else { continue };
        let of_item = |item: &&Item| args.item.is_none_or(|wanted| wanted == item.index);
        let items = outcome.items.iter().filter(of_item);
        let items = items.filter_map(|item| Some((item.path(&job.job), item.log_tail.clone()?)));
        let before = tails.len();
        tails.extend(items);
        if tails.len() > before {
            continue;
        }
        if let Some(tail) = outcome.log_tail {
            tails.push((job.job.clone(), tail));
        } else if outcome.reason.code == outcome::stored::UNREADABLE {
            output.warn(&outcome.reason.message);
        } else {
            output
                .detail(format_args!("{}: its pods are deleted, and outcomes of succeeded Jobs keep no log", job.job));
        }
    }
    Ok(tails)
}

fn emit(output: &Output, several: bool, line: &Line) -> anyhow::Result<()> {
    if output.json { output.record(line) } else { output.log_line(several.then_some(line.from.as_str()), &line.line) }
}

fn line_of(business: &Business, pod: &Pod, line: &str) -> Line {
    let name = pod.metadata.name.clone().unwrap_or_default();
    Line { business: business.name.clone(), from: prefix(pod), pod: Some(name), line: line.to_owned() }
}

/// The prefix of each line: the job and the end of the pod's name, or the pod's name.
fn prefix(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match (label(pod, labels::JOB), name.rsplit_once('-')) {
        (job, Some((_, end))) if !job.is_empty() => format!("{job}/{end}"),
        _ => name.to_owned(),
    }
}

fn label(pod: &Pod, name: &str) -> String {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned().unwrap_or_default()
}

fn no_log(context: &Context, args: &Args) -> Failure {
    let what = match (&args.job, &args.session) {
        _ if args.orchestrator => "there is no orchestrator pod".to_owned(),
        (Some(job), _) => format!("there is no log of {job:?}"),
        (None, Some(session)) => format!("there is no log of session {session}"),
        (None, None) => "there is no engine pod".to_owned(),
    };
    let failure = Failure::new("no-log", what).next(format!("cargo xtask{} jobs", context.flag));
    if args.orchestrator {
        failure
    } else {
        failure.why("pods are deleted with their Kubernetes Job, and outcomes of succeeded Jobs keep no log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_preceded_by_its_job_and_the_end_of_its_pod() {
        let pod = |labels: serde_json::Value| -> Pod {
            serde_json::from_value(serde_json::json!({"metadata": {"name": "job-abc-x7f2q", "labels": labels}}))
                .unwrap()
        };
        assert_eq!(prefix(&pod(serde_json::json!({"job": "a.json"}))), "a.json/x7f2q");
        assert_eq!(prefix(&pod(serde_json::json!({}))), "job-abc-x7f2q");
    }
}

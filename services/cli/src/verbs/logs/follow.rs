//! Follows logs: finds new pods, and reads each log to its end.

use std::{collections::BTreeSet, time::Duration};

use cloud::shutdown;
use contract::{config::Business, exit};
use futures::AsyncBufReadExt as _;
use inspect::cluster::{self, Position};
use k8s_openapi::api::core::v1::Pod;
use sessions::jobs::Job;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Args, Line, emit, line_of, pods};
use crate::{context::Context, interrupt, output::Output, view};

/// Time between two searches for new pods.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);
/// Time before an interrupted log is opened again.
const REOPEN_DELAY: Duration = Duration::from_millis(500);
/// Lines read and not yet written.
const LINES: usize = 1024;

/// Follows until Ctrl-C, or until the requested Job or session has ended.
pub(super) async fn run(
    context: &Context,
    businesses: &[&Business],
    args: &Args,
    output: &Output,
) -> anyhow::Result<u8> {
    let client = context.cluster()?;
    let stop = shutdown::on_signal()?;
    let (sender, mut lines) = mpsc::channel::<Line>(LINES);
    let mut readers = JoinSet::new();
    let mut read: BTreeSet<String> = BTreeSet::new();
    let mut search = tokio::time::interval(SEARCH_INTERVAL);
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(interrupt::exit_code().unwrap_or(exit::DONE)),
            Some(line) = lines.recv() => emit(output, read.len() > 1, &line)?,
            Some(ended) = readers.join_next(), if !readers.is_empty() => {
                if let Ok(Err(error)) = ended {
                    output.warn(format_args!("a log ended early: {error:#}"));
                }
            }
            _ = search.tick() => {
                let found = match find(context, businesses, args).await {
                    Ok(found) => found,
                    // The cluster may be restarting; Ctrl-C ends the wait.
                    Err(error) => {
                        if !std::mem::replace(&mut is_failing, true) {
                            output.warn(format_args!("cannot list pods, trying again: {error:#}"));
                        }
                        continue;
                    }
                };
                is_failing = false;
                for (business, pod) in found.pods {
                    let uid = pod.metadata.uid.clone().or(pod.metadata.name.clone()).unwrap_or_default();
                    if !read.insert(uid) {
                        continue;
                    }
                    let (client, business, sender) = (client.clone(), business.clone(), sender.clone());
                    let reader = Reader { client, business, pod, tail: args.tail.map(i64::from) };
                    readers.spawn(async move { reader.read_to_end(&sender).await });
                }
                let has_more = found.has_more;
                // A Job or a session ends; the other logs go on.
                let ends = args.job.is_some() || args.session.is_some();
                if ends && !has_more && readers.is_empty() && lines.is_empty() {
                    if read.is_empty() {
                        let found = super::print(context, businesses[0], args, output).await?;
                        return if found { Ok(exit::DONE) } else { Err(super::no_log(context, args).into()) };
                    }
                    return Ok(exit::DONE);
                }
            }
        }
    }
}

/// Pods to follow.
struct Found<'a> {
    /// Pods with a container that has started.
    pods: Vec<(&'a Business, Pod)>,
    /// More pods may be created.
    has_more: bool,
}

async fn find<'a>(context: &Context, businesses: &[&'a Business], args: &Args) -> anyhow::Result<Found<'a>> {
    let mut found = Found { pods: Vec::new(), has_more: false };
    for business in businesses {
        for pod in pods(context, business, args).await? {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            found.has_more |= !matches!(phase, Some("Succeeded" | "Failed"));
            // A container that has not started has no log yet; the next search finds it.
            if phase != Some("Pending") {
                found.pods.push((business, pod));
            }
        }
        found.has_more |= (args.job.is_some() || args.session.is_some()) && is_active(context, business, args).await?;
    }
    Ok(found)
}

/// Reads one container's log.
struct Reader {
    client: kube::Client,
    business: Business,
    pod: Pod,
    tail: Option<i64>,
}

impl Reader {
    /// Reads to the end of the log. When the connection breaks while the container runs, it is opened again after the
    /// last line.
    async fn read_to_end(&self, lines: &mpsc::Sender<Line>) -> anyhow::Result<()> {
        let Self { client, business, pod, tail } = self;
        let mut position = Position::before_last(*tail);
        loop {
            let opened = cluster::log_stream(client, &business.namespace, pod, &mut position).await;
            if let Ok(mut stream) = opened {
                let mut line = Vec::new();
                while let Ok(1..) = stream.read_until(b'\n', &mut line).await {
                    // An incomplete line is read again, unless it is the last one of the log.
                    if line.last() != Some(&b'\n') && !position.drained {
                        break;
                    }
                    let whole = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                    line.clear();
                    let Some(text) = position.next_text(&whole) else { continue };
                    if lines.send(line_of(business, pod, text)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            match cluster::is_over(client, &business.namespace, pod).await {
                Ok(true) if position.drained => return Ok(()),
                // Read once more after the end: the last lines may have come after the break.
                Ok(true) => position.drained = true,
                // The container or the cluster restarts.
                Ok(false) | Err(_) => tokio::time::sleep(REOPEN_DELAY).await,
            }
        }
    }
}

/// Whether a requested Job waits, or has a Kubernetes Job without an outcome.
async fn is_active(context: &Context, business: &Business, args: &Args) -> anyhow::Result<bool> {
    let quiet = Output::default().errors_only();
    let jobs = view::jobs(context, business, args.session.as_deref(), &quiet).await?;
    let is_requested = |job: &str| args.job.as_deref().is_none_or(|wanted| wanted == job);
    let has_ended = |job: &Job| match &args.range {
        Some(range) => job.outcome_of_range(range.first).is_some(),
        None => job.outcome.is_some(),
    };
    Ok(jobs.iter().any(|job| is_requested(&job.job) && !has_ended(job)))
}

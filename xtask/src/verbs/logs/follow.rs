//! Following logs: new pods are found as they come, and each is read to its end.

use std::{collections::BTreeSet, time::Duration};

use common::{config::Business, exit, shutdown};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Args, Line, emit, line_of, pods};
use crate::{cluster, context::Context, output::Output};

/// Time between two looks for new pods.
const LOOK: Duration = Duration::from_secs(1);
/// Lines read and not yet written.
const LINES: usize = 1024;

/// Follows until Ctrl-C; with a job named, until the Job is over.
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
    let mut look = tokio::time::interval(LOOK);
    let mut troubled = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(exit::DONE),
            Some(line) = lines.recv() => emit(output, read.len() > 1, &line)?,
            Some(ended) = readers.join_next(), if !readers.is_empty() => {
                if let Ok(Err(error)) = ended {
                    output.warn(format_args!("a log ended early: {error:#}"));
                }
            }
            _ = look.tick() => {
                let found = match find(context, businesses, args).await {
                    Ok(found) => found,
                    // A cluster that restarts comes back; Ctrl-C ends the wait.
                    Err(error) => {
                        if !std::mem::replace(&mut troubled, true) {
                            output.warn(format_args!("looking for pods again and again: {error:#}"));
                        }
                        continue;
                    }
                };
                troubled = false;
                for (business, pod) in found.pods {
                    let uid = pod.metadata.uid.clone().or(pod.metadata.name.clone()).unwrap_or_default();
                    if !read.insert(uid) {
                        continue;
                    }
                    let (client, business, sender) = (client.clone(), business.clone(), sender.clone());
                    let tail = args.tail.map(i64::from);
                    let job = args.job.clone();
                    readers.spawn(async move {
                        let stream = cluster::log_stream(&client, &business.namespace, &pod, tail).await?;
                        let mut stream = stream.lines();
                        while let Some(line) = stream.try_next().await? {
                            if !cluster::is_about(job.as_deref(), &pod, &line) {
                                continue;
                            }
                            if sender.send(line_of(&business, &pod, &line)).await.is_err() {
                                break;
                            }
                        }
                        anyhow::Ok(())
                    });
                }
                let live = found.live;
                if args.job.is_some() && !live && readers.is_empty() && lines.is_empty() {
                    if read.is_empty() {
                        let found = super::print(context, businesses[0], args, output).await?;
                        return if found { Ok(exit::DONE) } else { Err(super::nothing(context, args).into()) };
                    }
                    return Ok(exit::DONE);
                }
            }
        }
    }
}

/// What there is to follow.
struct Found<'a> {
    /// Pods with a container that has started.
    pods: Vec<(&'a Business, Pod)>,
    /// More may come.
    live: bool,
}

async fn find<'a>(context: &Context, businesses: &[&'a Business], args: &Args) -> anyhow::Result<Found<'a>> {
    let mut found = Found { pods: Vec::new(), live: false };
    for business in businesses {
        for pod in pods(context, business, args).await? {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            found.live |= !matches!(phase, Some("Succeeded" | "Failed"));
            // A container that has not started has no log yet; the next look finds it.
            if phase != Some("Pending") {
                found.pods.push((business, pod));
            }
        }
        found.live |= args.job.is_some() && is_active(context, business, args).await?;
    }
    Ok(found)
}

/// True while the Job is waiting or has a Kubernetes Job without an outcome.
async fn is_active(context: &Context, business: &Business, args: &Args) -> anyhow::Result<bool> {
    let quiet = Output::new(&crate::args::Globals { quiet: true, ..Default::default() });
    let jobs = super::view(context, business, args.session.as_deref(), &quiet).await?;
    Ok(jobs.iter().any(|job| Some(&job.job) == args.job.as_ref() && job.outcome.is_none()))
}

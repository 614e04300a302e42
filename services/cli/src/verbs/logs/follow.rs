//! Following logs: new pods are found as they come, and each is read to its end.

use std::{cmp::Ordering, collections::BTreeSet, time::Duration};

use cloud::shutdown;
use contract::{config::Business, exit};
use futures::AsyncBufReadExt as _;
use inspect::cluster;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Args, Line, emit, line_of, pods};
use crate::{context::Context, output::Output, view};

/// Time between two looks for new pods.
const LOOK: Duration = Duration::from_secs(1);
/// Time before a log that broke off is opened again.
const AGAIN: Duration = Duration::from_millis(500);
/// Lines read and not yet written.
const LINES: usize = 1024;

/// Follows until Ctrl-C; with a job or a session named, until all of it is over.
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
                    let reader = Reader { client, business, pod, tail: args.tail.map(i64::from), job: args.job.clone() };
                    readers.spawn(async move { reader.read_to_end(&sender).await });
                }
                let live = found.live;
                // What was asked for by name ends some time; the other logs go on.
                let ends = args.job.is_some() || args.session.is_some();
                if ends && !live && readers.is_empty() && lines.is_empty() {
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
        found.live |= (args.job.is_some() || args.session.is_some()) && is_active(context, business, args).await?;
    }
    Ok(found)
}

/// Reads one container's log.
struct Reader {
    client: kube::Client,
    business: Business,
    pod: Pod,
    tail: Option<i64>,
    /// Only lines about this Job.
    job: Option<String>,
}

impl Reader {
    /// Reads to the end, whatever breaks in between: a connection that ends while the container runs is opened again
    /// behind the last line.
    async fn read_to_end(&self, lines: &mpsc::Sender<Line>) -> anyhow::Result<()> {
        let Self { client, business, pod, tail, job } = self;
        let mut place = Place::default();
        loop {
            let opened = cluster::log_stream_since(client, &business.namespace, pod, *tail, place.since()).await;
            if let Ok(mut stream) = opened {
                let mut line = Vec::new();
                // One that breaks off is opened again.
                while let Ok(1..) = stream.read_until(b'\n', &mut line).await {
                    // A line that breaks off comes again whole, unless it is the last one and never had an end.
                    if line.last() != Some(&b'\n') && !place.drained {
                        break;
                    }
                    let whole = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
                    line.clear();
                    let Some(text) = place.pass(&whole) else { continue };
                    let wanted = cluster::is_about(job.as_deref(), pod, text);
                    if wanted && lines.send(line_of(business, pod, text)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            match cluster::is_over(client, &business.namespace, pod).await {
                Ok(true) if place.drained => return Ok(()),
                // Once more after its end: the last lines may have come after the break.
                Ok(true) => place.drained = true,
                // A container that is started again, or a cluster that restarts.
                Ok(false) | Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

/// How far a log was read. Lines come with their times before them; those of one instant are told apart by counting.
#[derive(Debug, Default)]
struct Place {
    time: String,
    /// Lines of that time that were passed on.
    passed: usize,
    /// Lines of that time since the log was opened.
    seen: usize,
    drained: bool,
}

impl Place {
    /// From when to read. The API server knows whole seconds only, so that some lines come twice.
    fn since(&mut self) -> Option<Timestamp> {
        self.seen = 0;
        self.time.parse().ok()
    }

    /// The text of a line that was not passed on before.
    fn pass<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let (time, text) = line.split_once(' ').unwrap_or((line, ""));
        let (Ok(at), last) = (time.parse::<Timestamp>(), self.time.parse::<Timestamp>().ok()) else {
            // No time: it is the rest of a line that was too long for one.
            return Some(line);
        };
        match last.map(|last| at.cmp(&last)) {
            Some(Ordering::Less) => return None,
            Some(Ordering::Equal) => {
                self.seen += 1;
                if self.seen <= self.passed {
                    return None;
                }
                self.passed = self.seen;
            }
            Some(Ordering::Greater) | None => {
                time.clone_into(&mut self.time);
                (self.passed, self.seen) = (1, 1);
            }
        }
        Some(text)
    }
}

/// True while a Job is waiting or has a Kubernetes Job without an outcome.
async fn is_active(context: &Context, business: &Business, args: &Args) -> anyhow::Result<bool> {
    let quiet = Output::new(&crate::Globals { quiet: true, ..Default::default() });
    let jobs = view::jobs(context, business, args.session.as_deref(), &quiet).await?;
    let asked = |job: &str| args.job.as_deref().is_none_or(|wanted| wanted == job);
    Ok(jobs.iter().any(|job| asked(&job.job) && job.outcome.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_opened_again_goes_on_behind_its_last_line() {
        let lines = |count: usize| -> Vec<String> {
            let all = ["01.5Z a", "01.5Z b", "02.25Z c", "02.25Z d", "02.25Z e", "03Z f"];
            all[..count].iter().map(|line| format!("2026-01-01T00:00:{line}")).collect()
        };
        let mut place = Place::default();
        let read = |place: &mut Place, from: usize, count: usize| -> String {
            assert_eq!(place.since().is_some(), from > 0);
            lines(count)[from..].iter().filter_map(|line| place.pass(line)).collect()
        };
        assert_eq!(read(&mut place, 0, 4), "abcd");
        // From the whole second on, as the API server counts.
        assert_eq!(read(&mut place, 2, 5), "e");
        assert_eq!(read(&mut place, 2, 6), "f");
        assert_eq!(place.pass("rest of a line"), Some("rest of a line"));
    }
}

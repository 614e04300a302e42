//! Logs of Pods, in whole lines.
//!
//! A node keeps a line of more than 16 KiB in parts. It gives the parts of a line without a line feed between them, and
//! a time before the first. But the last N lines that are requested from it are N parts or lines, and the first may be
//! the rest of a line; so may be the first since a time
//! (<https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/cri-client/pkg/logs/logs.go>).

use std::{cmp::Ordering, fmt};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};

use super::answer;

/// Longest line that a node keeps in one part.
const PART_BYTES: usize = 16 * 1024;
/// How many times as many parts are requested when the parts contain too few lines.
const GROWTH: i64 = 8;

/// The log of a Pod's main container, or its last lines.
///
/// # Errors
/// When the cluster cannot be reached, or the container has not started.
pub async fn log(client: &Client, namespace: &str, pod: &Pod, tail: Option<i64>) -> anyhow::Result<String> {
    last_lines(client, namespace, pod, tail, LogParams::default()).await
}

/// The log of a container's previous run; `None` when there was none.
pub async fn previous_log(client: &Client, namespace: &str, pod: &Pod, tail: Option<i64>) -> Option<String> {
    let parameters = LogParams { previous: true, ..LogParams::default() };
    last_lines(client, namespace, pod, tail, parameters).await.ok()
}

/// The log of a Pod's main container as it is written, from a position on; [`Position::next_text`] reads its lines.
///
/// # Errors
/// When the cluster cannot be reached, or the container has not started.
pub async fn log_stream(
    client: &Client,
    namespace: &str,
    pod: &Pod,
    position: &mut Position,
) -> anyhow::Result<impl futures::AsyncBufRead + use<>> {
    if position.tail.is_some() {
        let parameters = LogParams { timestamps: true, ..LogParams::default() };
        let log = last_lines(client, namespace, pod, position.tail, parameters).await?;
        log.split(' ').next().unwrap_or_default().clone_into(&mut position.time);
        position.tail = None;
    }
    let parameters = LogParams {
        container: container(pod),
        follow: true,
        timestamps: true,
        since_time: position.since(),
        ..LogParams::default()
    };
    answer(api(client, namespace).log_stream(name(pod), &parameters)).await
}

/// The whole log of a Pod's main container so far, as it is written.
///
/// # Errors
/// When the cluster cannot be reached, or the container has not started.
pub async fn whole_log(
    client: &Client,
    namespace: &str,
    pod: &Pod,
) -> anyhow::Result<impl futures::AsyncBufRead + use<>> {
    let parameters = LogParams { container: container(pod), ..LogParams::default() };
    answer(api(client, namespace).log_stream(name(pod), &parameters)).await
}

async fn last_lines(
    client: &Client,
    namespace: &str,
    pod: &Pod,
    tail: Option<i64>,
    parameters: LogParams,
) -> anyhow::Result<String> {
    let api = api(client, namespace);
    let mut parameters = LogParams { container: container(pod), ..parameters };
    let Some(wanted) = tail else { return answer(api.logs(name(pod), &parameters)).await };
    let mut parts = wanted.saturating_add(1);
    let mut before = None;
    loop {
        parameters.tail_lines = Some(parts);
        let log = answer(api.logs(name(pod), &parameters)).await?;
        if let Some(start) = start_of_lines(&log, usize::try_from(wanted).unwrap_or_default()) {
            return Ok(log[start..].to_owned());
        }
        if before == Some(log.len()) {
            // There is no more.
            return Ok(log);
        }
        before = Some(log.len());
        parts = parts.saturating_mul(GROWTH);
    }
}

/// Where the last `wanted` lines start in the last `wanted + 1` or more parts of a log; `None` when some of these lines
/// may start before.
fn start_of_lines(log: &str, wanted: usize) -> Option<usize> {
    let lines: Vec<&str> = log.split_inclusive('\n').collect();
    match lines.len().checked_sub(wanted) {
        Some(more @ 1..) => Some(lines[..more].iter().map(|line| line.len()).sum()),
        // Each part is a line: there are no more parts.
        _ if lines.iter().all(|line| line.len() <= PART_BYTES) => Some(0),
        _ => None,
    }
}

fn api(client: &Client, namespace: &str) -> Api<Pod> {
    Api::namespaced(client.clone(), namespace)
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn container(pod: &Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| container.name.clone())
}

/// How far a log was read. Each line starts with its time; lines of the same time are counted.
#[derive(Debug, Default)]
pub struct Position {
    /// Lines before the end of the log at which it starts, until that time is known.
    tail: Option<i64>,
    time: String,
    /// Lines of that time that were returned.
    returned: usize,
    /// Lines of that time since the log was opened.
    seen: usize,
    /// The log was opened at a time, and no line was read yet.
    is_opened: bool,
    /// Nothing is written any more.
    pub drained: bool,
}

impl Position {
    /// Before the last lines of a log, or at its start.
    pub fn before_last(tail: Option<i64>) -> Self {
        Self { tail, ..Self::default() }
    }

    /// Behind the line at which a position was written as text.
    pub fn behind(text: &str) -> Option<Self> {
        let (returned, time) = text.split_once(' ')?;
        time.parse::<Timestamp>().ok()?;
        Some(Self { time: time.to_owned(), returned: returned.parse().ok()?, ..Self::default() })
    }

    /// The time to read from. The API server takes whole seconds, so some lines come twice. They are cut here, because
    /// `kube` rounds to the nearest one, and the lines before it would be lost.
    fn since(&mut self) -> Option<Timestamp> {
        self.seen = 0;
        let time: Option<Timestamp> = self.time.parse().ok();
        let since = time.and_then(|time| Timestamp::from_second(time.as_second()).ok());
        self.is_opened = since.is_some();
        since
    }

    /// The text of a line, unless it was returned before.
    pub fn next_text<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let is_first = std::mem::take(&mut self.is_opened);
        let (time, text) = line.split_once(' ').unwrap_or((line, ""));
        let (Ok(at), last) = (time.parse::<Timestamp>(), self.time.parse::<Timestamp>().ok()) else {
            // The rest of a line that started before, or a message of the node's own.
            return Some(line).filter(|_| !is_first);
        };
        match last.map(|last| at.cmp(&last)) {
            Some(Ordering::Less) => return None,
            Some(Ordering::Equal) => {
                self.seen += 1;
                if self.seen <= self.returned {
                    return None;
                }
                self.returned = self.seen;
            }
            Some(Ordering::Greater) | None => {
                time.clone_into(&mut self.time);
                (self.returned, self.seen) = (1, 1);
            }
        }
        Some(text)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.returned, self.time)
    }
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
        let mut position = Position::default();
        let read = |position: &mut Position, from: usize, count: usize| -> String {
            assert_eq!(position.since().is_some(), from > 0);
            lines(count)[from..].iter().filter_map(|line| position.next_text(line)).collect()
        };
        assert_eq!(read(&mut position, 0, 4), "abcd");
        // From the whole second on, as the API server counts.
        assert_eq!(read(&mut position, 2, 5), "e");
        let text = position.to_string();
        assert_eq!(text, "3 2026-01-01T00:00:02.25Z");
        assert_eq!(read(&mut Position::behind(&text).unwrap(), 2, 6), "f");
        assert!(Position::behind("").is_none() && Position::behind("3 yesterday").is_none());
        assert_eq!(read(&mut position, 2, 6), "f");
        assert_eq!(position.next_text("a message of the node"), Some("a message of the node"));
        position.since();
        assert_eq!(position.next_text("rest of a line"), None, "its start was returned before");
        let mut from = Position { time: "2026-01-01T00:00:02.25Z".to_owned(), ..Position::default() };
        assert_eq!(from.since(), "2026-01-01T00:00:02Z".parse().ok());
        let mut late = Position { time: "2026-01-01T00:00:02.75Z".to_owned(), ..Position::default() };
        assert_eq!(late.since(), "2026-01-01T00:00:02Z".parse().ok());
        let text: String = lines(6).iter().filter_map(|line| from.next_text(line)).collect();
        assert_eq!(text, "cdef");
    }

    #[test]
    fn the_last_lines_are_whole() {
        let long = "x".repeat(PART_BYTES + 1);
        let check = |log: &str, wanted: usize, expected: Option<&str>| {
            assert_eq!(start_of_lines(log, wanted).map(|start| &log[start..]), expected, "{wanted} of {log:.9}");
        };
        check("rest\nb\nc\n", 2, Some("b\nc\n"));
        check("a\nb\n", 2, Some("a\nb\n"));
        check("a\n", 2, Some("a\n"));
        check("", 2, Some(""));
        check("rest\n", 0, Some(""));
        check(&format!("rest\n{long}\n"), 2, None);
        check(&format!("rest\n{long}\n"), 1, Some(&format!("{long}\n")));
        check("rest\nb\nc", 2, Some("b\nc"));
    }
}

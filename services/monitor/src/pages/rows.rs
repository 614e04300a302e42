//! Rows of tables as texts for the templates.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use inspect::{cluster::PodView, text, timeline};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sessions::{
    Counts,
    dead_letters::DeadLetter,
    jobs::{Job, State},
};

use crate::{
    board::{SessionView, View},
    charts::{self, Rect},
};

/// A Job in one line.
#[derive(Debug, Serialize)]
pub(crate) struct JobRow {
    pub(crate) business: String,
    pub(crate) session: String,
    pub(crate) session_href: String,
    pub(crate) job: String,
    pub(crate) href: String,
    pub(crate) state: &'static str,
    /// How many items have ended, of a pack.
    pub(crate) items: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) row_errors: u32,
    pub(crate) attempt: u32,
    /// Marks it among the rows of a page.
    pub(crate) key: String,
    /// Its names, in a form that selects it.
    pub(crate) target: String,
    pub(crate) changed: String,
    pub(crate) waited: Span,
    pub(crate) ran: Span,
}

/// A span of time: its length once it has ended, or its beginning while it lasts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Span {
    pub(crate) length: String,
    pub(crate) since: String,
}

impl Span {
    /// From the beginning to the end; it lasts until there is an end.
    fn new(begin: Option<Timestamp>, end: Option<Timestamp>) -> Self {
        match (begin, end) {
            (Some(begin), Some(end)) => Self { length: timeline::elapsed(begin, end), since: String::new() },
            (begin, None) => Self { length: String::new(), since: time(begin) },
            (None, Some(_)) => Self::default(),
        }
    }
}

/// How long a Job waited and ran. Of a pack, whose ranges wait and run at different times, only how long all wait.
fn spans(job: &Job) -> (Span, Span) {
    let times = &job.timestamps;
    let (submitted, started) = (times.published.or(job.changed), times.started.or(times.created));
    match job.state {
        Some(State::Waiting) => (Span::new(submitted, None), Span::default()),
        _ if job.items.is_some() => Default::default(),
        Some(State::Running) => (Span::new(times.published, started.or(job.changed)), Span::new(started, None)),
        _ => {
            let ran = if times.started.is_some() && times.finished.is_some() {
                Span::new(times.started, times.finished)
            } else {
                Span::default()
            };
            (Span::new(times.published, started.or(times.settled).or(job.changed)), ran)
        }
    }
}

/// URL of the page of the latest Job of a name.
pub(crate) fn job_page(business: &str, session: &str, job: &str) -> String {
    format!("/job?{}", target(business, session, job))
}

/// URL of a Job's page.
pub(crate) fn job_href(business: &str, session: &str, job: &str, generation: i64) -> String {
    let generation = generation.to_string();
    let pairs = [("business", business), ("session", session), ("job", job), ("generation", generation.as_str())];
    format!("/job?{}", web::encode(pairs))
}

/// What selects a Job or a message in a form.
fn target(business: &str, session: &str, job: &str) -> String {
    web::encode([("business", business), ("session", session), ("job", job)])
}

/// An id of an element for what has this name.
fn key(name: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// URL of a session's page.
pub(crate) fn session_href(business: &str, session: &str) -> String {
    // Refused messages have no session.
    if session == sessions::jobs::REFUSED_SESSION {
        return format!("/letters?{}", web::encode([("business", business)]));
    }
    format!("/session?{}", web::encode([("business", business), ("session", session)]))
}

pub(crate) fn state(job: &Job) -> &'static str {
    job.state.map_or("ended", State::as_str)
}

pub(crate) fn time(time: Option<Timestamp>) -> String {
    time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()).unwrap_or_default()
}

pub(crate) fn seconds(seconds: Option<f64>) -> String {
    let time = seconds.and_then(|seconds| SignedDuration::try_from_secs_f64(seconds).ok());
    time.map(text::duration).unwrap_or_default()
}

impl From<&Job> for JobRow {
    fn from(job: &Job) -> Self {
        let (waited, ran) = spans(job);
        Self {
            business: job.business.clone(),
            session: job.session.clone(),
            session_href: session_href(&job.business, &job.session),
            job: job.job.clone(),
            href: job_href(&job.business, &job.session, &job.job, job.generation),
            state: state(job),
            items: job.items.map(|items| format!("{} of {} items", items.done(), items.total())).unwrap_or_default(),
            code: job.reason.as_ref().map(|reason| reason.code.clone()).unwrap_or_default(),
            message: job.reason.as_ref().map(|reason| reason.message.clone()).unwrap_or_default(),
            row_errors: job.row_errors,
            attempt: job.attempt + 1,
            key: key(&(&job.business, &job.session, &job.job, job.generation)),
            target: target(&job.business, &job.session, &job.job),
            changed: time(job.changed),
            waited,
            ran,
        }
    }
}

impl JobRow {
    /// With the state that operators gave it. What is paused does not wait.
    pub(crate) fn of(view: &View, job: &Job) -> Self {
        let mut row = Self { state: view.state(job), ..Self::from(job) };
        if row.state == "paused" {
            row.waited = Span::default();
        }
        row
    }
}

/// A session in one line.
#[derive(Debug, Serialize)]
pub(crate) struct SessionRow {
    pub(crate) business: String,
    pub(crate) session: String,
    pub(crate) href: String,
    pub(crate) counts: Counts,
    pub(crate) total: usize,
    pub(crate) done: usize,
    pub(crate) pending: usize,
    pub(crate) cancelling: usize,
    pub(crate) unsuccessful: usize,
    /// Those of them that nobody cancelled.
    pub(crate) failed: usize,
    pub(crate) shares: Vec<Rect>,
    pub(crate) state: &'static str,
    pub(crate) rate: String,
    pub(crate) left: String,
    pub(crate) oldest: String,
    pub(crate) changed: String,
}

/// Counts as parts of a bar.
pub(crate) fn shares(counts: &Counts) -> Vec<Rect> {
    charts::shares(&[
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.refused, "refused"),
        (counts.cancelled + counts.expired, "cancelled"),
        (counts.running, "running"),
        (counts.waiting, "empty"),
    ])
}

impl From<&SessionView> for SessionRow {
    fn from(view: &SessionView) -> Self {
        let (summary, counts) = (&view.summary, view.summary.counts);
        let total = counts.total();
        let state = if view.cancelling > 0 {
            "cancelling"
        } else if summary.paused {
            "paused"
        } else if counts.pending() > 0 {
            if counts.running > 0 { "running" } else { "waiting" }
        } else if counts.failed + counts.refused > 0 {
            "failed"
        } else if counts.cancelled > 0 {
            "cancelled"
        } else if counts.expired > 0 {
            "expired"
        } else {
            "succeeded"
        };
        Self {
            business: summary.business.clone(),
            session: summary.session.clone(),
            href: session_href(&summary.business, &summary.session),
            counts,
            total,
            done: counts.done(),
            pending: counts.pending(),
            cancelling: view.cancelling,
            unsuccessful: counts.unsuccessful(),
            failed: counts.unsuccessful() - counts.cancelled,
            shares: shares(&counts),
            state,
            rate: view.rate.map(rate_text).unwrap_or_default(),
            left: seconds(view.seconds_left),
            // A session that is paused has nothing to wait for.
            oldest: time(summary.oldest_pending.filter(|_| !summary.paused)),
            changed: time(summary.changed),
        }
    }
}

/// A rate for people.
fn rate_text(rate: f64) -> String {
    if rate >= 1.0 { format!("{rate:.1} per second") } else { format!("{:.1} per minute", rate * 60.0) }
}

/// A Pod in one line.
#[derive(Debug, Serialize)]
pub(crate) struct PodRow {
    pub(crate) name: String,
    /// Its program, where the page has those of several.
    pub(crate) app: String,
    pub(crate) state: String,
    pub(crate) class: &'static str,
    pub(crate) message: String,
    pub(crate) node: String,
    pub(crate) created: String,
    pub(crate) exit: String,
    pub(crate) restarts: i32,
}

impl From<&PodView> for PodRow {
    fn from(pod: &PodView) -> Self {
        let class = match pod.state.as_str() {
            "Running" => "running",
            "Succeeded" => "succeeded",
            "Pending" | "ContainerCreating" | "PodInitializing" => "waiting",
            "Terminating" => "cancelled",
            _ => "failed",
        };
        Self {
            name: pod.name.clone(),
            app: String::new(),
            state: pod.state.clone(),
            class,
            message: pod.message.clone(),
            node: pod.node.clone().unwrap_or_default(),
            created: time(pod.created),
            exit: pod.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            restarts: pod.restarts,
        }
    }
}

/// A dead letter in one line.
#[derive(Debug, Serialize)]
pub(crate) struct LetterRow {
    /// Id of its dialogs, so that an open dialog never becomes that of another row.
    pub(crate) key: String,
    pub(crate) target: String,
    pub(crate) business: String,
    pub(crate) session: String,
    pub(crate) job: String,
    pub(crate) href: String,
    pub(crate) state: &'static str,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) since: String,
    pub(crate) attempt: u32,
    pub(crate) is_message: bool,
    pub(crate) has_input: bool,
    pub(crate) preview: String,
    pub(crate) attributes: Vec<(String, String)>,
}

impl From<&DeadLetter> for LetterRow {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            key: key(&letter.outcome),
            target: target(&letter.business, &letter.session, &letter.job),
            business: letter.business.clone(),
            session: letter.session.clone(),
            job: letter.job.clone(),
            href: job_page(&letter.business, &letter.session, &letter.job),
            state: letter.state.as_str(),
            code: letter.code.clone(),
            message: String::new(),
            since: time(letter.since),
            attempt: letter.attempt + 1,
            is_message: letter.is_message(),
            has_input: letter.input.is_some(),
            preview: String::new(),
            attributes: Vec::new(),
        }
    }
}

/// The data of a message, in base64, as text for people; of other bytes the first as hexadecimal digits.
pub(crate) fn preview(data: &str, max: usize) -> String {
    let bytes = STANDARD.decode(data).unwrap_or_default();
    let cut = &bytes[..bytes.len().min(max)];
    match std::str::from_utf8(cut) {
        Ok(text) if bytes.len() > max => format!("{text}…"),
        Ok(text) => text.to_owned(),
        // Only the last character is incomplete.
        Err(error) if error.valid_up_to() + 4 > cut.len() => {
            format!("{}…", String::from_utf8_lossy(&cut[..error.valid_up_to()]))
        }
        Err(_) => {
            let hex: Vec<String> = cut.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
            format!("{} bytes that are not text: {}", bytes.len(), hex.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::outcome::Timestamps;

    use super::*;

    #[test]
    fn a_span_lasts_until_its_end_is_known() {
        let at = |second| Timestamp::from_second(second).ok();
        let text = |second| time(at(second));
        assert_eq!(Span::new(at(10), at(75)), Span { length: "1m05s".into(), ..Span::default() });
        assert_eq!(Span::new(at(10), None), Span { since: text(10), ..Span::default() });
        let check = |state, times: Timestamps, waited: &str, ran: &str| {
            let objects = sessions::jobs::Objects::default();
            let active = sessions::jobs::Active {
                session: "s".into(),
                job: "j".into(),
                generation: 1,
                first: None,
                items: 1,
                attempt: 0,
                reason: Default::default(),
                timestamps: times,
                kubernetes_job: String::new(),
            };
            let mut job = sessions::jobs::merge("b", None, &objects, &[active]).remove(0);
            (job.state, job.changed) = (Some(state), at(50));
            let spans = spans(&job);
            let spelled = |span: Span| format!("{}{}", span.length, span.since);
            assert_eq!((spelled(spans.0).as_str(), spelled(spans.1).as_str()), (waited, ran), "{state}");
        };
        let all = Timestamps { published: at(0), created: at(5), started: at(20), ..Timestamps::default() };
        check(State::Waiting, Timestamps::default(), &text(50), "");
        check(State::Running, all, "20s", &text(20));
        check(State::Running, Timestamps { started: None, ..all }, "5s", &text(5));
        check(State::Failed, Timestamps { finished: at(30), settled: at(31), ..all }, "20s", "10s");
        let never = Timestamps { published: at(0), settled: at(9), ..Timestamps::default() };
        check(State::Cancelled, never, "9s", "");
    }
}

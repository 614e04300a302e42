//! The Jobs of a session as a table.

use serde::Serialize;
use sessions::{Items, jobs::State, results::grouped};
use web::Query;

use super::parts::{COUNTED, Choice, Pages, duration, paged, shown};
use crate::session::{Entry, Session, is_pending};

/// Jobs on a page.
const JOBS_PAGE: usize = 50;

/// The Jobs of a session, for its page.
#[derive(Debug, Serialize)]
pub(crate) struct Jobs {
    pub(crate) rows: Vec<JobRow>,
    pub(crate) pages: Pages,
    pub(crate) states: Vec<Choice>,
    pub(crate) q: String,
}

/// One Job.
#[derive(Debug, Serialize)]
pub(crate) struct JobRow {
    pub(crate) job: String,
    pub(crate) state: &'static str,
    pub(crate) class: &'static str,
    pub(crate) items: String,
    pub(crate) attempt: u32,
    pub(crate) changed: String,
    pub(crate) waited: String,
    pub(crate) ran: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) tail: String,
    pub(crate) raw: Option<String>,
    pub(crate) act: Option<Act>,
}

/// What the person who submitted a Job can do with it.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Act {
    pub(crate) label: &'static str,
    pub(crate) icon: &'static str,
    pub(crate) link: String,
    /// Why the person who looks cannot; empty when they can.
    pub(crate) refusal: String,
}

fn act(entry: &Entry, client: &str, query: &Query) -> Option<Act> {
    let (action, label, icon) = match entry.state {
        state if is_pending(state) => ("cancel", "Cancel", "stop"),
        State::Failed | State::Cancelled => ("retry", "Retry", "retry"),
        _ => return None,
    };
    let refusal = match entry.client.as_deref() {
        None => "Its input was deleted.".to_owned(),
        Some("") => "It is not known who submitted it.".to_owned(),
        Some(other) if other != client => format!("Submitted by {other}."),
        Some(_) => String::new(),
    };
    let link = Query::parse(&query.with("job", &entry.job)).with("action", action);
    Some(Act { label, icon, link, refusal })
}

/// The Jobs that match a query, for the page of this client; those that did not succeed first.
pub(crate) fn jobs(session: &Session, business: &str, name: &str, client: &str, query: &Query) -> Jobs {
    let q = query.get("jobs-q").unwrap_or_default().to_lowercase();
    let state = query.get("state");
    let count = |label: &str| session.jobs.iter().filter(|entry| shown(entry.state).0 == label).count();
    let states = std::iter::once(("", "all", session.jobs.len()))
        .chain(COUNTED.map(|(_, label, _)| (label, label, count(label))))
        .filter(|(_, _, count)| *count > 0)
        .map(|(value, label, count)| Choice {
            label: label.to_owned(),
            link: Query::parse(&query.with("jobs-page", "")).with("state", value),
            is_current: state.unwrap_or_default() == value,
            count,
        })
        .collect();
    let matches = |entry: &&Entry| {
        state.is_none_or(|state| shown(entry.state).0 == state)
            && (q.is_empty() || entry.job.to_lowercase().contains(&q))
    };
    let mut found: Vec<&Entry> = session.jobs.iter().filter(matches).collect();
    found.sort_by_key(|entry| matches!(entry.state, State::Succeeded | State::Waiting | State::Running));
    let (pages, range) = paged(found.len(), JOBS_PAGE, query, "jobs-page");
    let rows = found[range].iter().map(|entry| job_row(entry, business, name, act(entry, client, query))).collect();
    Jobs { rows, pages, states, q: query.get("jobs-q").unwrap_or_default().to_owned() }
}

/// How far a pack is.
fn items_of(items: &Items) -> String {
    let failed = items.failed + items.cancelled;
    let failed = if failed > 0 { format!(", {} failed", grouped(failed.into())) } else { String::new() };
    format!("{} of {} items{failed}", grouped(items.done().into()), grouped(items.total().into()))
}

/// A span of time; Kubernetes has whole seconds, so nothing is known of what is shorter.
fn span(seconds: f64) -> String {
    if seconds > 0.0 { duration(seconds) } else { "<1 s".to_owned() }
}

fn job_row(entry: &Entry, business: &str, session: &str, act: Option<Act>) -> JobRow {
    let (state, class) = shown(entry.state);
    let settled = entry.settled.as_deref();
    let has_output = settled.is_some_and(|settled| settled.has_output);
    let raw =
        has_output.then(|| web::encode([("business", business), ("session", session), ("job", entry.job.as_str())]));
    JobRow {
        job: entry.job.clone(),
        state,
        class,
        items: entry.items.map(|items| items_of(&items)).unwrap_or_default(),
        attempt: entry.attempt,
        changed: entry.changed.map(|time| time.to_string()).unwrap_or_default(),
        waited: settled.and_then(|settled| settled.waited).map(span).unwrap_or_default(),
        ran: settled.and_then(|settled| settled.ran).map(span).unwrap_or_default(),
        code: if entry.state == State::Succeeded { String::new() } else { entry.code.clone() },
        message: settled
            .filter(|_| entry.state != State::Succeeded)
            .map(|settled| settled.message.clone())
            .unwrap_or_default(),
        tail: settled.map(|settled| settled.tail.clone()).unwrap_or_default(),
        raw,
        act,
    }
}

//! The overview of all businesses.

use std::collections::BTreeMap;

use serde::Serialize;
use sessions::{Counts, jobs::REFUSED_SESSION};
use web::Problem;

use super::rows::{self, session_href};
use crate::{
    board::View,
    charts::{self, Bars, Line, Rect},
    page::Shown,
    page_request::PageRequest,
};

#[derive(Serialize)]
struct Card {
    name: String,
    counts: Counts,
    paused: usize,
    letters: usize,
    per_minute: usize,
    oldest: String,
    slots: u32,
    slots_used: usize,
    slots_share: Vec<Rect>,
    orchestrator: &'static str,
    is_listed: bool,
    bars: Bars,
    line: Option<Line>,
    sessions: Vec<rows::SessionRow>,
}

/// Something that is wrong, with its cause and the page to act on it.
#[derive(Serialize)]
struct Alert {
    business: String,
    class: &'static str,
    name: String,
    what: String,
    why: String,
    action: String,
    href: String,
}

/// The page on nodes.
const NODES: (&str, &str) = ("Nodes", "/cluster");
/// Failed sessions of a business that are listed.
const FAILED_SESSIONS: usize = 8;
/// Sessions on a card.
const SESSIONS: usize = 4;

/// The page.
pub(super) fn show(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let views = request.state.views(request.visitor, None)?;
    let nodes = request.state.nodes().lines.into_iter().filter(|node| !node.is_ready);
    let mut alerts: Vec<Alert> =
        nodes.map(|node| Alert::new("", "bad", &node.name, "is not ready", node.message, NODES)).collect();
    views.iter().for_each(|view| add_alerts(view, &mut alerts));
    let cards: Vec<Card> = views.iter().map(|view| card(view)).collect();
    let parts =
        vec![request.part("alerts", "alerts.html", &alerts)?, request.part("businesses", "overview.html", &cards)?];
    Ok(Shown { title: "Overview".into(), crumbs: Vec::new(), parts })
}

impl Alert {
    fn new(business: &str, class: &'static str, name: &str, what: &str, why: String, action: (&str, &str)) -> Self {
        Self {
            business: business.to_owned(),
            class,
            name: name.to_owned(),
            what: what.to_owned(),
            why,
            action: action.0.to_owned(),
            href: action.1.to_owned(),
        }
    }
}

/// What is wrong in a business, the most urgent first. Failed sessions stay until their dead letters are retried,
/// replayed or discarded.
fn add_alerts(view: &View, alerts: &mut Vec<Alert>) {
    let name = view.business.name.as_str();
    let page = |path: &str| format!("{path}?{}", web::encode([("business", name)]));
    let mut add = |class, of: &str, what: &str, why: String, action, href: &str| {
        alerts.push(Alert::new(name, class, of, what, why, (action, href)));
    };
    if let Some(problem) = view.orchestrator.as_ref().and_then(|orchestrator| orchestrator.problem.clone()) {
        add("bad", "The orchestrator", "is not ready, so no Job starts", problem, "Pods", &page("/cluster"));
    }
    for quota in &view.full_quotas {
        add("warn", "A quota", "is used up, so Jobs wait", quota.clone(), "Quotas", &page("/cluster"));
    }
    if !view.business.intake {
        let why = "the environment file has intake = false; messages stay in Pub/Sub".to_owned();
        add("warn", "The intake", "is stopped", why, "Backlog", &page("/pubsub"));
    }
    let mut sessions: Vec<(&str, BTreeMap<&str, usize>)> = Vec::new();
    // The latest first.
    for letter in view.letters.iter().rev() {
        let found = sessions.iter().position(|(session, _)| *session == letter.session);
        let at = found.unwrap_or(sessions.len());
        if found.is_none() {
            sessions.push((&letter.session, BTreeMap::new()));
        }
        *sessions[at].1.entry(&letter.code).or_default() += 1;
    }
    let left_out = sessions.len().saturating_sub(FAILED_SESSIONS);
    for (session, codes) in sessions.into_iter().take(FAILED_SESSIONS) {
        let mut codes: Vec<(&str, usize)> = codes.into_iter().collect();
        codes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let why: Vec<String> = codes.iter().take(3).map(|(code, count)| format!("{count} {code}")).collect();
        let count: usize = codes.iter().map(|(_, count)| count).sum();
        if session == REFUSED_SESSION {
            let what = format!("{count} refused");
            add("bad", "Messages", &what, why.join(", "), "Replay or discard", &page("/letters"));
        } else {
            let what = format!("{count} failed");
            add("bad", session, &what, why.join(", "), "Retry or correct", &session_href(name, session));
        }
    }
    if left_out > 0 {
        add("bad", "Sessions", &format!("{left_out} more failed"), String::new(), "Dead letters", &page("/letters"));
    }
}

fn card(view: &View) -> Card {
    let problem = view.orchestrator.as_ref().and_then(|orchestrator| orchestrator.problem.clone());
    let slots = view.business.max_active_jobs;
    let free = (slots as usize).saturating_sub(view.running);
    Card {
        name: view.business.name.clone(),
        counts: Counts { waiting: view.counts.waiting.saturating_sub(view.paused_jobs), ..view.counts },
        paused: view.paused_jobs,
        letters: view.letters.len(),
        per_minute: view.per_minute,
        oldest: rows::time(view.oldest_waiting),
        slots,
        slots_used: view.running,
        slots_share: charts::shares(&[(view.running, "running"), (free, "empty")]),
        orchestrator: match (&view.orchestrator, &problem) {
            (None, _) => "unknown",
            (Some(_), Some(_)) => "bad",
            (Some(_), None) => "ready",
        },
        is_listed: view.is_listed,
        bars: charts::bars(&view.minutes),
        line: charts::line(&view.history),
        sessions: view.sessions.iter().take(SESSIONS).map(rows::SessionRow::from).collect(),
    }
}

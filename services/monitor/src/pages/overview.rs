//! The overview of all businesses.

use serde::Serialize;
use sessions::Counts;
use web::Problem;

use super::rows;
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
    problem: String,
    is_listed: bool,
    full_quotas: Vec<String>,
    bars: Bars,
    line: Option<Line>,
    sessions: Vec<rows::SessionRow>,
}

/// Sessions on a card.
const SESSIONS: usize = 4;

/// The page.
pub(super) fn show(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let cards: Vec<Card> = request.state.views(request.visitor, None)?.iter().map(|view| card(view)).collect();
    let parts = vec![request.part("businesses", "overview.html", &cards)?];
    Ok(Shown { title: "Overview".into(), crumbs: Vec::new(), parts })
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
        problem: problem.unwrap_or_default(),
        is_listed: view.is_listed,
        full_quotas: view.full_quotas.clone(),
        bars: charts::bars(&view.minutes),
        line: charts::line(&view.history),
        sessions: view.sessions.iter().take(SESSIONS).map(rows::SessionRow::from).collect(),
    }
}

//! What operators did, and which of their decisions hold.

use serde::Serialize;
use web::Problem;

use super::rows::{job_page, session_href, time};
use crate::{page::Shown, page_request::PageRequest};

#[derive(Serialize)]
struct Line {
    time: String,
    who: String,
    action: String,
    business: String,
    on: String,
    href: String,
    is_done: bool,
    result: String,
}

#[derive(Serialize)]
struct Lines {
    actions: Vec<Line>,
    /// Decisions that the bucket has, whoever made them with which program.
    decisions: Vec<Line>,
}

/// The page.
pub(super) fn show(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let views = request.state.views(request.visitor, request.query.get("business"))?;
    let is_visible = |business: &str| views.iter().any(|view| view.business.name == business);
    let acted = request.state.audit.latest(is_visible);
    let actions = acted.into_iter().map(|acted| Line {
        time: time(Some(acted.time)),
        href: match &acted.job {
            Some(job) => job_page(&acted.business, &acted.session, job),
            None => session_href(&acted.business, &acted.session),
        },
        who: acted.who,
        action: acted.action,
        business: acted.business,
        on: acted.job.map_or_else(|| acted.session.clone(), |job| format!("{} / {job}", acted.session)),
        is_done: acted.is_done,
        result: acted.result,
    });
    let decisions =
        views.iter().flat_map(|view| view.controls.iter().map(move |(session, control)| (view, session, control)));
    let mut decisions: Vec<Line> = decisions
        .map(|(view, session, control)| Line {
            time: time(Some(control.changed)),
            who: control.by.clone(),
            action: match (control.paused, control.has_cancelled()) {
                (true, true) => "paused, cancelled",
                (true, false) => "paused",
                (false, _) => "cancelled",
            }
            .to_owned(),
            business: view.business.name.clone(),
            on: session.clone(),
            href: session_href(&view.business.name, session),
            is_done: true,
            result: match (control.cancelled_before, control.cancelled_jobs.len()) {
                (Some(_), _) => "all Jobs that were submitted before".to_owned(),
                (None, 0) => String::new(),
                (None, count) => format!("single Jobs: {count}"),
            },
        })
        .collect();
    decisions.sort_by(|one, other| other.time.cmp(&one.time));
    let lines = Lines { actions: actions.collect(), decisions };
    Ok(Shown { title: "Audit".into(), crumbs: Vec::new(), parts: vec![request.part("audit", "audit.html", &lines)?] })
}

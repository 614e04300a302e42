//! The list of sessions.

use serde::Serialize;
use web::Problem;

use crate::{page::Shown, page_request::PageRequest};

use super::rows::SessionRow;

/// Sessions that are shown.
const MAX_SESSIONS: usize = 200;

#[derive(Serialize)]
struct Sessions {
    rows: Vec<SessionRow>,
    left_out: usize,
    businesses: Vec<String>,
    business: String,
}

/// The page.
pub(super) fn show(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let only = request.query.get("business");
    let mut all: Vec<_> =
        request.state.views(request.visitor, only)?.iter().flat_map(|view| view.sessions.as_ref().clone()).collect();
    all.sort_by_key(|session| std::cmp::Reverse(session.summary.changed));
    let sessions = Sessions {
        rows: all.iter().take(MAX_SESSIONS).map(SessionRow::from).collect(),
        left_out: all.len().saturating_sub(MAX_SESSIONS),
        businesses: request.businesses(),
        business: only.unwrap_or_default().to_owned(),
    };
    let parts = vec![request.part("sessions", "sessions.html", &sessions)?];
    Ok(Shown { title: "Sessions".into(), crumbs: Vec::new(), parts })
}

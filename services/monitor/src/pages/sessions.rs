//! Every session.

use serde::Serialize;
use web::Problem;

use super::{Ask, Shown, rows::SessionRow};

/// Sessions shown at once.
const MOST: usize = 200;

#[derive(Serialize)]
struct Sessions {
    rows: Vec<SessionRow>,
    left_out: usize,
    businesses: Vec<String>,
    business: String,
}

/// The page.
pub(super) fn show(ask: &Ask<'_>) -> Result<Shown, Problem> {
    let only = ask.query.get("business");
    let mut all: Vec<_> =
        ask.state.views(ask.visitor, only)?.iter().flat_map(|view| view.sessions.as_ref().clone()).collect();
    all.sort_by_key(|session| std::cmp::Reverse(session.summary.changed));
    let sessions = Sessions {
        rows: all.iter().take(MOST).map(SessionRow::from).collect(),
        left_out: all.len().saturating_sub(MOST),
        businesses: ask.visitor.of(&ask.state.site.config).iter().map(|business| business.name.clone()).collect(),
        business: only.unwrap_or_default().to_owned(),
    };
    let parts = vec![ask.part("sessions", "sessions.html", &sessions)?];
    Ok(Shown { title: "Sessions".into(), crumbs: Vec::new(), parts })
}

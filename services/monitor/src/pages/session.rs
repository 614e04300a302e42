//! One session: its progress, why Jobs failed, and its actions.

use contract::Outcome;
use serde::Serialize;
use sessions::{
    Cause,
    jobs::{Job, State},
};
use web::Problem;

use crate::{
    page::{Crumb, Shown},
    page_request::PageRequest,
};

use super::{
    jobs as table,
    rows::{SessionRow, session_href, time},
    totals,
};

/// Outcomes that are read for the causes.
const MAX_READ: usize = 200;

#[derive(Serialize)]
struct Head {
    row: SessionRow,
    is_paused: bool,
    cancelled_before: String,
}

#[derive(Serialize)]
struct Causes {
    causes: Vec<Cause>,
    /// What they count.
    unit: &'static str,
    /// Outcomes that were not read.
    left_out: usize,
}

/// A line of JSON is shown as its message, and not at all when the cause has the same message.
fn in_words(mut cause: Cause) -> Cause {
    let logged: Option<serde_json::Value> = serde_json::from_str(&cause.line).ok();
    if let Some(message) = logged.as_ref().and_then(|line| line["message"].as_str()) {
        cause.line = if message == cause.message { String::new() } else { message.to_owned() };
    }
    cause
}

/// The page.
pub(super) async fn show(request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let business = request.query.get("business").unwrap_or_default();
    let name = request.query.get("session").unwrap_or_default();
    let view = request.state.view(request.visitor, business)?;
    let found = view.sessions.iter().find(|session| session.summary.session == name);
    let Some(session) = found else {
        if !view.is_listed {
            return Err(Problem::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "starting",
                "Sessions are not listed yet",
            )
            .next("Reload this page in a moment.")
            .retry_after(2));
        }
        return Err(Problem::not_found(format!("There is no session {name:?} in {business}"))
            .next("Its outcomes may have reached the end of their retention."));
    };
    let head = Head {
        row: SessionRow::from(session),
        is_paused: session.summary.paused,
        cancelled_before: time(session.summary.cancelled_before),
    };
    let latest = sessions::latest(view.jobs.iter().filter(|job| job.session == name).cloned().collect());
    let totals = totals::part(request, &view.business, &latest, &session.summary.counts).await?;
    // Of a pack, also the ranges that have failed so far.
    let has_failed = |job: &Job| {
        matches!(job.state, Some(State::Failed | State::Refused)) || job.items.is_some_and(|items| items.failed > 0)
    };
    let jobs: Vec<Job> = latest.into_iter().filter(has_failed).collect();
    let unit = if jobs.iter().any(|job| job.items.is_some()) { "item" } else { "Job" };
    let failed: Vec<String> = jobs.into_iter().flat_map(|job| job.unsuccessful).collect();
    let mut parts = vec![request.part("session", "session_head.html", &head)?, totals];
    if failed.is_empty() {
        parts.push(("causes", String::new()));
    } else {
        let left_out = failed.len().saturating_sub(MAX_READ);
        let names: Vec<String> = failed.into_iter().take(MAX_READ).collect();
        let read = cloud::outcomes::read_all(&request.state.store, &view.business.bucket, names, 32).await;
        let read = read.map_err(|error| Problem::unavailable("Cloud Storage does not answer", &error))?;
        let outcomes: Vec<Outcome> = read.into_iter().flatten().collect();
        let causes = Causes { causes: sessions::causes(&outcomes).into_iter().map(in_words).collect(), unit, left_out };
        parts.push(request.part("causes", "session_causes.html", &causes)?);
    }
    let filter = table::Filter::from_query(request.query);
    parts.push(table::table(request, &filter, "/session").await?);
    let crumbs = vec![
        Crumb { label: "Sessions".into(), href: "/sessions".into() },
        Crumb { label: business.to_owned(), href: format!("/sessions?{}", web::encode([("business", business)])) },
        Crumb { label: name.to_owned(), href: session_href(business, name) },
    ];
    Ok(Shown { title: name.to_owned(), crumbs, parts })
}

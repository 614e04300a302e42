//! One session: how far it is, why Jobs of it failed, and what can be done.

use contract::Outcome;
use serde::Serialize;
use sessions::{
    Cause,
    jobs::{Job, State},
};
use web::Problem;

use super::{
    Ask, Crumb, Shown, jobs as table,
    rows::{SessionRow, session_href},
};

/// Outcomes that are read to tell why Jobs failed.
const READ: usize = 200;

#[derive(Serialize)]
struct Head {
    row: SessionRow,
    is_paused: bool,
    cancelled_before: String,
}

#[derive(Serialize)]
struct Causes {
    causes: Vec<Cause>,
    /// Jobs that ended badly and were not read.
    left_out: usize,
}

/// A line that a program logged as JSON says no more to a person than its message does, and nothing when that is known.
fn in_words(mut cause: Cause) -> Cause {
    let logged: Option<serde_json::Value> = serde_json::from_str(&cause.line).ok();
    if let Some(message) = logged.as_ref().and_then(|line| line["message"].as_str()) {
        cause.line = if message == cause.message { String::new() } else { message.to_owned() };
    }
    cause
}

/// The page.
pub(super) async fn show(ask: &Ask<'_>) -> Result<Shown, Problem> {
    let business = ask.query.get("business").unwrap_or_default();
    let name = ask.query.get("session").unwrap_or_default();
    let of = ask.state.business(ask.visitor, business)?;
    let view = ask.state.board().views.get(business).cloned();
    let view = view.ok_or_else(|| Problem::not_found("This business is not known yet"))?;
    let found = view.sessions.iter().find(|session| session.summary.session == name);
    let Some(session) = found else {
        if !view.is_listed {
            return Err(Problem::new(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                "starting",
                "Sessions are not known yet",
            )
            .next("This page comes by itself in a moment.")
            .retry_after(2));
        }
        return Err(Problem::not_found(format!("There is no session {name:?} in {business}"))
            .next("Its outcomes may have reached the end of their retention."));
    };
    let head = Head {
        row: SessionRow::from(session),
        is_paused: session.summary.paused,
        cancelled_before: session.summary.cancelled_before.map(|time| time.to_string()).unwrap_or_default(),
    };
    let failed: Vec<Job> = sessions::latest(view.jobs.as_ref().clone())
        .into_iter()
        .filter(|job| job.session == name && matches!(job.state, Some(State::Failed | State::Refused)))
        .collect();
    let mut parts = vec![ask.part("session", "session_head.html", &head)?];
    if failed.is_empty() {
        parts.push(("causes", String::new()));
    } else {
        let left_out = failed.len().saturating_sub(READ);
        let names: Vec<String> = failed.iter().take(READ).filter_map(|job| job.outcome.clone()).collect();
        let read = cloud::outcomes::read_all(&ask.state.store, &of.business.bucket, names, 32).await;
        let read = read.map_err(|error| Problem::unavailable("Cloud Storage does not answer", &error))?;
        let outcomes: Vec<Outcome> = read.into_iter().flatten().collect();
        let causes = Causes { causes: sessions::causes(&outcomes).into_iter().map(in_words).collect(), left_out };
        parts.push(ask.part("causes", "session_causes.html", &causes)?);
    }
    let filter = table::Filter::of(ask.query);
    parts.push(table::table(ask, &filter, "/session").await?);
    let crumbs = vec![
        Crumb { label: "Sessions".into(), href: "/sessions".into() },
        Crumb { label: business.to_owned(), href: format!("/sessions?{}", web::encode([("business", business)])) },
        Crumb { label: name.to_owned(), href: session_href(business, name) },
    ];
    Ok(Shown { title: name.to_owned(), crumbs, parts })
}

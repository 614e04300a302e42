//! The routes of the monitor, and pages in their frame.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State as FromState},
    response::Response,
    routing::{get, post},
};
use serde::Serialize;
use web::{App, Limits, NavItem, Page, Problem, Query, Routes, Viewer, Visitor, live::Parts};

use crate::{
    actions, api, download, logs,
    page::{Kind, Shown},
    page_request::PageRequest,
    pages,
    state::State,
};

const TEMPLATES: [(&str, &str); 23] = [
    ("page.html", include_str!("templates/page.html")),
    ("parts.html", include_str!("templates/parts.html")),
    ("errors.html", include_str!("templates/errors.html")),
    ("operations.html", include_str!("templates/operations.html")),
    ("alerts.html", include_str!("templates/alerts.html")),
    ("overview.html", include_str!("templates/overview.html")),
    ("sessions.html", include_str!("templates/sessions.html")),
    ("session_head.html", include_str!("templates/session_head.html")),
    ("session_totals.html", include_str!("templates/session_totals.html")),
    ("session_causes.html", include_str!("templates/session_causes.html")),
    ("jobs_filter.html", include_str!("templates/jobs_filter.html")),
    ("jobs_table.html", include_str!("templates/jobs_table.html")),
    ("job_head.html", include_str!("templates/job_head.html")),
    ("job_timeline.html", include_str!("templates/job_timeline.html")),
    ("job_facts.html", include_str!("templates/job_facts.html")),
    ("job_items.html", include_str!("templates/job_items.html")),
    ("job_result.html", include_str!("templates/job_result.html")),
    ("job_log.html", include_str!("templates/job_log.html")),
    ("pubsub.html", include_str!("templates/pubsub.html")),
    ("letters.html", include_str!("templates/letters.html")),
    ("cluster.html", include_str!("templates/cluster.html")),
    ("audit.html", include_str!("templates/audit.html")),
    ("quotas.html", include_str!("templates/quotas.html")),
];

const NAV: [NavItem; 6] = [
    NavItem { href: "/", label: "Overview", icon: "overview" },
    NavItem { href: "/sessions", label: "Sessions", icon: "sessions" },
    NavItem { href: "/jobs", label: "Jobs", icon: "jobs" },
    NavItem { href: "/pubsub", label: "Pub/Sub", icon: "pubsub" },
    NavItem { href: "/letters", label: "Dead letters", icon: "letters" },
    NavItem { href: "/cluster", label: "Cluster", icon: "cluster" },
];

/// The definition of the app.
pub(crate) fn app() -> App {
    App { name: "monitor", title: "Monitor", nav: &NAV, templates: &TEMPLATES, assets: &[], limits: Limits::PRODUCTION }
}

/// Everything that is served.
pub(crate) fn routes(state: &Arc<State>) -> Routes {
    let mut pages = Router::new();
    for kind in Kind::ALL {
        let handler = async move |FromState(state): FromState<Arc<State>>, viewer: Viewer, query: Query| {
            show(&state, &viewer, kind, &query).await
        };
        pages = pages.route(kind.path(), get(handler));
    }
    let pages = pages.merge(api::routes());
    let streams = Router::new()
        .route("/live/{page}", get(stream))
        .route("/log", get(logs::follow))
        .route("/log.txt", get(logs::download));
    let streams = streams.route("/object", get(download::object)).route("/actions", post(actions::by_form));
    Routes { pages: pages.with_state(state.clone()), streams: streams.with_state(state.clone()) }
}

/// A page as it is now.
async fn rendered(state: &State, visitor: &Visitor, kind: Kind, query: &Query) -> Result<Arc<Shown>, Problem> {
    let url = if query.0.is_empty() { kind.path().to_owned() } else { format!("{}?{query}", kind.path()) };
    let request = PageRequest { state, visitor, query, url };
    let render: futures::future::BoxFuture<'_, Result<Shown, Problem>> = Box::pin(pages::shown(kind, &request));
    let version = *state.changes.borrow();
    state.rendered.get(kind, query, visitor, version, render).await
}

#[derive(Serialize)]
struct PartView<'a> {
    id: &'a str,
    html: &'a str,
}

async fn show(state: &State, viewer: &Viewer, kind: Kind, query: &Query) -> Result<Response, Problem> {
    state.touch();
    let shown = rendered(state, &viewer.visitor, kind, query).await?;
    let mut context = tera::Context::new();
    let parts: Vec<PartView<'_>> = shown.parts.iter().map(|(id, html)| PartView { id, html }).collect();
    context.insert("parts", &parts);
    context.insert("crumbs", &shown.crumbs);
    let live = Some(format!("/live/{}?{query}", kind.name()));
    state
        .site
        .render(viewer, Page { template: "page.html", title: shown.title.clone(), nav: kind.nav(), live, context })
}

/// The parts of a page as they change.
async fn stream(
    FromState(state): FromState<Arc<State>>,
    Path(page): Path<String>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == page);
    let kind = kind.ok_or_else(|| Problem::not_found("There is no such page"))?;
    let (site, changes) = (state.site.clone(), state.changes.subscribe());
    Ok(site.live(changes, move || {
        let (state, visitor, query) = (state.clone(), viewer.visitor.clone(), query.clone());
        async move {
            let shown = rendered(&state, &visitor, kind, &query).await?;
            Ok(shown.parts.iter().cloned().collect::<Parts>())
        }
    }))
}

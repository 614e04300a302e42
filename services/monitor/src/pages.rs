//! The pages: each is a list of parts, shown at once and then kept up to date.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path, State as FromState},
    response::Response,
    routing::{get, post},
};
use serde::Serialize;
use web::{App, Limits, NavItem, Page, Problem, Query, Routes, Viewer, Visitor, live};

use crate::{actions, api, download, logs, state::State};

mod cluster;
mod job;
mod jobs;
mod overview;
mod pubsub;
mod rows;
mod session;
mod sessions;

pub(crate) use jobs::{Filter, select};

/// How long a rendered page is good for others who look at the same.
const FRESH: Duration = Duration::from_secs(2);
/// Rendered pages that are kept.
const KEPT: usize = 256;

const TEMPLATES: [(&str, &str); 18] = [
    ("page.html", include_str!("templates/page.html")),
    ("parts.html", include_str!("templates/parts.html")),
    ("troubles.html", include_str!("templates/troubles.html")),
    ("overview.html", include_str!("templates/overview.html")),
    ("sessions.html", include_str!("templates/sessions.html")),
    ("session_head.html", include_str!("templates/session_head.html")),
    ("session_causes.html", include_str!("templates/session_causes.html")),
    ("jobs_filter.html", include_str!("templates/jobs_filter.html")),
    ("jobs_table.html", include_str!("templates/jobs_table.html")),
    ("job_head.html", include_str!("templates/job_head.html")),
    ("job_timeline.html", include_str!("templates/job_timeline.html")),
    ("job_facts.html", include_str!("templates/job_facts.html")),
    ("job_result.html", include_str!("templates/job_result.html")),
    ("job_log.html", include_str!("templates/job_log.html")),
    ("pubsub.html", include_str!("templates/pubsub.html")),
    ("letters.html", include_str!("templates/letters.html")),
    ("cluster.html", include_str!("templates/cluster.html")),
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

/// What the monitor brings to the foundation.
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
    let pages = pages.route("/actions", post(actions::by_form)).merge(api::routes());
    let streams = Router::new().route("/live/{page}", get(stream)).route("/log", get(logs::follow));
    let streams = streams.route("/object", get(download::object));
    Routes { pages: pages.with_state(state.clone()), streams: streams.with_state(state.clone()) }
}

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Overview,
    Sessions,
    Session,
    Jobs,
    Job,
    Pubsub,
    Letters,
    Cluster,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Overview,
        Self::Sessions,
        Self::Session,
        Self::Jobs,
        Self::Job,
        Self::Pubsub,
        Self::Letters,
        Self::Cluster,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::Overview => "/",
            Self::Sessions => "/sessions",
            Self::Session => "/session",
            Self::Jobs => "/jobs",
            Self::Job => "/job",
            Self::Pubsub => "/pubsub",
            Self::Letters => "/letters",
            Self::Cluster => "/cluster",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            _ => &self.path()[1..],
        }
    }

    fn nav(self) -> &'static str {
        match self {
            Self::Session => "/sessions",
            Self::Job => "/jobs",
            _ => self.path(),
        }
    }
}

/// A step on the way to a page.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Crumb {
    pub(crate) label: String,
    pub(crate) href: String,
}

/// A page before it is put in the frame.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) title: String,
    pub(crate) crumbs: Vec<Crumb>,
    /// Id and HTML of each part, in order.
    pub(crate) parts: Vec<(&'static str, String)>,
}

/// What a page is made for.
pub(crate) struct Ask<'a> {
    pub(crate) state: &'a State,
    pub(crate) visitor: &'a Visitor,
    pub(crate) query: &'a Query,
    /// Path and query of the page, for actions to come back to.
    pub(crate) url: String,
}

impl Ask<'_> {
    /// A part from its template; `data` is what the template calls `it`.
    pub(crate) fn part(
        &self,
        id: &'static str,
        template: &str,
        data: &impl Serialize,
    ) -> Result<(&'static str, String), Problem> {
        let mut context = tera::Context::new();
        context.insert("it", data);
        context.insert("csrf", &self.visitor.csrf);
        context.insert("back", &self.url);
        Ok((id, self.state.site.fragment(template, &context)?))
    }

    /// What does not answer, in the businesses shown.
    pub(crate) fn troubles(&self) -> Result<(&'static str, String), Problem> {
        let only = self.query.get("business");
        let mut lines: Vec<(String, String, String)> = Vec::new();
        for view in self.state.views(self.visitor, only)? {
            for (part, why) in &view.troubles {
                lines.push((view.business.name.clone(), (*part).to_owned(), why.clone()));
            }
        }
        self.part("troubles", "troubles.html", &lines)
    }
}

async fn shown(kind: Kind, ask: &Ask<'_>) -> Result<Shown, Problem> {
    let mut shown = match kind {
        Kind::Overview => overview::show(ask)?,
        Kind::Sessions => sessions::show(ask)?,
        Kind::Session => session::show(ask).await?,
        Kind::Jobs => jobs::show(ask).await?,
        Kind::Job => job::show(ask).await?,
        Kind::Pubsub => pubsub::show(ask)?,
        Kind::Letters => pubsub::letters(ask).await?,
        Kind::Cluster => cluster::show(ask)?,
    };
    shown.parts.insert(0, ask.troubles()?);
    Ok(shown)
}

/// What is the same for everybody who may see the same.
type Key = (Kind, Vec<(String, String)>, String);
type Slot = Arc<tokio::sync::Mutex<Option<(u64, Instant, Arc<Shown>)>>>;

static RENDERED: LazyLock<Mutex<HashMap<(usize, Key), Slot>>> = LazyLock::new(Mutex::default);

/// A page as it is now. Fifty people who look at the same cost as much as one.
async fn rendered(state: &State, visitor: &Visitor, kind: Kind, query: &Query) -> Result<Arc<Shown>, Problem> {
    // Tests run several monitors in one process.
    let key = (std::ptr::from_ref(state).addr(), (kind, query.0.clone(), visitor.csrf.clone()));
    let slot = {
        let mut slots = RENDERED.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(key).or_default().clone()
    };
    let mut slot = slot.lock().await;
    let version = *state.changes.borrow();
    if let Some((made, at, shown)) = &*slot
        && *made == version
        && at.elapsed() < FRESH
    {
        return Ok(shown.clone());
    }
    let encoded = web::encode(query.0.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let url = if encoded.is_empty() { kind.path().to_owned() } else { format!("{}?{encoded}", kind.path()) };
    let ask = Ask { state, visitor, query, url };
    let making: futures::future::BoxFuture<'_, Result<Shown, Problem>> = Box::pin(shown(kind, &ask));
    let made = Arc::new(making.await?);
    // What a program asks for with its token is nobody else's.
    if !visitor.csrf.is_empty() {
        *slot = Some((version, Instant::now(), made.clone()));
    }
    Ok(made)
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
    context.insert("said", &state.said(&viewer.visitor).unwrap_or_default());
    let encoded = web::encode(query.0.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let live = Some(format!("/live/{}?{encoded}", kind.name()));
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
    Ok(live::stream(&site, changes, move || {
        let (state, visitor, query) = (state.clone(), viewer.visitor.clone(), query.clone());
        async move {
            let shown = rendered(&state, &visitor, kind, &query).await?;
            Ok(shown.parts.iter().cloned().collect::<live::Parts>())
        }
    }))
}

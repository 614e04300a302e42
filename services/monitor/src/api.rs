//! The board as JSON, for programs: `/api/v1`. [`crate::openapi`] describes it.

use std::sync::Arc;

use axum::{
    Json, Router,
    routing::{get, post},
};
use contract::pool_report::Report;
use inspect::{
    Detail,
    cluster::{OrchestratorView, PodView},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use sessions::{Counts, dead_letters::DeadLetter, jobs::Job};
use web::{Problem, Query, Visitor};

use crate::{
    actions,
    board::{Minute, Sample, SessionView, View},
    nodes::NodeLine,
    openapi::{self, Endpoint},
    pages::{Filter, select, states},
    raw::{PubsubItem, Quota},
    state::State,
};

/// Its routes.
pub(crate) fn routes() -> Router<Arc<State>> {
    let routes = Router::new()
        .route(openapi::ACTIONS, post(actions::by_api))
        .route(openapi::PATH, get(async || Json(document())));
    endpoints().into_iter().fold(routes, |routes, endpoint| routes.route(endpoint.path, endpoint.route))
}

/// Its description, as it is served.
pub fn document() -> serde_json::Value {
    openapi::document(&endpoints())
}

fn endpoints() -> [Endpoint; 7] {
    [
        Endpoint::new("/api/v1/overview", "The state of every business", &[], overview),
        Endpoint::new("/api/v1/sessions", "Sessions, the one that changed last first", &["business"], sessions),
        Endpoint::new(
            "/api/v1/jobs",
            "Jobs: filtered, sorted, in pages",
            &["business", "session", "state", "q", "sort", "order", "page", "rows"],
            jobs,
        ),
        Endpoint::new(
            "/api/v1/job",
            "All details of one Job, with an explanation of its state",
            &["business!", "session!", "job!", "generation"],
            job,
        ),
        Endpoint::new("/api/v1/pubsub", "Topics, subscriptions, backlog", &["business"], pubsub),
        Endpoint::new(
            "/api/v1/dead-letters",
            "Failed and refused outcomes that need attention",
            &["business"],
            letters,
        ),
        Endpoint::new("/api/v1/cluster", "Nodes, Pods, quotas", &["business"], cluster),
    ]
}

#[derive(JsonSchema, Serialize)]
struct Overview {
    environment: String,
    project: String,
    businesses: Vec<Business>,
}

#[derive(JsonSchema, Serialize)]
struct Business {
    business: String,
    counts: Counts,
    dead_letters: usize,
    per_minute: usize,
    oldest_waiting: Option<Timestamp>,
    max_active_jobs: u32,
    orchestrator: Option<OrchestratorView>,
    full_quotas: Vec<String>,
    /// Services that do not answer, each with its error.
    #[serde(rename = "troubles")]
    errors: std::collections::BTreeMap<&'static str, String>,
    /// Jobs that ended in each of the last 60 minutes, the current one last.
    minutes: Vec<Minute>,
    history: Vec<Sample>,
}

async fn overview(state: Arc<State>, visitor: Visitor, _: Query) -> Result<Overview, Problem> {
    let views = state.views(&visitor, None)?;
    Ok(Overview {
        environment: state.site.config.environment.clone(),
        project: state.site.config.project.clone(),
        businesses: views.iter().map(|view| line(view)).collect(),
    })
}

fn line(view: &View) -> Business {
    Business {
        business: view.business.name.clone(),
        counts: view.counts,
        dead_letters: view.letters.len(),
        per_minute: view.per_minute,
        oldest_waiting: view.oldest_waiting,
        max_active_jobs: view.business.max_active_jobs,
        orchestrator: view.orchestrator.clone(),
        full_quotas: view.full_quotas.clone(),
        errors: view.errors.clone(),
        minutes: view.minutes.clone(),
        history: view.history.iter().copied().collect(),
    }
}

async fn sessions(state: Arc<State>, visitor: Visitor, query: Query) -> Result<Vec<SessionView>, Problem> {
    let views = state.views(&visitor, query.get("business"))?;
    Ok(views.iter().flat_map(|view| view.sessions.iter().cloned()).collect())
}

#[derive(JsonSchema, Serialize)]
struct Jobs {
    total: usize,
    page: usize,
    pages: usize,
    jobs: Vec<Job>,
}

async fn jobs(state: Arc<State>, visitor: Visitor, query: Query) -> Result<Jobs, Problem> {
    if let Some(word) = query.get("state")
        && !states().any(|state| state == word)
    {
        return Err(Problem::bad_request(format!("There is no state {word:?}"))
            .next(format!("There is {}.", states().collect::<Vec<_>>().join(", "))));
    }
    let selected = select(&state, &visitor, &Filter::from_query(&query)).await?;
    Ok(Jobs { total: selected.total, page: selected.page, pages: selected.pages, jobs: selected.jobs })
}

async fn job(state: Arc<State>, visitor: Visitor, query: Query) -> Result<Detail, Problem> {
    let (view, job) = state.job(&visitor, &query)?;
    Ok(state.detail(&view, &job).await?.as_ref().clone())
}

#[derive(JsonSchema, Serialize)]
struct Pubsub {
    business: String,
    waiting: usize,
    oldest_waiting: Option<Timestamp>,
    items: Vec<PubsubItem>,
}

async fn pubsub(state: Arc<State>, visitor: Visitor, query: Query) -> Result<Vec<Pubsub>, Problem> {
    let views = state.views(&visitor, query.get("business"))?;
    let lines = views.iter().map(|view| Pubsub {
        business: view.business.name.clone(),
        waiting: view.counts.waiting,
        oldest_waiting: view.oldest_waiting,
        items: view.pubsub.clone(),
    });
    Ok(lines.collect())
}

async fn letters(state: Arc<State>, visitor: Visitor, query: Query) -> Result<Vec<DeadLetter>, Problem> {
    let views = state.views(&visitor, query.get("business"))?;
    Ok(views.iter().flat_map(|view| view.letters.iter().cloned()).collect())
}

#[derive(JsonSchema, Serialize)]
struct Cluster {
    nodes: Vec<NodeLine>,
    /// Why nodes cannot be listed.
    #[serde(rename = "trouble")]
    error: Option<String>,
    namespaces: Vec<Namespace>,
}

#[derive(JsonSchema, Serialize)]
struct Namespace {
    business: String,
    namespace: String,
    pods: Vec<PodView>,
    quotas: Vec<Quota>,
    /// What each orchestrator reports of the pool.
    pool: Vec<Report>,
}

async fn cluster(state: Arc<State>, visitor: Visitor, query: Query) -> Result<Cluster, Problem> {
    let views = state.views(&visitor, query.get("business"))?;
    let nodes = state.nodes();
    let namespaces = views.iter().map(|view| Namespace {
        business: view.business.name.clone(),
        namespace: view.business.namespace.clone(),
        pods: view.pods.values().map(|pod| pod.view.clone()).collect(),
        quotas: view.quotas.clone(),
        pool: view.pool.clone(),
    });
    Ok(Cluster { nodes: nodes.lines, error: nodes.error, namespaces: namespaces.collect() })
}

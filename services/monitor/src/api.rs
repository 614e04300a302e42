//! The same as JSON, for programs: `/api/v1`. Its description is [`crate::openapi`].

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Extension, State as FromState},
    routing::{get, post},
};
use inspect::{
    Detail,
    cluster::{OrchestratorView, PodView},
};
use jiff::Timestamp;
use serde::Serialize;
use sessions::{
    Counts,
    dead_letters::DeadLetter,
    jobs::{self, Job},
};
use web::{Problem, Query, Visitor};

use crate::{
    actions,
    board::{Minute, Sample, SessionView, View},
    cluster::{self, NodeLine},
    openapi,
    pages::{Filter, select},
    raw::{PubsubItem, Quota},
    state::State,
};

/// Its routes.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/api/v1/overview", get(overview))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/jobs", get(jobs))
        .route("/api/v1/job", get(job))
        .route("/api/v1/pubsub", get(pubsub))
        .route("/api/v1/dead-letters", get(letters))
        .route("/api/v1/cluster", get(nodes))
        .route("/api/v1/actions", post(actions::by_api))
        .route("/api/v1/openapi.json", get(async || Json(openapi::document())))
}

#[derive(Serialize)]
struct Overview {
    environment: String,
    project: String,
    businesses: Vec<BusinessLine>,
}

#[derive(Serialize)]
struct BusinessLine {
    business: String,
    counts: Counts,
    dead_letters: usize,
    per_minute: usize,
    oldest_waiting: Option<Timestamp>,
    max_active_jobs: u32,
    orchestrator: Option<OrchestratorView>,
    full_quotas: Vec<String>,
    /// Parts that do not answer, with why.
    troubles: std::collections::BTreeMap<&'static str, String>,
    /// What ended in each of the last 60 minutes, the current one last.
    minutes: Vec<Minute>,
    history: Vec<Sample>,
}

async fn overview(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Json<Overview>, Problem> {
    state.touch();
    let views = state.views(&visitor, None)?;
    Ok(Json(Overview {
        environment: state.site.config.environment.clone(),
        project: state.site.config.project.clone(),
        businesses: views.iter().map(|view| line(view)).collect(),
    }))
}

fn line(view: &View) -> BusinessLine {
    BusinessLine {
        business: view.business.name.clone(),
        counts: view.counts,
        dead_letters: view.letters.len(),
        per_minute: view.per_minute,
        oldest_waiting: view.oldest_waiting,
        max_active_jobs: view.business.max_active_jobs,
        orchestrator: view.orchestrator.clone(),
        full_quotas: view.full_quotas.clone(),
        troubles: view.troubles.clone(),
        minutes: view.minutes.clone(),
        history: view.history.iter().copied().collect(),
    }
}

async fn sessions(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Json<Vec<SessionView>>, Problem> {
    state.touch();
    let views = state.views(&visitor, query.get("business"))?;
    Ok(Json(views.iter().flat_map(|view| view.sessions.iter().cloned()).collect()))
}

#[derive(Serialize)]
struct Jobs {
    total: usize,
    page: usize,
    pages: usize,
    jobs: Vec<Job>,
}

async fn jobs(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Json<Jobs>, Problem> {
    state.touch();
    if let Some(word) = query.get("state")
        && jobs::State::parse(word).is_none()
    {
        return Err(Problem::bad_request(format!("There is no state {word:?}"))
            .next(format!("There is {}.", jobs::State::ALL.map(jobs::State::as_str).join(", "))));
    }
    let selected = select(&state, &visitor, &Filter::of(&query)).await?;
    Ok(Json(Jobs { total: selected.total, page: selected.page, pages: selected.pages, jobs: selected.jobs }))
}

async fn job(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Json<serde_json::Value>, Problem> {
    state.touch();
    let get = |name: &str| query.get(name).unwrap_or_default();
    let business = get("business");
    state.business(&visitor, business)?;
    let missing = || Problem::not_found(format!("There is no Job {:?} in session {:?}", get("job"), get("session")));
    let view = state.board().views.get(business).cloned().ok_or_else(missing)?;
    let generation: Option<i64> = query.get("generation").and_then(|value| value.parse().ok());
    let is_it = |job: &&Job| {
        job.session == get("session")
            && job.job == get("job")
            && generation.is_none_or(|generation| job.generation == generation)
    };
    let job = view.jobs.iter().find(is_it).ok_or_else(missing)?;
    let detail: Arc<Detail> = state.detail(&view, job).await?;
    let value = serde_json::to_value(&*detail).map_err(|error| Problem::internal(error.into()))?;
    Ok(Json(value))
}

#[derive(Serialize)]
struct PubsubLine {
    business: String,
    waiting: usize,
    oldest_waiting: Option<Timestamp>,
    items: Vec<PubsubItem>,
}

async fn pubsub(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Json<Vec<PubsubLine>>, Problem> {
    state.touch();
    let views = state.views(&visitor, query.get("business"))?;
    let lines = views.iter().map(|view| PubsubLine {
        business: view.business.name.clone(),
        waiting: view.counts.waiting,
        oldest_waiting: view.oldest_waiting,
        items: view.pubsub.clone(),
    });
    Ok(Json(lines.collect()))
}

async fn letters(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Json<Vec<DeadLetter>>, Problem> {
    state.touch();
    let views = state.views(&visitor, query.get("business"))?;
    Ok(Json(views.iter().flat_map(|view| view.letters.iter().cloned()).collect()))
}

#[derive(Serialize)]
struct Cluster {
    nodes: Vec<NodeLine>,
    /// Why nodes cannot be listed.
    trouble: Option<String>,
    namespaces: Vec<Space>,
}

#[derive(Serialize)]
struct Space {
    business: String,
    namespace: String,
    pods: Vec<PodView>,
    quotas: Vec<Quota>,
}

async fn nodes(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Json<Cluster>, Problem> {
    state.touch();
    let views = state.views(&visitor, query.get("business"))?;
    let nodes = cluster::known(&state);
    let namespaces = views.iter().map(|view| Space {
        business: view.business.name.clone(),
        namespace: view.business.namespace.clone(),
        pods: view.pods.values().map(|pod| pod.view.clone()).collect(),
        quotas: view.quotas.clone(),
    });
    Ok(Json(Cluster { nodes: nodes.lines, trouble: nodes.trouble, namespaces: namespaces.collect() }))
}

//! What a Job was given and what it made, to take away: passed on as it comes from the bucket, never shown as a page.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Extension, State as FromState},
    response::Response,
};
use contract::object;
use sessions::jobs::Job;
use web::{Problem, Query, Visitor, attachment};

use crate::state::State;

/// One object of a Job: `kind` is `input` or `result`, `index` which of its results.
pub(crate) async fn object(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Response, Problem> {
    state.touch();
    let [business, session, id] = ["business", "session", "job"].map(|name| query.get(name).unwrap_or_default());
    state.business(&visitor, business)?;
    let missing = || Problem::not_found(format!("There is no Job {id:?} in session {session:?}"));
    let view = state.board().views.get(business).cloned().ok_or_else(missing)?;
    let generation: Option<i64> = query.get("generation").and_then(|value| value.parse().ok());
    let is_it = |job: &&Job| {
        job.session == session && job.job == id && generation.is_none_or(|generation| job.generation == generation)
    };
    let job = view.jobs.iter().find(is_it).ok_or_else(missing)?;
    let index = query.get("index").and_then(|index| index.parse::<usize>().ok()).unwrap_or_default();
    // Names are made of what is known of the Job, never of what was asked for.
    let short = job.job.rsplit('/').next().unwrap_or(&job.job);
    let (name, file) = match query.get("kind") {
        Some("input") => (Some(object::input(business, &job.session, &job.job)), short.to_owned()),
        Some("result") => {
            let results = &state.detail(&view, job).await?.results;
            let number = if results.len() > 1 { format!(".{index}") } else { String::new() };
            (results.get(index).map(|result| result.name.clone()), format!("{short}{number}.result"))
        }
        _ => return Err(Problem::bad_request("What of the Job?").next("Ask for `kind=input` or `kind=result`.")),
    };
    let gone = || {
        Problem::not_found("This object is no more")
            .why("an input goes when its Job succeeded, and results are kept for a limited time; or there is none yet")
    };
    let away = |error: anyhow::Error| Problem::unavailable("Cloud Storage does not answer", &error);
    let opened = state.store.open(&view.business.bucket, &name.ok_or_else(gone)?).await.map_err(away)?;
    let mut contents = opened.ok_or_else(gone)?;
    if query.get("kind") == Some("input") && contents.object.generation != job.generation {
        return Err(gone());
    }
    let pieces = async_stream::stream! {
        while let Some(piece) = contents.next().await {
            if let Err(error) = &piece {
                tracing::warn!("a download broke off: {error:#}");
            }
            yield piece;
        }
    };
    Ok(attachment(Body::from_stream(pieces), "application/octet-stream", &file))
}

//! Downloads of a Job's input and results: streamed from the bucket, never shown as a page.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Extension, State as FromState},
    response::Response,
};
use contract::object;
use web::{Problem, Query, Visitor, attachment};

use crate::state::State;

/// One object of a Job: `kind` is `input` or `result`, `index` which of its results.
pub(crate) async fn object(
    FromState(state): FromState<Arc<State>>,
    Extension(visitor): Extension<Visitor>,
    query: Query,
) -> Result<Response, Problem> {
    state.touch();
    let (view, job) = state.job(&visitor, &query)?;
    let index = query.get("index").and_then(|index| index.parse::<usize>().ok()).unwrap_or_default();
    // Names come from the Job, never from the request.
    let short = job.job.rsplit('/').next().unwrap_or(&job.job);
    let (name, file) = match query.get("kind") {
        Some("input") => (Some(object::input(&job.business, &job.session, &job.job)), short.to_owned()),
        Some("result") => {
            let results = &state.detail(&view, &job).await?.results;
            let number = if results.len() > 1 { format!(".{index}") } else { String::new() };
            (results.get(index).map(|result| result.name.clone()), format!("{short}{number}.result"))
        }
        _ => {
            return Err(
                Problem::bad_request("There is no such kind of object").next("Use `kind=input` or `kind=result`.")
            );
        }
    };
    let gone = || {
        Problem::not_found("This object does not exist").why(
            "the input is deleted when the Job succeeds, results are kept for a limited time, or there is none yet",
        )
    };
    let unavailable = |error: anyhow::Error| Problem::unavailable("Cloud Storage does not answer", &error);
    let opened = state.store.open(&view.business.bucket, &name.ok_or_else(gone)?).await.map_err(unavailable)?;
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

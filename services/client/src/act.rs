//! What people do with their own inputs: cancel those that are pending, and retry those that did not succeed.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use contract::{message::Resources, names, object};
use futures::{StreamExt as _, TryStreamExt as _};
use sessions::{Doing, Retried, Selection, control, jobs};
use web::{Problem, Query, Viewer};

use crate::{
    app::Client,
    session::{client_of, is_pending},
};

/// Jobs that are retried at the same time.
const RETRIES: usize = 8;

/// Cancels or retries the inputs of a session that the visitor submitted, as the parameter `action` says; only the one
/// that the parameter `job` names, if there is one.
pub(crate) async fn act(State(client): State<Arc<Client>>, viewer: Viewer, query: Query) -> Result<Response, Problem> {
    let visitor = &viewer.visitor;
    let (business, session) = (client.business(visitor, &query)?, client.session(&query)?);
    let unavailable = |error: anyhow::Error| Problem::unavailable("Google Cloud does not answer", &error);
    let store = &client.clients.patient;
    let objects = jobs::list(store, business, Some(session)).await.map_err(unavailable)?;
    let name = names::label_value(&visitor.name);
    let own = objects.inputs.iter().filter(|input| client_of(input) == Some(name.as_str()));
    let is_chosen = |job: &String| query.get("job").is_none_or(|chosen| chosen == job);
    let own: BTreeSet<String> = own
        .filter_map(|input| Some(object::parse_input(&business.name, &input.name).ok()?.1))
        .filter(is_chosen)
        .collect();
    let jobs = sessions::latest(jobs::merge(&business.name, Some(session), &objects, &[]));
    let nothing = |what: &str| {
        Problem::new(StatusCode::CONFLICT, "nothing-of-yours", format!("There is nothing of yours to {what}"))
            .why(match query.get("job") {
                Some(job) => format!("{job:?} is in another state by now, or another person submitted it"),
                None => format!("the inputs of session {session} have ended, or others submitted them"),
            })
            .next("Ask the person who submitted them, or an operator.")
    };
    let count = match query.get("action") {
        Some("cancel") => {
            let mine = jobs.iter().filter(|job| own.contains(&job.job) && job.state.is_some_and(is_pending));
            let mine: Vec<&str> = mine.map(|job| job.job.as_str()).collect();
            if mine.is_empty() {
                return Err(nothing("cancel"));
            }
            control::cancel_jobs(store, business, session, &mine, &visitor.name).await.map_err(unavailable)?;
            mine.len()
        }
        Some("retry") => {
            let mine: Vec<_> = jobs.into_iter().filter(|job| own.contains(&job.job)).collect();
            let mut chosen = Selection::default().choose(&mine);
            // Another message for the same attempt needs the input itself, which this app may not read.
            chosen.retain(|chosen| matches!(chosen.doing, Doing::Anew { .. }));
            if chosen.is_empty() {
                return Err(nothing("retry"));
            }
            web::check_intake(&client.clients.intake, business).await?;
            let (retrier, resources) = (client.retrier(business)?, Resources::default());
            let retries: Vec<_> = chosen.iter().map(|chosen| retrier.retry(chosen, &resources)).collect();
            let retried: Vec<Retried> = futures::stream::iter(retries)
                .buffer_unordered(RETRIES)
                .try_collect()
                .await
                .map_err(|error| Problem::unavailable("Some inputs could not be retried", &error))?;
            retried.iter().filter(|retried| matches!(retried, Retried::Published { .. })).count()
        }
        _ => return Err(Problem::bad_request("What is to be done?").next("Add `action=cancel` or `action=retry`.")),
    };
    let action = query.get("action").unwrap_or_default();
    tracing::info!(visitor = visitor.name, business = business.name, session, action, count, "own inputs changed");
    let page = Query::parse(&query.with("action", "")).with("job", "");
    Ok(Redirect::to(&format!("/session?{page}")).into_response())
}

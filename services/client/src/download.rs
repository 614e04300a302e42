//! Downloads: the whole table, streamed as it is read, or one result as the engine wrote it.

use std::sync::Arc;

use axum::{body::Body, extract::State, response::Response};
use bytes::Bytes;
use cloud::{outcomes, storage::Store};
use contract::{config::Business, object, pack::ItemResult};
use futures::{Stream, StreamExt as _};
use sessions::results;
use web::{Problem, Query, Viewer, attachment};

use crate::app::{Client, check_job};

/// Jobs whose results are read at the same time.
const READS: usize = 8;
/// Bytes of the largest result that becomes rows; of a larger one the table has only the size.
const MAX_RESULT: usize = 32 * 1024 * 1024;

/// The table as CSV.
pub(crate) async fn csv(State(client): State<Arc<Client>>, viewer: Viewer, query: Query) -> Result<Response, Problem> {
    let (business, session) = (client.business(&viewer.visitor, &query)?, client.session(&query)?);
    let rows = rows(client.clients.quick.clone(), business.clone(), session).await?;
    let header = Bytes::from(format!("{}\n", results::csv_line(results::COLUMNS)));
    let lines = rows.map(|rows| {
        let mut text = String::new();
        for row in rows? {
            text.push_str(&results::csv_line(row.cells().iter().map(String::as_str)));
            text.push('\n');
        }
        anyhow::Ok(Bytes::from(text))
    });
    let body = futures::stream::iter([Ok(header)]).chain(lines);
    Ok(attachment(Body::from_stream(body), "text/csv; charset=utf-8", &format!("{session}.csv")))
}

/// The table as JSON: a list of rows.
pub(crate) async fn json(State(client): State<Arc<Client>>, viewer: Viewer, query: Query) -> Result<Response, Problem> {
    let (business, session) = (client.business(&viewer.visitor, &query)?, client.session(&query)?);
    let rows = rows(client.clients.quick.clone(), business.clone(), session).await?;
    let mut is_first = true;
    let items = rows.map(move |rows| {
        let mut text = String::new();
        for row in rows? {
            text.push_str(if is_first { "" } else { ",\n" });
            is_first = false;
            text.push_str(&serde_json::to_string(&row)?);
        }
        anyhow::Ok(Bytes::from(text))
    });
    let around = |text: &'static str| futures::stream::iter([anyhow::Ok(Bytes::from(text))]);
    let body = around("[").chain(items).chain(around("]\n"));
    Ok(attachment(Body::from_stream(body), "application/json", &format!("{session}.json")))
}

/// The rows of a session, a Job at a time, a few of them in memory.
async fn rows(
    store: Store,
    business: Business,
    session: &str,
) -> Result<impl Stream<Item = anyhow::Result<Vec<results::Row>>> + Send + use<>, Problem> {
    let prefix = object::outcome_prefix(&business.name, Some(session));
    let listed = store.list(&business.bucket, &prefix).await;
    let listed = listed.map_err(|error| Problem::unavailable("Cloud Storage does not answer", &error))?;
    if listed.is_empty() {
        return Err(
            Problem::not_found(format!("Session {session} has no results")).next("Wait until its first input is done.")
        );
    }
    let latest = results::latest(&business.name, listed.iter().map(|object| object.name.as_str()));
    let reads = futures::stream::iter(latest.jobs).map(move |outcomes| {
        let (store, business) = (store.clone(), business.clone());
        async move { results::read(&store, &business, &outcomes, MAX_RESULT).await }
    });
    let logged = reads.buffered(READS).inspect(|rows| {
        if let Err(error) = rows {
            tracing::warn!("a download broke off: {error:#}");
        }
    });
    Ok(logged.boxed())
}

/// One result as the engine wrote it.
pub(crate) async fn result(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    let (business, session) = (client.business(&viewer.visitor, &query)?, client.session(&query)?);
    let job = query
        .get("job")
        .ok_or_else(|| Problem::bad_request("The input has no name").next("Add `job=NAME` to the query."))?;
    check_job(job)?;
    let store = &client.clients.quick;
    let unavailable = |error: anyhow::Error| Problem::unavailable("Cloud Storage does not answer", &error);
    let gone =
        || Problem::not_found(format!("There is no result of {job}")).next("Results are kept for a limited time.");
    let prefix = format!("{}{job}/", object::outcome_prefix(&business.name, Some(session)));
    let listed = store.list(&business.bucket, &prefix).await.map_err(unavailable)?;
    let of_job = |name: &&str| object::parse_outcome(&business.name, name).is_some_and(|name| name.job == job);
    let names = listed.iter().map(|object| object.name.as_str()).filter(of_job);
    let outcome = results::latest(&business.name, names).jobs.pop().unwrap_or_default();
    let [outcome] = &outcome[..] else { return Err(gone()) };
    let outcome = outcomes::read(store, &business.bucket, outcome).await.map_err(unavailable)?.ok_or_else(gone)?;
    let outcome = outcome.map_err(|unreadable| Problem::internal(unreadable.into()))?;
    let name = format!("{}.result", job.rsplit('/').next().unwrap_or(job));
    if let Some(bytes) = outcome.result.as_ref().and_then(ItemResult::bytes) {
        return Ok(attachment(Body::from(bytes), "application/octet-stream", &name));
    }
    // The results of a pack are in its table.
    let work = outcome.work.filter(|work| work.pack.is_none()).ok_or_else(gone)?;
    let mut contents = store.open(&business.bucket, &work.output()).await.map_err(unavailable)?.ok_or_else(gone)?;
    let pieces = async_stream::stream! {
        while let Some(piece) = contents.next().await {
            yield piece;
        }
    };
    Ok(attachment(Body::from_stream(pieces), "application/octet-stream", &name))
}

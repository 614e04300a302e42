//! The JSON API: what the pages' script uses, and programs may.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde::Serialize;
use serde_json::{Value, json};
use web::{Problem, Query, Viewer};

use crate::{
    app::{Client, FIRST_VIEW, check_job},
    batch::Batch,
    check::{self, MAX_CHECKED, Verdict},
    form,
    limited::Limited,
    upload::{Checkable, Refused, Upload},
};

/// Bytes of inputs that are submitted together.
const MAX_BATCH: usize = 4 * 1024 * 1024;

/// The businesses that the visitor may use.
pub(crate) async fn businesses(State(client): State<Arc<Client>>, viewer: Viewer) -> Response {
    let theirs = viewer.visitor.businesses_of(&client.site.config);
    let names: Vec<&str> = theirs.iter().map(|business| business.name.as_str()).collect();
    Json(json!({ "businesses": names })).into_response()
}

/// The sessions of a business.
pub(crate) async fn sessions(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    let business = client.business(&viewer.visitor, &query)?;
    let overview = client.overview(business)?.first(FIRST_VIEW).await;
    Ok(Json(json!({
        "business": business.name, "sessions": overview.sessions, "more": overview.more, "trouble": overview.error,
    }))
    .into_response())
}

/// The state of a session.
pub(crate) async fn session(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Job<'a> {
        job: &'a str,
        state: &'static str,
        attempt: u32,
        code: &'a str,
        message: &'a str,
    }
    let business = client.business(&viewer.visitor, &query)?;
    let name = client.session(&query)?;
    let session = client.watch(business, name)?.first(FIRST_VIEW).await;
    let jobs: Vec<Job<'_>> = session
        .jobs
        .iter()
        .map(|entry| Job {
            job: &entry.job,
            state: entry.state.as_str(),
            attempt: entry.attempt,
            code: &entry.code,
            message: entry.settled.as_ref().map(|settled| settled.message.as_str()).unwrap_or_default(),
        })
        .collect();
    Ok(Json(json!({
        "business": business.name, "session": name, "counts": session.counts, "progress": session.progress,
        "shared": session.shared, "trouble": session.error, "jobs": jobs,
    }))
    .into_response())
}

/// Whether an input can be computed: a form with files, `input` and perhaps `market`. Nothing is submitted.
pub(crate) async fn check(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
    request: Request,
) -> Result<Json<Verdict>, Problem> {
    let business = client.business(&viewer.visitor, &query)?;
    let job = query
        .get("job")
        .ok_or_else(|| Problem::bad_request("The input has no name").next("Add `job=NAME` to the query."))?;
    check_job(job)?;
    let has_shared = match query.get("session") {
        Some(_) => !client.shared(business, client.session(&query)?).await?.is_empty(),
        None => false,
    };
    let _permit = client.upload_permit().await?;
    let mut fields = form::fields(request)?;
    let (mut input, mut market) = (None, None);
    while let Some(field) = form::next(&mut fields).await? {
        let slot = match field.name() {
            Some("input") => &mut input,
            Some("market") => &mut market,
            _ => continue,
        };
        let mut body = Limited::new(form::bytes(field), None, u64::MAX);
        match body.whole(MAX_CHECKED).await? {
            Some(bytes) => *slot = Some(bytes),
            None => return Ok(Json(Verdict::Unchecked { summary: check::too_large() })),
        }
    }
    let input: Bytes = input.ok_or_else(|| Problem::bad_request("There is no field `input`"))?;
    let kind = sessions::submit::content_type(job);
    let input = Checkable { name: job, kind, bytes: &input, is_split: rows_per_item(&query).is_some() };
    let found = client.check(business, input, market.as_deref(), has_shared).await?;
    Ok(Json(found))
}

/// Submits one input: the body is its bytes.
pub(crate) async fn input(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let business = client.business(&viewer.visitor, &query)?;
    let session = client.session(&query)?;
    let job = query
        .get("job")
        .ok_or_else(|| Problem::bad_request("The input has no name").next("Add `job=NAME` to the query."))?;
    check_job(job)?;
    let rows_per_item = rows_per_item(&query).map(form::rows_per_item).transpose()?;
    let upload = Upload {
        business,
        session,
        job,
        content_type: headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()),
        priority: query.get("priority") == Some("true"),
        rows_per_item,
        market: None,
    };
    let body = limited(&headers, body, client.max_bytes(business, job));
    match client.submit(&viewer.visitor, upload, body).await {
        Ok(uploaded) => Ok((StatusCode::CREATED, Json(uploaded)).into_response()),
        Err(Refused::Problem(problem)) => Err(problem),
        Err(Refused::Wrong(verdict)) => {
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Json(malformed(job, &verdict))).into_response())
        }
    }
}

/// The answer for an input that can never be computed.
fn malformed(job: &str, verdict: &Verdict) -> Value {
    let (Verdict::Wrong { summary, .. } | Verdict::Good { summary, .. } | Verdict::Unchecked { summary }) = verdict;
    let what = format!("{job} cannot be computed: {summary}");
    let mut answer = json!(verdict);
    answer["code"] = json!("malformed-input");
    answer["what"] = json!(what);
    answer["next"] = json!("Correct it and submit it again.");
    answer
}

/// Submits many small inputs: a form with a file for each, whose name is that of the input. The answer has the result
/// of each; those that were refused have a `code`.
pub(crate) async fn inputs(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
    request: Request,
) -> Result<Response, Problem> {
    let business = client.business(&viewer.visitor, &query)?;
    let session = client.session(&query)?;
    let _permit = client.upload_permit().await?;
    let mut fields = form::fields(request)?;
    let (mut files, mut room) = (BTreeMap::new(), MAX_BATCH);
    while let Some(field) = form::next(&mut fields).await? {
        let Some(name) = form::file_name(&field) else { continue };
        let mut body = Limited::new(form::bytes(field), None, room as u64);
        let bytes = body.whole(room).await?.unwrap_or_default();
        room -= bytes.len();
        if files.len() >= client.uploads.max_files {
            return Err(Problem::bad_request(format!("A request may have {} files", client.uploads.max_files)));
        }
        if files.contains_key(&name) {
            return Err(Problem::bad_request(format!("Two files are called {name}")).next("Rename one of them."));
        }
        files.insert(name, bytes);
    }
    let batch = Batch { business, session, priority: query.get("priority") == Some("true"), files };
    let results = client.submit_batch(&viewer.visitor, batch).await?;
    let answers = results.into_iter().map(|(job, result)| {
        let mut answer = match result {
            Ok(uploaded) => json!(uploaded),
            Err(Refused::Problem(problem)) => json!(problem),
            Err(Refused::Wrong(verdict)) => malformed(&job, &verdict),
        };
        answer["job"] = json!(job);
        answer
    });
    Ok(Json(json!({ "session": session, "inputs": answers.collect::<Vec<_>>() })).into_response())
}

/// Shares data with every input of a session that is submitted later: the body is its bytes.
pub(crate) async fn shared(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let business = client.business(&viewer.visitor, &query)?;
    let session = client.session(&query)?;
    let name = query
        .get("name")
        .ok_or_else(|| Problem::bad_request("The shared data has no name").next("Add `name=NAME` to the query."))?;
    let body = limited(&headers, body, client.max_bytes(business, name));
    let uploaded = client.share(&viewer.visitor, business, session, name, body).await?;
    Ok((StatusCode::CREATED, Json(uploaded)).into_response())
}

/// The rows of an item, by its name or by that of earlier versions.
fn rows_per_item(query: &Query) -> Option<&str> {
    query.get("rows-per-item").or_else(|| query.get("rows-per-task"))
}

fn limited(headers: &HeaderMap, body: Body, max: u64) -> Limited {
    let expected = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    Limited::new(body.into_data_stream().map_err(std::io::Error::other), expected, max)
}

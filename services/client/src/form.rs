//! The form as browsers send it without a script: fields and files, one after the other, streamed on.

use std::{io, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use jiff::Timestamp;
use multer::{Field, Multipart};
use serde::Serialize;
use sessions::submit::session_name;
use tera::Context;
use web::{Page, Problem, Query, Viewer};

use crate::{
    app::{Client, check_session},
    check::{InputProblem, MAX_CHECKED, Verdict},
    limited::Limited,
    upload::{Refused, Upload, Uploaded},
};

/// Bytes of a field that is not a file.
const MAX_TEXT: usize = 4096;

/// The fields of a form with files.
///
/// # Errors
/// When the request has no such form.
pub(crate) fn fields(request: Request) -> Result<Multipart<'static>, Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind)
        .map_err(|_| Problem::bad_request("This is not a form with files").next("Send it as multipart/form-data."))?;
    Ok(Multipart::new(request.into_body().into_data_stream(), boundary))
}

/// The next field.
///
/// # Errors
/// When the form breaks off or is malformed.
pub(crate) async fn next(fields: &mut Multipart<'static>) -> Result<Option<Field<'static>>, Problem> {
    fields
        .next_field()
        .await
        .map_err(|error| Problem::bad_request("The form is incomplete").why(error.to_string()).next("Send it again."))
}

/// A field's bytes as a stream.
pub(crate) fn bytes(field: Field<'static>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    field.map_err(io::Error::other)
}

/// Rows that each item has.
///
/// # Errors
/// When it is not such a number.
pub(crate) fn rows_per_item(text: &str) -> Result<u32, Problem> {
    text.parse().ok().filter(|rows| *rows > 0).ok_or_else(|| {
        Problem::bad_request(format!("{text:?} is not a number of rows")).next("Give a whole number from 1.")
    })
}

async fn text(field: Field<'static>) -> Result<String, Problem> {
    let mut body = Limited::new(bytes(field), None, MAX_TEXT as u64);
    let bytes = body.whole(MAX_TEXT).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A file name as browsers write it in a form: quotes and line breaks are escaped.
fn unescaped(name: &str) -> String {
    name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

/// The name of a field's file: a client may send only the extended form, `filename*=UTF-8''NAME`.
pub(crate) fn file_name(field: &Field<'_>) -> Option<String> {
    let disposition = || field.headers().get(header::CONTENT_DISPOSITION)?.to_str().ok();
    let name = field.file_name().map(unescaped).or_else(|| extended(disposition()?));
    name.filter(|name| !name.is_empty())
}

/// The extended file name of a `Content-Disposition` (RFC 8187).
fn extended(disposition: &str) -> Option<String> {
    let value = disposition.split(';').find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("filename*").then(|| value.trim())
    })?;
    let (charset, rest) = value.split_once('\'')?;
    let (_, name) = rest.split_once('\'')?;
    // A query has the same encoding, but for the plus sign.
    let name = Query::parse(&format!("name={}", name.replace('+', "%2B")));
    name.get("name").filter(|_| charset.eq_ignore_ascii_case("utf-8")).map(str::to_owned)
}

/// The result for one file.
#[derive(Debug, Serialize)]
struct FileResult {
    job: String,
    is_good: bool,
    summary: String,
    next: String,
    problems: Vec<InputProblem>,
}

impl FileResult {
    fn of(job: &str, result: Result<Uploaded, Refused>) -> Self {
        let job = job.to_owned();
        let (summary, next, problems) = match result {
            Ok(Uploaded { summary, .. }) => {
                return Self { job, is_good: true, summary, next: String::new(), problems: Vec::new() };
            }
            Err(Refused::Problem(problem)) => {
                let why = problem.why.map(|why| format!(": {why}")).unwrap_or_default();
                (format!("{}{why}", problem.what), problem.next.unwrap_or_default(), Vec::new())
            }
            Err(Refused::Wrong(Verdict::Wrong { summary, problems })) => {
                (summary, "Correct it and submit it again.".to_owned(), problems)
            }
            Err(Refused::Wrong(Verdict::Good { summary, .. } | Verdict::Unchecked { summary })) => {
                (summary, String::new(), Vec::new())
            }
        };
        Self { job, is_good: false, summary, next, problems }
    }
}

/// The options of the form, as far as its fields have been read.
#[derive(Default)]
struct Options {
    session: String,
    payload_name: String,
    priority: bool,
    rows_per_item: Option<u32>,
    market: Option<Bytes>,
}

/// Submits the inputs of a form, and redirects to its session, or shows which files were refused.
pub(crate) async fn submit(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
    request: Request,
) -> Result<Response, Problem> {
    let business = client.business(&viewer.visitor, &query)?;
    let mut fields = fields(request)?;
    let fresh = session_name(Timestamp::now(), &viewer.visitor.csrf);
    let mut options = Options { session: fresh, ..Options::default() };
    let mut files: Vec<FileResult> = Vec::new();
    while let Some(field) = next(&mut fields).await? {
        let name = field.name().unwrap_or_default().to_owned();
        let file = file_name(&field);
        if let Some(file) = file.as_ref().filter(|_| files.len() >= client.uploads.max_files) {
            let what = format!("A form may have {} files", client.uploads.max_files);
            let problem = Problem::bad_request(what).why("this file and those after it were not submitted");
            let problem = problem.next("Submit them in another form, or with the command line.");
            files.push(FileResult::of(file, Err(Refused::Problem(problem))));
            break;
        }
        match (name.as_str(), file) {
            ("session", _) => {
                let session = text(field).await?;
                if !session.is_empty() {
                    check_session(&session)?;
                    options.session = session;
                }
            }
            ("priority", _) => options.priority = text(field).await? == "true",
            ("rows-per-item" | "rows-per-task", _) => {
                let rows = text(field).await?;
                options.rows_per_item = if rows.is_empty() { None } else { Some(rows_per_item(&rows)?) };
            }
            ("payload-name", _) => options.payload_name = text(field).await?,
            ("shared", Some(file)) => {
                let mut body = Limited::new(bytes(field), None, client.max_bytes(business, &file));
                let whole = body.whole(MAX_CHECKED).await?;
                if kernel::market([file.as_str()]).is_ok_and(|market| market.is_some()) {
                    options.market = whole;
                }
                let shared = client.share(&viewer.visitor, business, &options.session, &file, body).await;
                let result = FileResult::of(&file, shared.map_err(Refused::Problem));
                let is_good = result.is_good;
                files.push(result);
                if !is_good {
                    // The inputs must not run without their shared data.
                    break;
                }
            }
            ("inputs", Some(file)) => {
                let body = Limited::new(bytes(field), None, client.max_bytes(business, &file));
                files.push(one(&client, &viewer, &options, business, &file, body).await);
            }
            ("payload", _) => {
                let mut body = Limited::new(bytes(field), None, client.uploads.max_bytes);
                let whole = body.whole(MAX_CHECKED).await?;
                let begins = whole.as_deref().unwrap_or_default();
                if whole.as_ref().is_some_and(|bytes| bytes.trim_ascii().is_empty()) {
                    continue;
                }
                let job = match options.payload_name.as_str() {
                    "" => pasted_name(begins),
                    name => name,
                };
                files.push(one(&client, &viewer, &options, business, job, body).await);
            }
            _ => {}
        }
    }
    if files.is_empty() {
        return Err(Problem::bad_request("There is nothing to submit").next("Choose files or paste a payload."));
    }
    let link = web::encode([("business", business.name.as_str()), ("session", options.session.as_str())]);
    if files.iter().all(|result| result.is_good) {
        return Ok(Redirect::to(&format!("/session?{link}")).into_response());
    }
    let mut context = Context::new();
    context.insert("files", &files);
    context.insert("link", &link);
    context.insert("session", &options.session);
    context.insert("good", &files.iter().filter(|result| result.is_good).count());
    let title = "Not everything was submitted".to_owned();
    let mut response = client
        .site
        .render(&viewer, Page { template: "client/submitted.html", title, nav: "/", live: None, context })?;
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}

async fn one(
    client: &Client,
    viewer: &Viewer,
    options: &Options,
    business: &contract::config::Business,
    job: &str,
    body: Limited,
) -> FileResult {
    let upload = Upload {
        business,
        session: &options.session,
        job,
        content_type: None,
        priority: options.priority,
        rows_per_item: options.rows_per_item.filter(|_| job.to_ascii_lowercase().ends_with(".csv")),
        market: options.market.as_deref(),
    };
    FileResult::of(job, client.submit(&viewer.visitor, upload, body).await)
}

/// Name of a pasted payload, when the form has none.
fn pasted_name(bytes: &[u8]) -> &'static str {
    match kernel::asked(bytes, "", "") {
        Some(kernel::Format::Json) => "payload.json",
        Some(kernel::Format::Csv) => "payload.csv",
        None => "payload.txt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_payload_is_called_after_what_it_is() {
        assert_eq!(pasted_name(b" {}"), "payload.json");
        assert_eq!(pasted_name(b"id,kind,strike\n"), "payload.csv");
        assert_eq!(pasted_name(b"engine payload 1"), "payload.txt");
        let check = |disposition: &str, expected: Option<&str>| assert_eq!(extended(disposition).as_deref(), expected);
        check("form-data; name=\"inputs\"; filename*=UTF-8''caf%C3%A9%3B.json", Some("café;.json"));
        check("form-data; name=inputs; FileName* = utf-8'fr'a", Some("a"));
        check("form-data; name=inputs; filename*=latin1''a", None);
        check("form-data; name=inputs", None);
        assert_eq!(unescaped("a%22b%0D%0Ac%20.json"), "a\"b\r\nc%20.json");
    }
}

//! What every request must pass: a plain path, access, and for changes the proof that a page of ours asked.

use std::sync::Arc;

use aws_lc_rs::constant_time;
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tower_http::csrf::{CsrfLayer, ProtectionError};

use crate::{Form, Problem, Site, Visitor, limits::MAX_FORM_BYTES, query};

mod multipart;

/// Header that carries the proof where there is no form.
const CSRF_HEADER: &str = "x-csrf-token";
/// Field that carries it in a form.
const CSRF_FIELD: &str = "csrf";

/// Lets a request through, or says why not.
pub(crate) async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    match checked(&site, request).await {
        Ok(request) => next.run(request).await,
        Err(answer) => *answer,
    }
}

async fn checked(site: &Site, request: Request) -> Result<Request, Box<Response>> {
    let refuse = |problem: Problem| Box::new(problem.into_response());
    plain(&request).map_err(refuse)?;
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD);
    let (mut request, form) = with_form(request, is_change).await.map_err(refuse)?;
    let path = request.uri().path();
    if path == "/login" || path.starts_with("/assets/") {
        request.extensions_mut().insert(form);
        return Ok(request);
    }
    let visitor = site.access.identify(request.headers()).await.map_err(|error| {
        tracing::error!("failed to {error:#}");
        refuse(
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "access-unknown", "Nobody can be let in right now")
                .why("what says who may use this cannot be read")
                .next("The program's log says what is wrong."),
        )
    })?;
    let Some(visitor) = visitor else { return Err(Box::new(nobody(site, &request))) };
    if is_change && !visitor.is_program && !is_proven(&visitor, request.headers(), &form) {
        return Err(refuse(
            Problem::new(StatusCode::FORBIDDEN, "stale-page", "This page is too old to change anything")
                .why("the proof that it is yours is missing or not of this session")
                .next("Load the page again, then do it once more."),
        ));
    }
    let extensions = request.extensions_mut();
    extensions.insert(visitor);
    extensions.insert(form);
    Ok(request)
}

/// Paths of ours are made of a few plain characters; everything else is a trick or a typing error.
fn plain(request: &Request) -> Result<(), Problem> {
    let path = request.uri().path();
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte))
        && !path.contains("//")
        && !path.split('/').any(|part| part.starts_with('.'));
    if !is_plain || request.uri().authority().is_some() {
        return Err(Problem::bad_request("This address is not one of ours").next("Start at the first page."));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    if hosts.next().is_none() || hosts.next().is_some() {
        return Err(Problem::bad_request("A request needs exactly one Host header"));
    }
    Ok(())
}

/// Refuses a request to change something that a browser sent for another site.
pub(crate) fn same_site() -> CsrfLayer<impl Fn(ProtectionError) -> Response + Clone> {
    CsrfLayer::new().with_rejection_response(|_| {
        Problem::new(StatusCode::FORBIDDEN, "other-site", "Another site must not change anything here").into_response()
    })
}

/// Reads a form, which is small, or the proof that begins one with files; any other body stays what it is.
async fn with_form(request: Request, is_change: bool) -> Result<(Request, Form), Problem> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_form = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded");
    if !is_change || !is_form {
        return match multipart::boundary(request.headers()).filter(|_| is_change) {
            Some(boundary) if !request.headers().contains_key(CSRF_HEADER) => {
                multipart::first_field(request, &boundary).await
            }
            _ => Ok((request, Form::default())),
        };
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_FORM_BYTES).await.map_err(|error| {
        let text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        if text.contains("length limit") {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "This form is too large")
                .why(format!("a form may have {MAX_FORM_BYTES} bytes"))
        } else {
            Problem::bad_request("The form did not come whole").next("Send it again.")
        }
    })?;
    let form = Form::parse(&body);
    Ok((Request::from_parts(parts, Body::from(body)), form))
}

fn is_proven(visitor: &Visitor, headers: &HeaderMap, form: &Form) -> bool {
    let header = headers.get(CSRF_HEADER).map(HeaderValue::as_bytes);
    let shown = header.or_else(|| form.get(CSRF_FIELD).map(str::as_bytes)).unwrap_or_default();
    !visitor.csrf.is_empty() && constant_time::verify_slices_are_equal(visitor.csrf.as_bytes(), shown).is_ok()
}

/// Who is not known goes to the login page; a program is told so.
fn nobody(site: &Site, request: &Request) -> Response {
    if wants_page(request) && site.access.tokens().is_some() && request.method() == Method::GET {
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let login = match path.as_str() {
            "/" => "/login".to_owned(),
            _ => format!("/login?{}", query::encode([("next", path.as_str())])),
        };
        let location = HeaderValue::from_str(&login).unwrap_or(HeaderValue::from_static("/login"));
        return (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response();
    }
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "no-access", "This is only for those who have access");
    let problem = match site.access.tokens() {
        Some(_) => problem.next("Log in, or send `Authorization: Bearer TOKEN`."),
        None => problem.next("Come through Identity-Aware Proxy, with an account that is let through."),
    };
    let mut response = problem.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"deskgrid\""));
    response
}

/// Whether a person's browser asks for a page.
pub(crate) fn wants_page(request: &Request) -> bool {
    let path = request.uri().path();
    let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    !path.starts_with("/api/") && accepts.contains("text/html")
}

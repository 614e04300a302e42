//! Checks of every request: a plain path, access, and for changes the proof that a page of this app sent it.

use std::sync::Arc;

use aws_lc_rs::constant_time;
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use tower_http::csrf::{CsrfLayer, ProtectionError};

use crate::{Form, Problem, Site, Visitor, form::CSRF_FIELD, limits::MAX_FORM_BYTES, page::wants_page, query};

mod multipart;

/// Header that carries the proof when there is no form.
const CSRF_HEADER: &str = "x-csrf-token";

/// Passes a request on, or answers why not.
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
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "access-unknown", "Access cannot be checked right now")
                .why("the list of people or tokens with access cannot be read")
                .next("See the log of this program."),
        )
    })?;
    let Some(visitor) = visitor else { return Err(Box::new(deny(site, &request))) };
    if is_change && !visitor.is_program && !is_proven(&visitor, request.headers(), &form) {
        return Err(refuse(
            Problem::new(StatusCode::FORBIDDEN, "stale-page", "This page is too old to change anything")
                .why("its proof is missing or belongs to another session")
                .next("Reload the page, then try again."),
        ));
    }
    let extensions = request.extensions_mut();
    extensions.insert(visitor);
    extensions.insert(form);
    Ok(request)
}

/// Our paths consist of a few plain characters; any other path is a trick or a typing error.
fn plain(request: &Request) -> Result<(), Problem> {
    let path = request.uri().path();
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte))
        && !path.contains("//")
        && !path.split('/').any(|part| part.starts_with('.'));
    if !is_plain || request.uri().authority().is_some() {
        return Err(Problem::bad_request("This is not an address of this app").next("Start at the first page."));
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

/// Reads a small form, or the proof at the beginning of a form with files; any other body is passed on unread.
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
            Problem::bad_request("The form is incomplete").next("Send it again.")
        }
    })?;
    let form = Form::parse(&body);
    Ok((Request::from_parts(parts, Body::from(body)), form))
}

fn is_proven(visitor: &Visitor, headers: &HeaderMap, form: &Form) -> bool {
    let header = headers.get(CSRF_HEADER).map(HeaderValue::as_bytes);
    let presented = header.or_else(|| form.get(CSRF_FIELD).map(str::as_bytes)).unwrap_or_default();
    !visitor.csrf.is_empty() && constant_time::verify_slices_are_equal(visitor.csrf.as_bytes(), presented).is_ok()
}

/// Sends a browser without access to the login page; answers a program with 401.
fn deny(site: &Site, request: &Request) -> Response {
    if wants_page(request) && site.access.tokens().is_some() && request.method() == Method::GET {
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let login = match path.as_str() {
            "/" => "/login".to_owned(),
            _ => format!("/login?{}", query::encode([("next", path.as_str())])),
        };
        return Redirect::to(&login).into_response();
    }
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "no-access", "This is only for those who have access");
    let problem = match site.access.tokens() {
        Some(_) => problem.next("Log in, or send `Authorization: Bearer TOKEN`."),
        None => problem.next("Use Identity-Aware Proxy, with an account that has access."),
    };
    let mut response = problem.into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"deskgrid\""));
    response
}

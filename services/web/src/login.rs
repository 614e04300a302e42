//! Login with a token, and logout.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Extension, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use jiff::Timestamp;

use crate::{
    Form, Peer, Problem, Query, Site,
    access::{cookies, session},
    page, path_of_ours,
};

/// Characters of the name that a person gives.
const MAX_NAME: usize = 40;

/// `/login` and `/logout`.
pub(crate) fn routes(site: Arc<Site>) -> Router {
    Router::new().route("/login", get(show).post(log_in)).route("/logout", post(log_out)).with_state(site)
}

async fn show(State(site): State<Arc<Site>>, headers: HeaderMap, query: Query) -> Result<Response, Problem> {
    if site.access.identify(&headers).await.ok().flatten().is_some() {
        return Ok(Redirect::to(path_of_ours(query.get("next"))).into_response());
    }
    form(&site, &headers, query.get("next"), None)
}

fn form(site: &Site, headers: &HeaderMap, next: Option<&str>, wrong: Option<&str>) -> Result<Response, Problem> {
    let mut context = tera::Context::new();
    context.insert("next", path_of_ours(next));
    context.insert("wrong", &wrong.unwrap_or_default());
    context.insert("by_token", &site.access.tokens().is_some());
    let status = if wrong.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    site.bare_page(status, page::theme(headers), "web/login.html", "Log in", context)
}

async fn log_in(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    fields: Form,
) -> Result<Response, Problem> {
    let Some((file, sessions)) = site.access.tokens() else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-login", "Log in through Identity-Aware Proxy, not here"));
    };
    let address = peer.0.ip();
    let tokens = file.tokens().await.map_err(Problem::internal)?;
    // The right token is accepted whatever others presented from the same address: a proxy has one for all.
    let Some(token) = tokens.find(fields.get("token").unwrap_or_default().trim()) else {
        if let Some(wait) = site.access.limiter.wait(address, Instant::now()) {
            let secs = wait.as_secs() + 1;
            tracing::warn!(%address, "too many wrong tokens");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tries", "Too many wrong tokens")
                .next(format!("Wait {secs} s, then try again."))
                .retry_after(secs));
        }
        site.access.limiter.record_failure(address, Instant::now());
        tracing::warn!(%address, "a wrong token was presented");
        return form(&site, &headers, fields.get("next"), Some("This token is not known."));
    };
    let name: String = fields.get("name").unwrap_or_default().trim().chars().take(MAX_NAME).collect();
    let name: String = name.chars().filter(|character| !character.is_control()).collect();
    tracing::info!(%address, name, token = token.fingerprint, "logged in");
    let cookie = sessions.seal(token, &name, Timestamp::now());
    let cookie = set_cookie(&site, &cookie, session::LASTS.as_secs());
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(path_of_ours(fields.get("next")))).into_response())
}

async fn log_out(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Response, Problem> {
    if let Some((file, sessions)) = site.access.tokens() {
        let tokens = file.tokens().await.map_err(Problem::internal)?;
        let cookie = cookies(&headers).find(|(name, _)| *name == site.access.cookie);
        if let Some((_, cookie)) = cookie {
            let ended = sessions.end(cookie, &tokens, Timestamp::now()).await;
            ended.unwrap_or_else(|error| tracing::warn!("a log-out may not hold after a restart: {error:#}"));
        }
    }
    Ok(([(header::SET_COOKIE, set_cookie(&site, "", 0))], Redirect::to("/login")).into_response())
}

fn set_cookie(site: &Site, value: &str, max_age_secs: i64) -> String {
    let secure = if site.access.tls { "; Secure" } else { "" };
    let path = if site.base_path.is_empty() { "/" } else { &site.base_path };
    format!("{}={value}; Path={path}; Max-Age={max_age_secs}; HttpOnly; SameSite=Strict{secure}", site.access.cookie)
}

//! Logging in with a token, and out.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Extension, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use jiff::Timestamp;

use super::{cookies, session};
use crate::{Form, Peer, Problem, Query, Site, page};

/// Most characters of the name that somebody gives.
const NAME_MAX: usize = 40;

/// `/login` and `/logout`.
pub(crate) fn routes(site: Arc<Site>) -> Router {
    Router::new().route("/login", get(ask).post(enter)).route("/logout", post(leave)).with_state(site)
}

async fn ask(State(site): State<Arc<Site>>, headers: HeaderMap, query: Query) -> Result<Response, Problem> {
    if site.access.identify(&headers).await.ok().flatten().is_some() {
        return Ok(see_other(&target(query.get("next")), None));
    }
    form(&site, &headers, query.get("next"), None)
}

fn form(site: &Site, headers: &HeaderMap, next: Option<&str>, wrong: Option<&str>) -> Result<Response, Problem> {
    let mut context = tera::Context::new();
    context.insert("next", &target(next));
    context.insert("wrong", &wrong.unwrap_or_default());
    context.insert("by_token", &site.access.tokens().is_some());
    let status = if wrong.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    site.bare_page(status, page::theme(headers), "web/login.html", "Log in", context)
}

async fn enter(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    fields: Form,
) -> Result<Response, Problem> {
    let Some((file, sessions)) = site.access.tokens() else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no-login", "People log in at Identity-Aware Proxy, not here"));
    };
    let address = peer.0.ip();
    if let Some(wait) = site.access.limiter.wait(address, Instant::now()) {
        let secs = wait.as_secs() + 1;
        tracing::warn!(%address, "too many wrong tokens");
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tries", "Too many wrong tokens")
            .next(format!("Wait {secs} s, then try again."))
            .retry_after(secs));
    }
    let tokens = file.tokens().await.map_err(Problem::internal)?;
    let Some(token) = tokens.find(fields.get("token").unwrap_or_default().trim()) else {
        site.access.limiter.failed(address, Instant::now());
        tracing::warn!(%address, "a wrong token was presented");
        return form(&site, &headers, fields.get("next"), Some("This token is not known."));
    };
    let name: String = fields.get("name").unwrap_or_default().trim().chars().take(NAME_MAX).collect();
    let name: String = name.chars().filter(|character| !character.is_control()).collect();
    tracing::info!(%address, name, token = token.fingerprint, "logged in");
    let cookie = sessions.seal(token, &name, Timestamp::now());
    Ok(see_other(&target(fields.get("next")), Some(&set_cookie(&site, &cookie, session::LASTS.as_secs()))))
}

async fn leave(State(site): State<Arc<Site>>, headers: HeaderMap) -> Result<Response, Problem> {
    if let Some((file, sessions)) = site.access.tokens() {
        let tokens = file.tokens().await.map_err(Problem::internal)?;
        let cookie = cookies(&headers).find(|(name, _)| *name == site.access.cookie);
        if let Some((_, cookie)) = cookie {
            sessions.end(cookie, &tokens, Timestamp::now());
        }
    }
    Ok(see_other("/login", Some(&set_cookie(&site, "", 0))))
}

fn set_cookie(site: &Site, value: &str, max_age_secs: i64) -> String {
    let secure = if site.access.tls { "; Secure" } else { "" };
    format!("{}={value}; Path=/; Max-Age={max_age_secs}; HttpOnly; SameSite=Strict{secure}", site.access.cookie)
}

fn see_other(path: &str, cookie: Option<&str>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/")));
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Where to go after login: a path of this app, and never another site.
fn target(next: Option<&str>) -> String {
    let is_ours = |path: &&str| {
        let rest = path.strip_prefix('/');
        rest.is_some_and(|rest| !rest.starts_with(['/', '\\']))
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
            && !path.starts_with("/log")
            && !path.starts_with("/live")
    };
    next.filter(is_ours).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_leads_to_a_page_of_ours_only() {
        assert_eq!(target(Some("/jobs?state=failed&q=%20a")), "/jobs?state=failed&q=%20a");
        for bad in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb", "jobs", "/login"] {
            assert_eq!(target(Some(bad)), "/", "{bad}");
        }
    }
}

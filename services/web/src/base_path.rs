//! An app under a path of its own, behind a reverse proxy.
//!
//! The app itself knows only addresses without that path. It is taken off requests, unless the proxy has done so, and put
//! before the addresses in pages and redirects. Scripts use addresses relative to the page.

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Uri, header},
    response::{IntoResponse as _, Redirect, Response},
};
use tower::ServiceExt as _;

/// Attributes with an address.
const ATTRIBUTES: [&str; 5] = ["href", "src", "action", "formaction", "data-worker"];

/// The HTML with addresses under this path. In texts, quotes are escaped: only templates have these attributes.
pub(crate) fn prefixed(html: String, base_path: &str) -> String {
    if base_path.is_empty() {
        return html;
    }
    let prefix = |html: String, name: &&str| html.replace(&format!(" {name}=\"/"), &format!(" {name}=\"{base_path}/"));
    ATTRIBUTES.iter().fold(html, prefix)
}

/// Serves an app under this path.
pub(crate) fn mounted(router: Router, base_path: &str) -> Router {
    if base_path.is_empty() {
        return router;
    }
    let base_path = base_path.to_owned();
    Router::new().fallback(async move |request: Request| answer(router.clone(), &base_path, request).await)
}

async fn answer(router: Router, base_path: &str, mut request: Request) -> Response {
    let address = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    match address.strip_prefix(base_path) {
        Some("") => return Redirect::to(&format!("{base_path}/")).into_response(),
        Some(rest) if rest.starts_with('/') => match rest.parse::<Uri>() {
            Ok(inner) => *request.uri_mut() = inner,
            Err(_) => return Redirect::to(&format!("{base_path}/")).into_response(),
        },
        _ => {}
    }
    let mut answer = router.oneshot(request).await.unwrap_or_else(|never| match never {});
    let to = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).filter(|to| to.starts_with('/'));
    if let Some(to) = to.and_then(|to| HeaderValue::from_str(&format!("{base_path}{to}")).ok()) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

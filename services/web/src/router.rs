//! The layers around the routes of an app: access, limits, error pages, headers, counters.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use cloud::{probes, probes::Health};
use prometheus_client::registry::Registry;

use crate::{
    Problem, Site, assets, base_path, guard, headers,
    limits::{self, MAX_FORM_BYTES},
    login, page, shared,
};

/// The routes of an app. Every one of them is behind access and the protection of changes.
#[derive(Debug, Default)]
pub struct Routes {
    /// Pages and small requests: a body has at most [`MAX_FORM_BYTES`], and the answer comes within a time limit.
    pub pages: Router,
    /// Uploads, downloads and live streams: their handlers limit size and time themselves. A body that comes too
    /// slowly is refused here too.
    pub streams: Router,
}

impl Site {
    /// Everything that is served: the app's routes behind their protection, login, assets and probes.
    pub fn router(self: &Arc<Self>, routes: Routes, health: Health, registry: Arc<Registry>) -> Router {
        let pages = routes
            .pages
            .merge(login::routes(self.clone()))
            .route("/assets/{name}", get(assets::get).with_state(self.assets.clone()))
            .route("/metrics", get(move || probes::render(registry.clone())))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .layer(middleware::from_fn_with_state(self.app.limits, limits::with_timeout));
        let shared = shared::route(routes.streams.clone(), self.stop.clone());
        let streams = routes.streams.layer(DefaultBodyLimit::disable()).merge(shared);
        let router = pages
            .merge(streams)
            .fallback(async || Problem::not_found("There is no such page").next("The navigation lists the pages."))
            .method_not_allowed_fallback(async || {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This cannot be done here")
            })
            .layer(middleware::from_fn_with_state(self.clone(), guard::guard))
            .layer(guard::same_site())
            .layer(middleware::from_fn_with_state(self.app.limits, limits::with_pace))
            .merge(probes::router(health))
            .layer(middleware::from_fn_with_state(self.clone(), finish));
        base_path::mounted(headers::with_headers(router, self.access.tls), &self.base_path)
    }
}

/// Counts and logs each request, and renders problems as pages for people.
async fn finish(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let since = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let wants_page = page::wants_page(&request);
    let theme = page::theme(request.headers());
    let response = next.run(request).await;
    let elapsed = since.elapsed();
    site.metrics.answered(response.status().as_u16(), elapsed);
    tracing::debug!(%method, path, status = response.status().as_u16(), millis = elapsed.as_millis() as u64, "answered");
    let Some(problem) = response.extensions().get::<Problem>().filter(|_| wants_page).cloned() else {
        return response;
    };
    let mut context = tera::Context::new();
    context.insert("problem", &problem);
    context.insert("status", &problem.status.as_u16());
    match site.bare_page(problem.status, theme, "web/problem.html", &problem.what, context) {
        Ok(mut page) => {
            for name in [header::RETRY_AFTER, header::CONNECTION] {
                if let Some(value) = response.headers().get(&name).cloned() {
                    page.headers_mut().insert(name, value);
                }
            }
            page.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            page
        }
        Err(_) => response,
    }
}

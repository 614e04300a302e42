//! One app: what it brings, and what is put around it.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use common::{config::Config, probes, probes::Health};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tera::Tera;
use tokio_util::sync::CancellationToken;

use crate::{
    Asset, NavItem, Page, Problem, Settings, Viewer,
    access::{Access, login},
    assets::{self, Assets},
    guard, headers,
    limits::{self, Limits, MAX_FORM_BYTES},
    live::Streams,
    metrics::Metrics,
};

const TEMPLATES: [(&str, &str); 4] = [
    ("web/components.html", include_str!("templates/components.html")),
    ("web/layout.html", include_str!("templates/layout.html")),
    ("web/login.html", include_str!("templates/login.html")),
    ("web/problem.html", include_str!("templates/problem.html")),
];

/// What an app brings.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name: `monitor`, `client`.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// Its navigation.
    pub nav: &'static [NavItem],
    /// Its templates by name. Those whose name ends in `.html` escape all that they show.
    pub templates: &'static [(&'static str, &'static str)],
    /// Its own files.
    pub assets: &'static [Asset],
    /// How slow things may be.
    pub limits: Limits,
}

/// The routes of an app. Every one of them is behind access and the protection of changes.
#[derive(Debug, Default)]
pub struct Routes {
    /// Pages and small requests: a body has at most [`MAX_FORM_BYTES`], and the answer comes within a time limit.
    pub pages: Router,
    /// Uploads, downloads and live streams: their handlers limit size and time themselves. A body that comes too
    /// slowly is refused here too.
    pub streams: Router,
}

/// An app that is being served.
#[derive(Debug)]
pub struct Site {
    /// What it brings.
    pub app: App,
    /// The environment it serves.
    pub config: Config,
    /// Ends live streams when the server stops.
    pub stop: CancellationToken,
    pub(crate) access: Access,
    pub(crate) assets: Assets,
    pub(crate) metrics: Metrics,
    pub(crate) streams: Streams,
    tera: Tera,
    tls: bool,
}

/// What every page is told.
#[derive(Serialize)]
struct Frame<'a> {
    app: &'static str,
    name: &'static str,
    environment: &'a str,
    project: &'a str,
    nav: &'static [NavItem],
    current: &'a str,
    title: &'a str,
    theme: &'a str,
    assets: BTreeMap<String, String>,
    visitor: &'a str,
    csrf: &'a str,
    url: &'a str,
    live: Option<&'a str>,
    can_log_out: bool,
}

impl Site {
    /// Reads the tokens and the templates. Metrics of requests are added to `registry`.
    ///
    /// # Errors
    /// When the tokens cannot be read, or a template is wrong.
    pub fn new(
        app: App,
        settings: &Settings,
        registry: &mut Registry,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let mut tera = Tera::new();
        tera.autoescape_on(vec![".html"]);
        tera.add_raw_templates(TEMPLATES.iter().chain(app.templates).copied().collect::<Vec<_>>())
            .map_err(|error| anyhow::anyhow!("{error}"))
            .context("read the templates")?;
        let metrics = Metrics::new(registry);
        Ok(Self {
            access: Access::new(app.name, settings)?,
            assets: Assets::new(app.assets),
            streams: Streams::new(metrics.streams.clone()),
            metrics,
            config: settings.config.clone(),
            tls: settings.tls,
            app,
            stop,
            tera,
        })
    }

    /// Everything that is served: the app's routes behind what protects them, log-in, files and probes.
    pub fn router(self: &Arc<Self>, routes: Routes, health: Health, registry: Arc<Registry>) -> Router {
        let pages = routes
            .pages
            .merge(login::routes(self.clone()))
            .route("/assets/{name}", get(assets::get).with_state(self.clone()))
            .route("/metrics", get(move || probes::render(registry.clone())))
            .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
            .layer(middleware::from_fn_with_state(self.app.limits, limits::within));
        let streams = routes.streams.layer(DefaultBodyLimit::disable());
        let router = pages
            .merge(streams)
            .fallback(async || {
                Problem::not_found("There is no such page").next("The navigation shows those there are.")
            })
            .method_not_allowed_fallback(async || {
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This cannot be done here")
            })
            .layer(middleware::from_fn_with_state(self.clone(), guard::guard))
            .layer(guard::same_site())
            .layer(middleware::from_fn_with_state(self.app.limits, limits::pace))
            .merge(probes::router(health))
            .layer(middleware::from_fn_with_state(self.clone(), finish));
        headers::with_headers(router, self.tls)
    }

    /// Live pages that are open.
    pub fn open_streams(&self) -> i64 {
        self.streams.open()
    }

    /// A page in the app's frame.
    ///
    /// # Errors
    /// When the template does not fit what it is told.
    pub fn render(&self, viewer: &Viewer, page: Page) -> Result<Response, Problem> {
        self.framed(StatusCode::OK, viewer, page)
    }

    fn framed(&self, status: StatusCode, viewer: &Viewer, page: Page) -> Result<Response, Problem> {
        let Page { template, title, nav, live, mut context } = page;
        let frame = Frame {
            visitor: &viewer.visitor.name,
            csrf: &viewer.visitor.csrf,
            url: &viewer.url,
            live: live.as_deref(),
            current: nav,
            can_log_out: self.access.tokens().is_some(),
            ..self.frame(&title, viewer.theme)
        };
        context.insert("frame", &frame);
        Ok((status, Html(self.fragment(template, &context)?)).into_response())
    }

    /// A page without the app's navigation, for who is not known yet.
    pub(crate) fn bare_page(
        &self,
        status: StatusCode,
        theme: &str,
        template: &str,
        title: &str,
        mut context: tera::Context,
    ) -> Result<Response, Problem> {
        context.insert("frame", &self.frame(title, theme));
        Ok((status, Html(self.fragment(template, &context)?)).into_response())
    }

    fn frame<'a>(&'a self, title: &'a str, theme: &'a str) -> Frame<'a> {
        Frame {
            app: self.app.title,
            name: self.app.name,
            environment: &self.config.environment,
            project: &self.config.project,
            nav: self.app.nav,
            current: "",
            title,
            theme,
            assets: self.assets.urls(),
            visitor: "",
            csrf: "",
            url: "",
            live: None,
            can_log_out: false,
        }
    }

    /// A part of a page, or a page of its own.
    ///
    /// # Errors
    /// When the template does not fit what it is told.
    pub fn fragment(&self, template: &str, context: &tera::Context) -> Result<String, Problem> {
        self.tera.render(template, context).map_err(|error| {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text.push_str(&format!(": {error}"));
                source = error.source();
            }
            Problem::internal(anyhow::anyhow!("render {template}: {text}"))
        })
    }
}

/// Outermost but for the headers: counts, logs what failed, and turns problems into pages for people.
async fn finish(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let since = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let wants_page = guard::wants_page(&request);
    let theme = crate::page::theme(request.headers());
    let response = next.run(request).await;
    let took = since.elapsed();
    site.metrics.answered(response.status().as_u16(), took);
    tracing::debug!(%method, path, status = response.status().as_u16(), millis = took.as_millis() as u64, "answered");
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

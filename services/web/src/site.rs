//! One app: its definition, and the frame of its pages.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse as _, Response},
};
use cloud::storage::Store;
use contract::config::Config;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tera::Tera;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Asset, NavItem, Page, Problem, Settings, Viewer,
    access::Access,
    assets::Assets,
    base_path,
    limits::Limits,
    live::{Parts, Streams},
    metrics::Metrics,
};

const TEMPLATES: [(&str, &str); 5] = [
    ("web/base.html", include_str!("templates/base.html")),
    ("web/components.html", include_str!("templates/components.html")),
    ("web/layout.html", include_str!("templates/layout.html")),
    ("web/login.html", include_str!("templates/login.html")),
    ("web/problem.html", include_str!("templates/problem.html")),
];

/// The definition of an app.
#[derive(Clone, Debug)]
pub struct App {
    /// Its name: `monitor`, `client`.
    pub name: &'static str,
    /// Its title for people.
    pub title: &'static str,
    /// Its navigation.
    pub nav: &'static [NavItem],
    /// Its templates by name. Those whose name ends in `.html` escape all values.
    pub templates: &'static [(&'static str, &'static str)],
    /// Its own files.
    pub assets: &'static [Asset],
    /// Limits of its requests.
    pub limits: Limits,
}

/// An app that is being served.
#[derive(Debug)]
pub struct Site {
    /// Its definition.
    pub app: App,
    /// The environment it serves.
    pub config: Config,
    /// Ends live streams when the server stops.
    pub stop: CancellationToken,
    pub(crate) access: Access,
    pub(crate) assets: Arc<Assets>,
    pub(crate) metrics: Metrics,
    /// The path under which a reverse proxy shows it; empty without one.
    pub(crate) base_path: String,
    streams: Streams,
    tera: Tera,
}

/// Values for every page.
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
    /// Reads the tokens and the templates. Metrics of requests are added to `registry`, log-outs are noted in `store`.
    ///
    /// # Errors
    /// When the tokens cannot be read, or a template is wrong.
    pub fn new(
        app: App,
        settings: &Settings,
        registry: &mut Registry,
        store: Option<Store>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let mut tera = Tera::new();
        tera.autoescape_on(vec![".html"]);
        tera.add_raw_templates(TEMPLATES.iter().chain(app.templates).copied().collect::<Vec<_>>())
            .map_err(|error| anyhow::anyhow!("{error}"))
            .context("read the templates")?;
        let metrics = Metrics::new(registry);
        Ok(Self {
            access: Access::new(app.name, settings, store)?,
            assets: Arc::new(Assets::new(app.assets)),
            streams: Streams::new(metrics.streams.clone(), stop.clone()),
            metrics,
            base_path: settings.base_path.clone(),
            config: settings.config.clone(),
            app,
            stop,
            tera,
        })
    }

    /// Live pages that are open.
    pub fn open_streams(&self) -> i64 {
        self.streams.open()
    }

    /// The stream of a page. `render` renders its parts each time `changes` notifies of a change, at most a few times
    /// per second. An error of `render` is sent as the event `failed`.
    pub fn live<F, Answer>(&self, changes: watch::Receiver<u64>, render: F) -> Response
    where
        F: Fn() -> Answer + Send + 'static,
        Answer: Future<Output = Result<Parts, Problem>> + Send,
    {
        self.streams.serve(changes, render)
    }

    /// A page in the app's frame.
    ///
    /// # Errors
    /// When the template does not fit its values.
    pub fn render(&self, viewer: &Viewer, page: Page) -> Result<Response, Problem> {
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
        Ok(Html(self.fragment(template, &context)?).into_response())
    }

    /// A page without the app's navigation, for visitors without access.
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
    /// When the template does not fit its values.
    pub fn fragment(&self, template: &str, context: &tera::Context) -> Result<String, Problem> {
        let rendered = self.tera.render(template, context).map(|html| base_path::prefixed(html, &self.base_path));
        rendered.map_err(|error| {
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

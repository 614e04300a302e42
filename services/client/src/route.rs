//! The routes of the app.

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post, put},
};
use web::{App, Asset, Limits, NavItem, Routes};

use crate::{act, api, app::Client, download, form, live, pages};

const TEMPLATES: &[(&str, &str)] = &[
    ("client/components.html", include_str!("templates/components.html")),
    ("client/jobs.html", include_str!("templates/jobs.html")),
    ("client/results.html", include_str!("templates/results.html")),
    ("client/session.html", include_str!("templates/session.html")),
    ("client/sessions-part.html", include_str!("templates/sessions-part.html")),
    ("client/sessions.html", include_str!("templates/sessions.html")),
    ("client/status.html", include_str!("templates/status.html")),
    ("client/submit.html", include_str!("templates/submit.html")),
    ("client/submitted.html", include_str!("templates/submitted.html")),
];

const ASSETS: &[Asset] = &[
    Asset { name: "client.css", kind: "text/css; charset=utf-8", body: include_bytes!("assets/client.css") },
    Asset { name: "client.js", kind: "text/javascript; charset=utf-8", body: include_bytes!("assets/client.js") },
];

const NAV: &[NavItem] = &[
    NavItem { href: "/", label: "New submission", icon: "upload" },
    NavItem { href: "/sessions", label: "Sessions", icon: "sessions" },
];

/// The definition of this app.
pub fn app(limits: Limits) -> App {
    App { name: "client", title: "Client", nav: NAV, templates: TEMPLATES, assets: ASSETS, limits }
}

/// Its routes.
pub fn routes(client: Arc<Client>) -> Routes {
    let pages = Router::new()
        .route("/", get(pages::submit))
        .route("/sessions", get(pages::sessions))
        .route("/session", get(pages::session))
        .route("/api/v1/businesses", get(api::businesses))
        .route("/api/v1/sessions", get(api::sessions))
        .route("/api/v1/session", get(api::session))
        .with_state(client.clone());
    let streams = Router::new()
        .route("/submit", post(form::submit))
        .route("/act", post(act::act))
        .route("/live/recent", get(live::recent))
        .route("/live/sessions", get(live::sessions))
        .route("/live/session", get(live::session))
        .route("/results.csv", get(download::csv))
        .route("/results.json", get(download::json))
        .route("/result", get(download::result))
        .route("/api/v1/results", get(download::json))
        .route("/api/v1/check", post(api::check))
        .route("/api/v1/inputs", put(api::input).post(api::inputs))
        .route("/api/v1/shared", put(api::shared))
        .with_state(client);
    Routes { pages, streams }
}

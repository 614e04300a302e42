//! Pages: the viewer, and the contents of the frame.

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use serde::Serialize;

use crate::{Problem, Visitor, access::cookies};

/// Cookie of the chosen theme; it is no secret, and the script sets it.
const THEME: &str = "deskgrid-theme";

/// One entry of an app's navigation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NavItem {
    /// Where it leads.
    pub href: &'static str,
    /// Its label.
    pub label: &'static str,
    /// Its icon, one of the component `icon`.
    pub icon: &'static str,
}

/// The person or program that requests a page.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The visitor.
    pub visitor: Visitor,
    /// `dark`, `light`, or empty for the setting of their system.
    pub theme: &'static str,
    /// Path and query of the request.
    pub url: String,
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let visitor = parts.extensions.get::<Visitor>().cloned();
        let visitor = visitor.ok_or_else(|| Problem::internal(anyhow::anyhow!("find the visitor of the request")))?;
        let url = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        Ok(Self { visitor, theme: theme(&parts.headers), url })
    }
}

/// Whether a browser requests a page.
pub(crate) fn wants_page(request: &Request) -> bool {
    let path = request.uri().path();
    let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    !path.starts_with("/api/") && accepts.contains("text/html")
}

/// The chosen theme.
pub(crate) fn theme(headers: &HeaderMap) -> &'static str {
    match cookies(headers).find(|(name, _)| *name == THEME).map(|(_, value)| value) {
        Some("dark") => "dark",
        Some("light") => "light",
        _ => "",
    }
}

/// A page in the frame of the app.
#[derive(Debug)]
pub struct Page {
    /// Template, which extends `web/layout.html`.
    pub template: &'static str,
    /// Title.
    pub title: String,
    /// `href` of the navigation entry it belongs to.
    pub nav: &'static str,
    /// URL of its live stream (see [`crate::live`]), if it has one.
    pub live: Option<String>,
    /// Values for the template.
    pub context: tera::Context,
}

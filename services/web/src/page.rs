//! Pages: who looks, and what is shown in which frame.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use serde::Serialize;

use crate::{Problem, Visitor, access::cookies};

/// Cookie of the theme that somebody chose; no secret, the script sets it.
const THEME: &str = "deskgrid-theme";

/// One entry of an app's navigation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NavItem {
    /// Where it leads.
    pub href: &'static str,
    /// What it is called.
    pub label: &'static str,
    /// Its icon, one of the component `icon`.
    pub icon: &'static str,
}

/// Who looks at a page, and how.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// Who.
    pub visitor: Visitor,
    /// `dark`, `light`, or empty for what their system says.
    pub theme: &'static str,
    /// Path and query of the request.
    pub url: String,
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let visitor = parts.extensions.get::<Visitor>().cloned();
        let visitor = visitor.ok_or_else(|| Problem::internal(anyhow::anyhow!("find out who asks")))?;
        let url = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        Ok(Self { visitor, theme: theme(&parts.headers), url })
    }
}

/// The theme that somebody chose.
pub(crate) fn theme(headers: &HeaderMap) -> &'static str {
    match cookies(headers).find(|(name, _)| *name == THEME).map(|(_, value)| value) {
        Some("dark") => "dark",
        Some("light") => "light",
        _ => "",
    }
}

/// A page to be shown in the frame of the app.
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
    /// What the template shows.
    pub context: tera::Context,
}

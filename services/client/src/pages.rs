//! The pages: submit, sessions, one session.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use contract::config::Business;
use jiff::Timestamp;
use serde::Serialize;
use sessions::submit::session_name;
use tera::Context;
use web::{Page, Problem, Query, Viewer};

use crate::{
    app::{Client, FIRST_VIEW, check_session},
    limited::size,
    overview::Overview,
    view::Choice,
};

/// Sessions beside the form.
pub(crate) const RECENT: usize = 8;
/// Sessions on their own page.
pub(crate) const ALL: usize = 200;

/// The businesses to choose from, as links of a page; none when there is nothing to choose.
fn choices(viewer: &Viewer, client: &Client, chosen: &Business) -> Vec<Choice> {
    let theirs = viewer.visitor.businesses_of(&client.site.config);
    let links = theirs.iter().map(|business| Choice {
        label: business.name.clone(),
        link: web::encode([("business", business.name.as_str())]),
        is_current: business.name == chosen.name,
        count: 0,
    });
    if theirs.len() > 1 { links.collect() } else { Vec::new() }
}

/// The query with a business in it: the first one that the visitor may use unless another is named.
fn with_business(client: &Client, viewer: &Viewer, query: Query) -> Query {
    match viewer.visitor.businesses_of(&client.site.config).first() {
        Some(first) if query.get("business").is_none() => Query::parse(&query.with("business", &first.name)),
        _ => query,
    }
}

/// Values for the form.
#[derive(Serialize)]
struct Form<'a> {
    business: &'a str,
    session: &'a str,
    fresh: String,
    action: String,
    max_bytes: u64,
    max: String,
    checked_bytes: usize,
    has_priority: bool,
    program: String,
    known: Vec<String>,
}

/// The sessions that fields propose.
fn known(overview: &Overview) -> Vec<String> {
    overview.sessions.iter().take(50).map(|summary| summary.session.clone()).collect()
}

/// The form to submit, and the sessions that changed last.
pub(crate) async fn submit(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    let query = with_business(&client, &viewer, query);
    let business = client.business(&viewer.visitor, &query)?;
    let session = query.get("session").unwrap_or_default();
    if !session.is_empty() {
        check_session(session)?;
    }
    let overview = client.overview(business)?.first(FIRST_VIEW).await;
    let form = Form {
        business: &business.name,
        session,
        fresh: session_name(Timestamp::now(), &viewer.visitor.csrf),
        action: format!("/submit?{}", web::encode([("business", business.name.as_str())])),
        max_bytes: client.uploads.max_bytes,
        max: size(client.uploads.max_bytes),
        checked_bytes: crate::check::MAX_CHECKED,
        has_priority: business.priority_subscription.is_some(),
        program: business.engine.command.join(" "),
        known: known(&overview),
    };
    let mut context = Context::new();
    context.insert("form", &form);
    context.insert("choices", &choices(&viewer, &client, business));
    context.insert("sessions_part", &client.overview_part(&business.name, &overview, RECENT)?);
    let live = Some(format!("/live/recent?{query}"));
    let page = Page { template: "client/submit.html", title: "New submission".to_owned(), nav: "/", live, context };
    client.site.render(&viewer, page)
}

/// The sessions of a business.
pub(crate) async fn sessions(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    let query = with_business(&client, &viewer, query);
    let business = client.business(&viewer.visitor, &query)?;
    let overview = client.overview(business)?.first(FIRST_VIEW).await;
    let mut context = Context::new();
    context.insert("business", &business.name);
    context.insert("choices", &choices(&viewer, &client, business));
    context.insert("sessions_part", &client.overview_part(&business.name, &overview, ALL)?);
    let live = Some(format!("/live/sessions?{query}"));
    let page = Page { template: "client/sessions.html", title: "Sessions".to_owned(), nav: "/sessions", live, context };
    client.site.render(&viewer, page)
}

/// One session: its status, its results, its Jobs.
pub(crate) async fn session(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    let business = client.business(&viewer.visitor, &query)?;
    let name = client.session(&query)?;
    let session = client.watch(business, name)?.first(FIRST_VIEW).await;
    if let Some(other) = client.against(business, &query)? {
        other.first(FIRST_VIEW).await;
    }
    let overview = client.overview(business)?.latest();
    let mut context = Context::new();
    context.insert("business", &business.name);
    context.insert("session", name);
    context.insert("link", &web::encode([("business", business.name.as_str()), ("session", name)]));
    context.insert("business_link", &web::encode([("business", business.name.as_str())]));
    context.insert("known", &known(&overview));
    context.insert("parts", &client.session_parts(business, name, &session, &query, &viewer.visitor)?);
    let live = Some(format!("/live/session?{query}"));
    let page = Page { template: "client/session.html", title: name.to_owned(), nav: "/sessions", live, context };
    client.site.render(&viewer, page)
}

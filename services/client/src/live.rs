//! The live streams of the pages.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use web::{Problem, Query, Viewer, live};

use crate::{
    app::Client,
    pages::{ALL, RECENT},
};

/// Of a session's page.
pub(crate) async fn session(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    let business = client.business(&viewer.visitor, &query)?.clone();
    let name = client.session(&query)?.to_owned();
    let seen = client.watch(&business, &name)?;
    let (site, changes) = (client.site.clone(), seen.changes());
    Ok(site.live(changes, move || {
        let parts = client.session_parts(&business, &name, &seen.latest(), &query, &viewer.visitor);
        async move { parts }
    }))
}

async fn overview(client: Arc<Client>, viewer: Viewer, query: Query, limit: usize) -> Result<Response, Problem> {
    let business = client.business(&viewer.visitor, &query)?;
    let seen = client.overview(business)?;
    let (name, site, changes) = (business.name.clone(), client.site.clone(), seen.changes());
    Ok(site.live(changes, move || {
        let part = client.overview_part(&name, &seen.latest(), limit);
        async move { Ok(live::Parts::from([("sessions-part", part?)])) }
    }))
}

/// Of the form's page.
pub(crate) async fn recent(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    overview(client, viewer, query, RECENT).await
}

/// Of the page with all sessions.
pub(crate) async fn sessions(
    State(client): State<Arc<Client>>,
    viewer: Viewer,
    query: Query,
) -> Result<Response, Problem> {
    overview(client, viewer, query, ALL).await
}

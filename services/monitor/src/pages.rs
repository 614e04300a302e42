//! The pages: each is a list of parts, shown at once and then kept up to date.

use web::Problem;

use crate::{
    page::{Kind, Shown},
    page_request::PageRequest,
};

mod audit;
mod cluster;
mod job;
mod jobs;
mod overview;
mod pubsub;
mod rows;
mod session;
mod sessions;
mod totals;

pub(crate) use jobs::{Filter, select, states};

/// Renders a page.
///
/// # Errors
/// When what it is about is not there or not for the visitor, or something that is needed does not answer.
pub(crate) async fn shown(kind: Kind, request: &PageRequest<'_>) -> Result<Shown, Problem> {
    let mut shown = match kind {
        Kind::Overview => overview::show(request)?,
        Kind::Sessions => sessions::show(request)?,
        Kind::Session => session::show(request).await?,
        Kind::Jobs => jobs::show(request).await?,
        Kind::Job => job::show(request).await?,
        Kind::Pubsub => pubsub::show(request)?,
        Kind::Letters => pubsub::letters(request).await?,
        Kind::Cluster => cluster::show(request)?,
        Kind::Audit => audit::show(request)?,
    };
    shown.parts.insert(0, request.errors()?);
    shown.parts.insert(0, request.operations()?);
    Ok(shown)
}

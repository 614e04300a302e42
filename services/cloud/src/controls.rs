//! Reads the control objects and parked messages of sessions (see [`contract::control`]).

use std::collections::BTreeMap;

use contract::{config::Business, control::Control, object};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::storage::Store;

/// Control objects read at a time.
const READS: usize = 16;

/// Reads the control object of a session, and its generation; 0 when there is none.
///
/// # Errors
/// When the object cannot be read.
pub async fn read(store: &Store, business: &Business, session: &str) -> anyhow::Result<(Option<Control>, i64)> {
    let name = object::control(&business.name, session);
    Ok(match store.read(&business.bucket, &name, None).await? {
        Some((object, body)) => (Some(Control::parse(session, &body).0), object.generation),
        None => (None, 0),
    })
}

/// Reads all control objects of a business, by session.
///
/// # Errors
/// When the objects cannot be read.
pub async fn all(store: &Store, business: &Business) -> anyhow::Result<BTreeMap<String, Control>> {
    let listed = store.list(&business.bucket, &object::control_prefix(&business.name)).await?;
    let sessions: Vec<String> =
        listed.iter().filter_map(|o| object::parse_control(&business.name, &o.name).map(str::to_owned)).collect();
    let reads =
        sessions.into_iter().map(|session| async move { Ok((read(store, business, &session).await?, session)) });
    let reads: Vec<_> = reads.collect();
    futures::stream::iter(reads)
        .buffer_unordered(READS)
        .try_filter_map(|((control, _), session)| async move { Ok(control.map(|control| (session, control))) })
        .try_collect()
        .await
}

/// Names of the parked messages of a session.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn parked(store: &Store, business: &Business, session: &str) -> anyhow::Result<Vec<String>> {
    let prefix = object::parked_prefix(&business.name, Some(session));
    Ok(store.list(&business.bucket, &prefix).await?.into_iter().map(|object| object.name).collect())
}

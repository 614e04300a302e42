//! Closes a session: deletes its common data and its control object.

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use cloud::storage::{Object, Store};
use contract::{config::Business, object};

/// Objects deleted at once.
const DELETES: usize = 32;

/// The objects that closing a session deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Common {
    /// Objects: the session's common data, and its control object.
    pub objects: usize,
    /// Their size in bytes.
    pub bytes: i64,
    #[serde(skip)]
    listed: Vec<Object>,
}

/// Lists the objects that closing a session deletes: its common data, and its control object, which has no effect once
/// every Job has an outcome.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn common_data(store: &Store, business: &Business, session: &str) -> anyhow::Result<Common> {
    let mut listed = store.list(&business.bucket, &object::common_prefix(&business.name, session)).await?;
    listed.extend(store.describe(&business.bucket, &object::control(&business.name, session), None).await?);
    Ok(Common { objects: listed.len(), bytes: listed.iter().map(|object| object.size).sum(), listed })
}

/// Deletes the listed generations; objects that were written meanwhile stay.
///
/// # Errors
/// When an object cannot be deleted.
pub async fn delete(store: &Store, business: &Business, common: &Common) -> anyhow::Result<usize> {
    let deletes: Vec<_> = common
        .listed
        .iter()
        .map(|object| async move { store.delete(&business.bucket, &object.name, object.generation).await })
        .collect();
    let deleted = futures::stream::iter(deletes).buffer_unordered(DELETES);
    deleted.try_fold(0, |count, deleted| async move { Ok(count + usize::from(deleted)) }).await
}

//! Closing a session: the data that all its Jobs read is not needed any more.

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use cloud::storage::{Object, Store};
use contract::{config::Business, object};

/// Objects deleted at once.
const DELETES: usize = 32;

/// What is deleted when a session is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Common {
    /// Objects: the session's common data, and its control object.
    pub objects: usize,
    /// Their size in bytes.
    pub bytes: i64,
    #[serde(skip)]
    listed: Vec<Object>,
}

/// What a session's closing deletes. Its control object goes too: once every Job has its outcome it has no effect.
///
/// # Errors
/// When the bucket cannot be listed.
pub async fn common_data(store: &Store, business: &Business, session: &str) -> anyhow::Result<Common> {
    let mut listed = store.list(&business.bucket, &object::common_prefix(&business.name, session)).await?;
    listed.extend(store.describe(&business.bucket, &object::control(&business.name, session), None).await?);
    Ok(Common { objects: listed.len(), bytes: listed.iter().map(|object| object.size).sum(), listed })
}

/// Deletes exactly what was listed; what was written anew meanwhile stays.
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

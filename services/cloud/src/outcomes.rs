//! Reads outcomes from the bucket (see [`contract::outcome`]).

use contract::{
    Outcome,
    outcome::stored::{BYTES_MAX, Unreadable},
};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::storage::Store;

/// Reads an outcome; `None` when there is no object of that name.
///
/// # Errors
/// When the bucket cannot be read; the inner one when the object is not an outcome.
pub async fn read(store: &Store, bucket: &str, object: &str) -> anyhow::Result<Option<Result<Outcome, Unreadable>>> {
    let Some(mut contents) = store.open(bucket, object).await? else { return Ok(None) };
    Ok(Some(match contents.all(BYTES_MAX).await? {
        Some(text) => Outcome::parse(object, &text),
        None => {
            let why = format!("it has more than the {BYTES_MAX} bytes of the largest outcome");
            Err(Unreadable { object: object.to_owned(), why })
        }
    }))
}

/// Reads outcomes, at most `at_once` at a time, in the order given; `None` for missing ones. An unreadable outcome is
/// replaced by [`Unreadable::outcome`].
///
/// # Errors
/// When the bucket cannot be read.
pub async fn read_all(
    store: &Store,
    bucket: &str,
    objects: impl IntoIterator<Item = String>,
    at_once: usize,
) -> anyhow::Result<Vec<Option<Outcome>>> {
    let reads: Vec<_> =
        objects.into_iter().map(|object| async move { read_or_replace(store, bucket, &object).await }).collect();
    futures::stream::iter(reads).buffered(at_once).try_collect().await
}

/// Reads one outcome as [`read_all`] does.
///
/// # Errors
/// When the bucket cannot be read.
pub async fn read_or_replace(store: &Store, bucket: &str, object: &str) -> anyhow::Result<Option<Outcome>> {
    let found = read(store, bucket, object).await?;
    Ok(found.map(|outcome| outcome.unwrap_or_else(|unreadable| unreadable.outcome(bucket))))
}

//! The operations of Cloud Storage that the engine needs, as a trait, so that tests can use a bucket in memory.

use std::future::Future;

use bytes::Bytes;
use cloud::storage::{Object, Properties, Store, Written, is_denied, is_hidden};
use contract::{Identity, message::Work, pack::Span};

/// An object that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its content type.
    pub content_type: String,
}

/// Reads objects and writes each once.
pub trait Objects {
    /// Describes the live generation of an object; `None` when it does not exist, or when this process may not know.
    /// A write decides in any case.
    ///
    /// # Errors
    /// When the service cannot be reached.
    fn describe(&self, bucket: &str, object: &str) -> impl Future<Output = anyhow::Result<Option<Object>>>;

    /// Reads an object, its live generation when none is given; `None` when it does not exist.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    fn read(
        &self,
        bucket: &str,
        object: &str,
        generation: Option<i64>,
    ) -> impl Future<Output = anyhow::Result<Option<Contents>>>;

    /// Reads a part of one generation of an object; `None` when it does not exist.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    fn read_part(
        &self,
        bucket: &str,
        object: &str,
        generation: i64,
        part: Span,
    ) -> impl Future<Output = anyhow::Result<Option<Contents>>>;

    /// Writes an object unless one of that name exists.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    fn write_once(
        &self,
        bucket: &str,
        object: &str,
        bytes: Bytes,
        properties: Properties,
    ) -> impl Future<Output = anyhow::Result<Written>>;
}

/// Reads the input of work: of a range that has a part of it, that part.
///
/// # Errors
/// When access is denied or the service cannot be reached.
pub async fn read_input(objects: &impl Objects, work: &Work) -> anyhow::Result<Option<Contents>> {
    let Identity { bucket, object, generation, .. } = &work.identity;
    match work.span {
        None => objects.read(bucket, object, Some(*generation)).await,
        Some(part) => objects.read_part(bucket, object, *generation, part).await,
    }
}

impl Objects for Store {
    async fn describe(&self, bucket: &str, object: &str) -> anyhow::Result<Option<Object>> {
        match Store::describe(self, bucket, object, None).await {
            // To a caller that may not list objects, Cloud Storage answers "denied" when the object does not exist.
            Err(error) if is_denied(&error) => {
                tracing::debug!("cannot check whether the result exists, so it is computed: {error:#}");
                Ok(None)
            }
            described => described,
        }
    }

    async fn read(&self, bucket: &str, object: &str, generation: Option<i64>) -> anyhow::Result<Option<Contents>> {
        contents(Store::read(self, bucket, object, generation).await)
    }

    async fn read_part(
        &self,
        bucket: &str,
        object: &str,
        generation: i64,
        Span { offset, length }: Span,
    ) -> anyhow::Result<Option<Contents>> {
        contents(Store::read_part(self, bucket, object, generation, offset, length).await)
    }

    async fn write_once(
        &self,
        bucket: &str,
        object: &str,
        bytes: Bytes,
        properties: Properties,
    ) -> anyhow::Result<Written> {
        Store::write_once(self, bucket, object, bytes, properties).await
    }
}

fn contents(read: anyhow::Result<Option<(Object, Bytes)>>) -> anyhow::Result<Option<Contents>> {
    let read = match read {
        // The engine may not list.
        Err(error) if is_hidden(&error) => None,
        read => read?,
    };
    Ok(read.map(|(object, bytes)| Contents { bytes, content_type: object.content_type }))
}

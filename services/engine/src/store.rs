//! What the engine needs of Cloud Storage, as a trait, so that the contract can be tested against a map in memory.

use std::future::Future;

use bytes::Bytes;
use common::storage::{Properties, Store, Written};

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
    /// Whether there is an object of this name.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    fn exists(&self, bucket: &str, object: &str) -> impl Future<Output = anyhow::Result<bool>>;

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

    /// Writes an object unless there is one of that name.
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

impl Objects for Store {
    async fn exists(&self, bucket: &str, object: &str) -> anyhow::Result<bool> {
        Ok(self.describe(bucket, object, None).await?.is_some())
    }

    async fn read(&self, bucket: &str, object: &str, generation: Option<i64>) -> anyhow::Result<Option<Contents>> {
        let read = Store::read(self, bucket, object, generation).await?;
        Ok(read.map(|(object, bytes)| Contents { bytes, content_type: object.content_type }))
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

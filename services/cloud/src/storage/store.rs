//! The client: reads, writes, lists and deletes objects.

use std::{collections::BTreeMap, str::FromStr as _, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use contract::{Outcome, labels};
use futures::{StreamExt as _, TryStreamExt as _};
use google_cloud_gax::{error::rpc::Code, paginator::ItemPaginator as _, retry_policy::RetryPolicyExt as _};
use google_cloud_storage::{
    client::{Storage, StorageControl},
    retry_policy::RetryableErrors,
};
use jiff::Timestamp;

use crate::{clients::Connection, retries};

/// Longest pause before the first retry, as Cloud Storage recommends.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// How long a failing call is retried.
const RETRY_LIMIT: Duration = Duration::from_secs(300);

/// The description of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Name.
    pub name: String,
    /// Generation.
    pub generation: i64,
    /// Size in bytes.
    pub size: i64,
    /// When this generation was created.
    pub created: Option<Timestamp>,
    /// Content type.
    pub content_type: String,
    /// Custom metadata.
    pub metadata: BTreeMap<String, String>,
}

/// The result of a write that must not replace an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The object is new; its generation.
    New(i64),
    /// It existed already, perhaps from an earlier attempt of ours; it is unchanged.
    Exists,
}

impl Object {
    /// When the computation of this input was requested: when it was written, or when a person requested another
    /// attempt.
    pub fn requested(&self) -> Option<Timestamp> {
        let retried = self.metadata.get(labels::METADATA_RETRIED).and_then(|text| text.parse().ok());
        retried.max(self.created)
    }
}

/// Content type and metadata of an object to write.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    /// Content type.
    pub content_type: String,
    /// Custom metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Properties {
    /// JSON without custom metadata.
    pub fn json() -> Self {
        Self { content_type: "application/json".to_owned(), metadata: BTreeMap::new() }
    }
}

impl From<&Outcome> for Properties {
    fn from(outcome: &Outcome) -> Self {
        Self { metadata: outcome.metadata(), ..Self::json() }
    }
}

/// Cloud Storage. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) storage: Storage,
    pub(super) control: StorageControl,
}

impl Store {
    /// Connects to Cloud Storage; nothing is sent yet.
    ///
    /// # Errors
    /// When a client cannot be built.
    pub async fn connect(connection: &Connection) -> anyhow::Result<Self> {
        Self::connect_for(connection, RETRY_LIMIT).await
    }

    /// As [`Store::connect`], with another limit for retries of failing calls.
    ///
    /// # Errors
    /// When a client cannot be built.
    pub async fn connect_for(connection: &Connection, retry_limit: Duration) -> anyhow::Result<Self> {
        let policy = || retries::Warning::new("Cloud Storage", RetryableErrors.with_time_limit(retry_limit));
        let mut storage = Storage::builder()
            .with_credentials(connection.storage_credentials())
            .with_grpc_subchannel_count(1)
            .with_retry_policy(policy())
            .with_backoff_policy(retries::pauses(RETRY_FIRST))
            .with_retry_throttler(retries::every_try());
        let mut control = StorageControl::builder()
            .with_credentials(connection.storage_credentials())
            .with_retry_policy(policy())
            .with_backoff_policy(retries::pauses(RETRY_FIRST))
            .with_retry_throttler(retries::every_try());
        if let Some(endpoint) = &connection.endpoints.storage {
            storage = storage.with_endpoint(endpoint);
        }
        if let Some(endpoint) = connection.storage_grpc().await? {
            control = control.with_endpoint(endpoint);
        }
        Ok(Self {
            storage: storage.build().await.context("build the Cloud Storage client")?,
            control: control.build().await.context("build the Cloud Storage control client")?,
        })
    }

    /// Reads an object, its live generation when none is given; `None` when it does not exist.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn read(
        &self,
        bucket: &str,
        object: &str,
        generation: Option<i64>,
    ) -> anyhow::Result<Option<(Object, Bytes)>> {
        let Some(mut contents) = self.open_generation(bucket, object, generation).await? else { return Ok(None) };
        let bytes = contents.all(usize::MAX).await?.unwrap_or_default();
        let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        Ok(Some((Object { size, ..contents.object }, bytes)))
    }

    /// Writes an object unless there is one of that name (`ifGenerationMatch=0`).
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn write_once(
        &self,
        bucket: &str,
        object: &str,
        contents: impl Into<Bytes>,
        properties: Properties,
    ) -> anyhow::Result<Written> {
        let request = self
            .storage
            .write_object(full(bucket), object, contents.into())
            .set_if_generation_match(0_i64)
            .set_content_type(properties.content_type)
            .set_metadata(properties.metadata);
        written_once(request.send_unbuffered().await, bucket, object)
    }

    /// Writes an object, replacing the live one if there is one; returns the new generation.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn write(
        &self,
        bucket: &str,
        object: &str,
        contents: impl Into<Bytes>,
        properties: Properties,
    ) -> anyhow::Result<i64> {
        let written = self
            .storage
            .write_object(full(bucket), object, contents.into())
            .set_content_type(properties.content_type)
            .set_metadata(properties.metadata)
            .with_idempotency(true)
            .send_unbuffered()
            .await
            .with_context(|| format!("write gs://{bucket}/{object}"))?;
        Ok(written.generation)
    }

    /// Describes an object, its live generation when none is given; `None` when it does not exist.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn describe(
        &self,
        bucket: &str,
        object: &str,
        generation: Option<i64>,
    ) -> anyhow::Result<Option<Object>> {
        let mut request = self.control.get_object().set_bucket(full(bucket)).set_object(object);
        if let Some(generation) = generation {
            request = request.set_generation(generation);
        }
        match request.send().await {
            Ok(object) => Ok(Some(described(object))),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("describe gs://{bucket}/{object}")),
        }
    }

    /// Deletes exactly this generation of an object; `false` when it was gone already.
    /// Naming the generation keeps a newer upload of the same name safe, and makes the call safe to retry.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn delete(&self, bucket: &str, object: &str, generation: i64) -> anyhow::Result<bool> {
        let request =
            self.control.delete_object().set_bucket(full(bucket)).set_object(object).set_generation(generation);
        match request.send().await {
            Ok(()) => Ok(true),
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("delete gs://{bucket}/{object}#{generation}")),
        }
    }

    /// Lists the live objects under a prefix, in order of name.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn list(&self, bucket: &str, prefix: &str) -> anyhow::Result<Vec<Object>> {
        self.list_stream(bucket, prefix).try_collect().await
    }

    /// Lists the live objects under a prefix, in order of name, a page in memory at a time. An item is an error when
    /// access is denied or the service cannot be reached.
    pub fn list_stream(
        &self,
        bucket: &str,
        prefix: &str,
    ) -> impl futures::Stream<Item = anyhow::Result<Object>> + Send + Unpin + use<> {
        let items = self.control.list_objects().set_parent(full(bucket)).set_prefix(prefix).by_item();
        let context = format!("list gs://{bucket}/{prefix}");
        Box::pin(futures::stream::unfold((items, context), |(mut items, context)| async move {
            let item = items.next().await?.map(described).with_context(|| context.clone());
            Some((item, (items, context)))
        }))
    }

    /// Reads many objects at once, at most `concurrency` at a time, in the order given; `None` for missing ones.
    ///
    /// # Errors
    /// At the first object that cannot be read.
    pub async fn read_all(
        &self,
        bucket: &str,
        objects: impl IntoIterator<Item = String>,
        concurrency: usize,
    ) -> anyhow::Result<Vec<Option<(Object, Bytes)>>> {
        let reads: Vec<_> =
            objects.into_iter().map(|object| async move { self.read(bucket, &object, None).await }).collect();
        futures::stream::iter(reads).buffered(concurrency).try_collect().await
    }
}

/// The resource name of a bucket.
pub(super) fn full(bucket: &str) -> String {
    format!("projects/_/buckets/{bucket}")
}

/// The result of a write that must be the first of its name.
pub(super) fn written_once(
    answer: Result<google_cloud_storage::model::Object, google_cloud_storage::Error>,
    bucket: &str,
    object: &str,
) -> anyhow::Result<Written> {
    match answer {
        Ok(written) => Ok(Written::New(written.generation)),
        Err(error) if is_failed_precondition(&error) => Ok(Written::Exists),
        Err(error) => Err(error).with_context(|| format!("write gs://{bucket}/{object}")),
    }
}

pub(super) fn described(object: google_cloud_storage::model::Object) -> Object {
    Object {
        created: object.create_time.and_then(|time| Timestamp::from_str(&String::from(time)).ok()),
        name: object.name,
        generation: object.generation,
        size: object.size,
        content_type: object.content_type,
        metadata: object.metadata.into_iter().collect(),
    }
}

/// True when the object (or the bucket) does not exist. Never true for an access that was denied.
pub fn is_not_found(error: &google_cloud_storage::Error) -> bool {
    error.http_status_code() == Some(404) || error.status().is_some_and(|status| status.code == Code::NotFound)
}

/// True when a precondition of the request did not hold.
pub fn is_failed_precondition(error: &google_cloud_storage::Error) -> bool {
    error.http_status_code() == Some(412)
        || error.status().is_some_and(|status| status.code == Code::FailedPrecondition)
}

/// True when a read was denied only because the object does not exist: Cloud Storage hides that from a caller that may
/// read objects and not list them, and then names the permission to list. A denied read of an object that exists names
/// the permission to read.
pub fn is_hidden(error: &anyhow::Error) -> bool {
    is_denied(error) && format!("{error:#}").contains("storage.objects.list")
}

/// True when access was denied.
pub fn is_denied(error: &anyhow::Error) -> bool {
    error.downcast_ref::<google_cloud_storage::Error>().is_some_and(|error| {
        error.http_status_code() == Some(403)
            || error.status().is_some_and(|status| status.code == Code::PermissionDenied)
    })
}

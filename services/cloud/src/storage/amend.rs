//! Changes of objects that others may change at the same time: only if the object is still as it was read.

use std::collections::BTreeMap;

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;

use super::store::{Object, Properties, Store, described, full, is_failed_precondition, is_not_found};

/// Attempts at a change when others change the object first.
const TRIES: usize = 20;

/// The result of a write that replaces one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It is written.
    Done {
        /// The new generation.
        generation: i64,
        /// When, by Cloud Storage's clock.
        created: Option<Timestamp>,
    },
    /// Another generation is live; nothing was written.
    Changed,
}

impl Store {
    /// Writes an object if this generation of it is live, 0 for none (`ifGenerationMatch`).
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn replace(
        &self,
        bucket: &str,
        object: &str,
        contents: impl Into<Bytes>,
        properties: Properties,
        generation: i64,
    ) -> anyhow::Result<Replaced> {
        let request = self
            .storage
            .write_object(full(bucket), object, contents.into())
            .set_if_generation_match(generation)
            .set_content_type(properties.content_type)
            .set_metadata(properties.metadata);
        match request.send_unbuffered().await {
            Ok(object) => {
                let object = described(object);
                Ok(Replaced::Done { generation: object.generation, created: object.created })
            }
            Err(error) if is_failed_precondition(&error) => Ok(Replaced::Changed),
            Err(error) => Err(error).with_context(|| format!("write gs://{bucket}/{object}")),
        }
    }

    /// Changes the custom metadata of an object's live generation; its contents and generation stay. `change` is given
    /// the object as it is, may be called several times, and returns the new metadata, or `None` to leave it.
    /// Returns the object as it is then; `None` when there is none.
    ///
    /// # Errors
    /// When access is denied, the service cannot be reached, or others change it all the time.
    pub async fn amend(
        &self,
        bucket: &str,
        object: &str,
        change: impl FnMut(&Object) -> Option<BTreeMap<String, String>>,
    ) -> anyhow::Result<Option<Object>> {
        self.change_metadata(bucket, object, false, change).await
    }

    /// As [`Store::amend`], without permission to read the object: a listing shows what it is.
    ///
    /// # Errors
    /// As [`Store::amend`].
    pub async fn amend_unread(
        &self,
        bucket: &str,
        object: &str,
        change: impl FnMut(&Object) -> Option<BTreeMap<String, String>>,
    ) -> anyhow::Result<Option<Object>> {
        self.change_metadata(bucket, object, true, change).await
    }

    async fn change_metadata(
        &self,
        bucket: &str,
        object: &str,
        is_listed: bool,
        mut change: impl FnMut(&Object) -> Option<BTreeMap<String, String>>,
    ) -> anyhow::Result<Option<Object>> {
        for _ in 0..TRIES {
            let found = if is_listed {
                self.first(bucket, object).await?
            } else {
                match self.control.get_object().set_bucket(full(bucket)).set_object(object).send().await {
                    Err(error) if is_not_found(&error) => None,
                    found => Some(found.with_context(|| format!("describe gs://{bucket}/{object}"))?),
                }
            };
            let Some(live) = found else { return Ok(None) };
            let (generation, metageneration) = (live.generation, live.metageneration);
            let as_it_is = described(live);
            let Some(wanted) = change(&as_it_is) else { return Ok(Some(as_it_is)) };
            let changed = google_cloud_storage::model::Object::new()
                .set_bucket(full(bucket))
                .set_name(object)
                .set_generation(generation)
                .set_metadata(wanted);
            let request = self
                .control
                .update_object()
                .set_object(changed)
                .set_if_generation_match(generation)
                .set_if_metageneration_match(metageneration)
                .set_update_mask(google_cloud_wkt::FieldMask::default().set_paths(["metadata"]));
            match request.send().await {
                Ok(changed) => return Ok(Some(described(changed))),
                Err(error) if is_failed_precondition(&error) || is_not_found(&error) => {}
                Err(error) => return Err(error).with_context(|| format!("change gs://{bucket}/{object}")),
            }
        }
        anyhow::bail!("gs://{bucket}/{object} keeps changing; try again")
    }
}

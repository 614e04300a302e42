//! Uploads of files without holding them in memory, and fingerprints to compare a file with an object.

use std::{collections::BTreeMap, io::Read as _, path::Path};

use anyhow::Context as _;
use futures::TryStreamExt as _;
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_storage::error::ReadError;

use super::{
    gzip::GZIP,
    store::{Properties, Store, Written, full, is_failed_precondition, is_not_found},
};

/// Bytes of a file that are hashed at a time.
const CHUNK: usize = 256 * 1024;

/// Size and checksum of contents, to compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Generation of the object.
    pub generation: i64,
    /// Size in bytes.
    pub size: i64,
    /// CRC32C of the contents, when the service reports it.
    pub crc32c: Option<u32>,
    /// Both are of a compressed form of the contents.
    pub compressed: bool,
}

impl Fingerprint {
    /// The fingerprint of the stored bytes.
    pub(super) fn stored(object: google_cloud_storage::model::Object) -> Self {
        Self {
            generation: object.generation,
            size: object.size,
            crc32c: object.checksums.and_then(|checksums| checksums.crc32c),
            compressed: object.content_encoding == GZIP,
        }
    }
}

impl Store {
    /// Writes a file as an object unless there is one of that name (`ifGenerationMatch=0`). The file is streamed, and
    /// read again from the start if an attempt fails.
    ///
    /// # Errors
    /// When the file cannot be read, access is denied or the service cannot be reached.
    pub async fn write_file_once(
        &self,
        bucket: &str,
        object: &str,
        path: &Path,
        properties: Properties,
    ) -> anyhow::Result<Written> {
        let file = tokio::fs::File::open(path).await.with_context(|| format!("open {}", path.display()))?;
        let request = self
            .storage
            .write_object(full(bucket), object, file)
            .set_if_generation_match(0_i64)
            .set_content_type(properties.content_type)
            .set_metadata(properties.metadata);
        match request.send_unbuffered().await {
            Ok(object) => Ok(Written::New(object.generation)),
            Err(error) if is_failed_precondition(&error) => Ok(Written::Exists),
            Err(error) => Err(error).with_context(|| format!("write {} to gs://{bucket}/{object}", path.display())),
        }
    }

    /// The fingerprint of the contents of an object's live generation and its custom metadata; `None` when there is no
    /// such object. One that is stored compressed is read for it.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn fingerprint(
        &self,
        bucket: &str,
        object: &str,
    ) -> anyhow::Result<Option<(Fingerprint, BTreeMap<String, String>)>> {
        let mut found = match self.control.get_object().set_bucket(full(bucket)).set_object(object).send().await {
            Err(error) if is_not_found(&error) => return Ok(None),
            found => found.with_context(|| format!("describe gs://{bucket}/{object}"))?,
        };
        let metadata = std::mem::take(&mut found.metadata).into_iter().collect();
        let stored = Fingerprint::stored(found);
        if !stored.compressed {
            return Ok(Some((stored, metadata)));
        }
        let Some(mut contents) = self.open_generation(bucket, object, Some(stored.generation)).await? else {
            return Ok(None);
        };
        let (mut size, mut crc32c) = (0_i64, 0);
        while let Some(bytes) = contents.next().await.transpose()? {
            size += i64::try_from(bytes.len()).unwrap_or_default();
            crc32c = crc32c::crc32c_append(crc32c, &bytes);
        }
        Ok(Some((Fingerprint { size, crc32c: Some(crc32c), compressed: false, ..stored }, metadata)))
    }

    /// The fingerprints of the stored bytes of the live objects under a prefix, by name, as a listing shows them.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn fingerprints(&self, bucket: &str, prefix: &str) -> anyhow::Result<BTreeMap<String, Fingerprint>> {
        let items = self.control.list_objects().set_parent(full(bucket)).set_prefix(prefix).by_item();
        let items = futures::stream::unfold(items, |mut items| async move { Some((items.next().await?, items)) });
        let named = items.map_ok(|mut object| (std::mem::take(&mut object.name), Fingerprint::stored(object)));
        named.try_collect().await.with_context(|| format!("list gs://{bucket}/{prefix}"))
    }

    /// Reads the stored bytes of a generation of an object, and returns their size and CRC32C; `None` when it does not
    /// exist.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn stored_crc32c(
        &self,
        bucket: &str,
        object: &str,
        generation: i64,
    ) -> anyhow::Result<Option<(i64, u32)>> {
        let context = || format!("read gs://{bucket}/{object}");
        let mut response = match self.storage.read_object(full(bucket), object).set_generation(generation).send().await
        {
            Err(error) if is_not_found(&error) => return Ok(None),
            response => response.with_context(context)?,
        };
        let (mut size, mut crc32c) = (0_i64, 0);
        while let Some(bytes) = response.next().await {
            match bytes {
                Ok(bytes) => {
                    size += i64::try_from(bytes.len()).unwrap_or_default();
                    crc32c = crc32c::crc32c_append(crc32c, &bytes);
                }
                // Google's client compares too, at the end.
                Err(error) if is_checksum_mismatch(&error) => break,
                Err(error) => return Err(error).with_context(context),
            }
        }
        Ok(Some((size, crc32c)))
    }
}

fn is_checksum_mismatch(error: &google_cloud_storage::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    matches!(source, Some(ReadError::ChecksumMismatch(_)))
}

/// Size and CRC32C of a file, which is read a piece at a time. Blocks.
///
/// # Errors
/// When the file cannot be read.
pub fn crc32c_of_file(path: &Path) -> anyhow::Result<(i64, u32)> {
    let context = || format!("read {}", path.display());
    let mut file = std::fs::File::open(path).with_context(context)?;
    let mut chunk = vec![0; CHUNK];
    let (mut size, mut crc) = (0_i64, 0);
    loop {
        let read = file.read(&mut chunk).with_context(context)?;
        if read == 0 {
            return Ok((size, crc));
        }
        size += i64::try_from(read).unwrap_or_default();
        crc = crc32c::crc32c_append(crc, &chunk[..read]);
    }
}

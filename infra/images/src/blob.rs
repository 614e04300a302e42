//! Bytes that are found by their digest.

use anyhow::Context as _;
use contract::names;
use oci_spec::image::{Descriptor, Digest, MediaType};

/// The manifest, the configuration or a layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Their media type.
    pub media_type: MediaType,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(media_type: MediaType, bytes: Vec<u8>) -> Self {
        Self { media_type, digest: sha256(&bytes), bytes }
    }

    pub(crate) fn descriptor(&self) -> anyhow::Result<Descriptor> {
        let digest: Digest = self.digest.parse().context("read a digest of our own")?;
        Ok(Descriptor::new(self.media_type.clone(), self.bytes.len() as u64, digest))
    }
}

/// The digest of these bytes: `sha256:` and 64 hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", names::hash_bytes(bytes, 64))
}

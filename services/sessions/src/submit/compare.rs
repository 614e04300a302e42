//! Compares an input with the object of the same name that a session already has.

use std::collections::BTreeMap;

use anyhow::Context as _;
use cloud::storage::{Fingerprint, crc32c_of_file};
use contract::{labels, message::Work};

use super::input::Source;

/// A session has another object of this name already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs(pub String);

impl std::fmt::Display for Differs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Differs {}

/// Checks that an existing input has our bytes (by size and CRC32C) and the same options that change the result.
///
/// # Errors
/// [`Differs`] when it is not.
pub(super) fn check_same(
    work: &Work,
    existing: &Fingerprint,
    written: &BTreeMap<String, String>,
    ours: (i64, u32),
) -> Result<(), Differs> {
    if existing.compressed {
        return Err(Differs(format!(
            "session {} already has an input of this name that is stored compressed (gs://{}/{}), so that it cannot be \
             compared with yours; choose another session or another name",
            work.session, work.identity.bucket, work.identity.object
        )));
    }
    if !is_same(existing, ours) {
        return Err(Differs(format!(
            "session {} already has another input of this name, with other contents \
             (gs://{}/{}); choose another session or another name",
            work.session, work.identity.bucket, work.identity.object
        )));
    }
    let wanted = work.metadata();
    for option in
        [labels::ATTRIBUTE_PACK, labels::ATTRIBUTE_ITEMS, labels::ATTRIBUTE_ROWS_PER_ITEM, labels::ATTRIBUTE_COMMON]
    {
        let key = format!("{}{option}", labels::METADATA_PREFIX);
        if written.get(&key) != wanted.get(&key) {
            return Err(Differs(format!(
                "session {} already has this input with {option}={}; choose another session",
                work.session,
                written.get(&key).map_or("none", String::as_str)
            )));
        }
    }
    Ok(())
}

/// Size and CRC32C of an input.
pub(super) async fn fingerprint(source: &Source) -> anyhow::Result<(i64, u32)> {
    match source {
        Source::Bytes(bytes) => Ok((i64::try_from(bytes.len()).unwrap_or(i64::MAX), crc32c::crc32c(bytes))),
        Source::File(path) => {
            let path = path.clone();
            tokio::task::spawn_blocking(move || crc32c_of_file(&path)).await.context("hash the input")?
        }
    }
}

/// Whether an object has this size and CRC32C.
pub(super) fn is_same(existing: &Fingerprint, (size, crc): (i64, u32)) -> bool {
    existing.size == size && existing.crc32c.is_none_or(|other| other == crc)
}

//! The settings of this app, besides those of every web app.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// Variable with the bytes that one upload may have.
pub const UPLOAD_MAX: &str = "DESKGRID_UPLOAD_MAX_BYTES";
/// Bytes of one upload by default: 5 GiB.
const DEFAULT_MAX_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// Uploads at the same time; each holds a few MiB.
const MAX_UPLOADS: usize = 16;
/// Files of one form.
const MAX_FILES: usize = 2000;

/// How much may be uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploads {
    /// Bytes that one upload may have.
    pub max_bytes: u64,
    /// Uploads at the same time.
    pub at_once: usize,
    /// Files of one form.
    pub max_files: usize,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { max_bytes: DEFAULT_MAX_BYTES, at_once: MAX_UPLOADS, max_files: MAX_FILES }
    }
}

impl Uploads {
    /// From environment variables.
    ///
    /// # Errors
    /// When [`UPLOAD_MAX`] is not a number of bytes.
    pub fn read(variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let uploads = Self::default();
        let Some(text) = variables.get(UPLOAD_MAX).filter(|text| !text.is_empty()) else { return Ok(uploads) };
        let max_bytes = text.parse().ok().filter(|bytes| *bytes > 0);
        let max_bytes = max_bytes.with_context(|| format!("{UPLOAD_MAX}={text} is not a number of bytes"))?;
        Ok(Self { max_bytes, ..uploads })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_number_of_bytes() {
        let read = |text: &str| Uploads::read(&BTreeMap::from([(UPLOAD_MAX.to_owned(), text.to_owned())]));
        assert_eq!(read("1000").unwrap().max_bytes, 1000);
        assert_eq!(read("").unwrap(), Uploads::default());
        for bad in ["0", "-1", "5GiB"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

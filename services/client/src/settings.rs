//! What this app is told beside what every web app is told.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// Variable with the most bytes that one upload may have.
pub const UPLOAD_MAX: &str = "DESKGRID_UPLOAD_MAX_BYTES";
/// Most bytes of one upload unless told otherwise: 5 GiB.
const DEFAULT_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// Uploads that are passed on at a time; each holds a few MiB.
const AT_ONCE: usize = 16;

/// How much may be uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploads {
    /// Most bytes of one upload.
    pub max_bytes: u64,
    /// Uploads at a time.
    pub at_once: usize,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { max_bytes: DEFAULT_MAX, at_once: AT_ONCE }
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

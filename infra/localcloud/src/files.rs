//! Files that a reader sees whole or not at all.

use std::path::Path;

use anyhow::Context as _;

/// Writes a file whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file =
        tempfile::NamedTempFile::new_in(folder).with_context(|| format!("create a file in {}", folder.display()))?;
    std::io::Write::write_all(&mut file, content).with_context(|| format!("write {}", path.display()))?;
    file.persist(path).with_context(|| format!("rename to {}", path.display()))?;
    Ok(())
}

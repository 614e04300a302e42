//! Writes files that people named: whole or not at all, and never in the place of something else than a file.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// Where something is written.
#[derive(Debug)]
pub enum Destination {
    /// A file that takes the place of another one when it is complete.
    New(tempfile::NamedTempFile, PathBuf),
    /// A device or a pipe, which no file may take the place of.
    Open(File),
}

impl Destination {
    /// Begins to write; nothing is changed before [`Self::finish`], except for a device or a pipe.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let found = path.metadata().ok().filter(|found| !found.is_dir());
        if let Some(found) = &found {
            // A file that may not be written stays too.
            let open = File::options().append(true).open(path).with_context(|| format!("open {}", path.display()))?;
            if !found.is_file() {
                return Ok(Self::Open(open));
            }
        }
        // The file behind a link is written, and the link stays.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = new_file(folder).with_context(|| format!("make a file in {}", folder.display()))?;
        if let Some(found) = found {
            file.as_file().set_permissions(found.permissions()).context("keep the permissions of the file")?;
        }
        Ok(Self::New(file, path))
    }

    /// What is written to.
    pub fn file(&mut self) -> &mut File {
        match self {
            Self::New(file, _) => file.as_file_mut(),
            Self::Open(file) => file,
        }
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When that fails; then what was there before is still there.
    pub fn finish(self) -> anyhow::Result<()> {
        if let Self::New(file, path) = self {
            file.as_file().sync_all()?;
            file.persist(path)?;
        }
        Ok(())
    }
}

/// Replaces the text of a file; when that fails, the file has its former text.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut destination = Destination::open(path)?;
        destination.file().write_all(text.as_bytes())?;
        destination.finish()
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// A temporary file in a folder, with the permissions of a file that the user creates.
fn new_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_has_the_permissions_that_the_user_gives_to_files_or_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (new, plain) = (folder.path().join("x.csv"), folder.path().join("y.csv"));
        replace(&new, "").unwrap();
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&new), mode(&plain));
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o600)).unwrap();
        replace(&plain, "new").unwrap();
        assert_eq!(mode(&plain) & 0o777, 0o600);
    }

    #[test]
    fn no_file_takes_the_place_of_a_device_or_a_link() {
        assert!(matches!(Destination::open(Path::new("/dev/null")), Ok(Destination::Open(_))));
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file.csv"), folder.path().join("link.csv"));
        std::fs::write(&file, "old").unwrap();
        symlink(&file, &link).unwrap();
        let mut destination = Destination::open(&link).unwrap();
        destination.file().write_all(b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old", "it is not complete");
        destination.finish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
    }

    /// A full disk, as far as a test can make one.
    #[test]
    fn a_text_that_cannot_be_written_leaves_the_former_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("desk.toml");
        std::fs::write(&file, "old").unwrap();
        drop(Destination::open(&file).unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

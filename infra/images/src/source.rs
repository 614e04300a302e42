//! The source that images are built from: the files that git knows, as they are in the folder, and nothing else.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use common::names;

use crate::{digest::sha256, layer};

/// Most bytes of source; more than that is a mistake, such as data that was added to git.
pub const LIMIT_BYTES: u64 = 64 * 1024 * 1024;
/// What a build reads, below the root of the workspace.
const PARTS: [&str; 8] =
    ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo", "infra", "manifests", "services", "xtask"];

/// One file.
#[derive(Clone, Debug)]
struct Item {
    path: String,
    executable: bool,
    bytes: Vec<u8>,
}

/// All files of a build, by path.
#[derive(Clone, Debug)]
pub struct Source {
    items: Vec<Item>,
    /// Files in the same folders that git does not know, and so are left out.
    pub unknown: Vec<String>,
}

impl Source {
    /// Reads the files of a workspace that a build needs.
    ///
    /// # Errors
    /// When the folder is none of git's, or a file cannot be read, or there is too much of it.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let known = list(root, &["--cached"])?;
        let mut items = Vec::new();
        let mut size = 0;
        for path in known.into_iter().filter(|path| is_needed(path)) {
            let place = root.join(&path);
            let bytes = match std::fs::read(&place) {
                // Deleted, and git was not told.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.with_context(|| format!("read {}", place.display()))?,
            };
            size += bytes.len() as u64;
            if size > LIMIT_BYTES {
                bail!("the source is more than {} MiB; {path} is one of the files", LIMIT_BYTES >> 20);
            }
            items.push(Item { executable: is_executable(&place)?, path, bytes });
        }
        items.sort_by(|one, other| one.path.cmp(&other.path));
        if !items.iter().any(|item| item.path == "Cargo.lock") {
            bail!("{} holds no Cargo.lock that git knows", root.display());
        }
        let unknown = list(root, &["--others", "--exclude-standard"])?;
        let unknown = unknown.into_iter().filter(|path| is_needed(path) && path.ends_with(".rs")).collect();
        Ok(Self { items, unknown })
    }

    /// A tag that stands for this source and for how it is built (`with`): `src-` and 16 characters. The same
    /// files have the same one, whatever happened to times, branches and documents.
    pub fn tag(&self, with: &[&str]) -> String {
        let digests: Vec<String> = self
            .items
            .iter()
            .map(|item| format!("{} {} {}", item.path, item.executable, sha256(&item.bytes)))
            .collect();
        let parts: Vec<&str> = with.iter().copied().chain(digests.iter().map(String::as_str)).collect();
        format!("src-{}", names::hash(&parts, 16))
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.items.len()
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.items.iter().map(|item| item.bytes.len() as u64).sum()
    }

    /// All of it as a tar file, compressed: sorted, without times and owners.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn tar_gz(&self) -> anyhow::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for item in &self.items {
            let mut header = tar::Header::new_gnu();
            header.set_mode(if item.executable { 0o755 } else { 0o644 });
            header.set_mtime(0);
            header.set_size(item.bytes.len() as u64);
            tar.append_data(&mut header, &item.path, item.bytes.as_slice()).context("pack the source")?;
        }
        let tar = tar.into_inner().context("pack the source")?;
        layer::gzip(&tar).context("compress the source")
    }
}

/// Whether a build reads a file. Tests of packages are compiled into nothing, and an environment is no source.
fn is_needed(path: &str) -> bool {
    let mut folders = path.split('/');
    let part = folders.next().unwrap_or_default();
    PARTS.contains(&part)
        && !folders.any(|folder| folder == "tests")
        && !path.starts_with("infra/environments/")
        && !path.ends_with(".md")
}

/// Paths of files below the folder.
fn list(root: &Path, which: &[&str]) -> anyhow::Result<Vec<String>> {
    let listed = Command::new("git")
        .arg("ls-files")
        .args(which)
        .arg("-z")
        .current_dir(root)
        .output()
        .context("run git, which knows what the source is")?;
    if !listed.status.success() {
        bail!("git does not know {}: {}", root.display(), String::from_utf8_lossy(&listed.stderr).trim());
    }
    let listed = String::from_utf8(listed.stdout).context("read the names that git printed")?;
    Ok(listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn is_executable(path: &PathBuf) -> anyhow::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o100 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(root: &Path, arguments: &[&str]) {
        let status = Command::new("git").args(arguments).current_dir(root).output().unwrap().status;
        assert!(status.success(), "git {arguments:?}");
    }

    #[test]
    fn the_source_is_what_git_knows_as_it_is_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), text).unwrap();
        };
        git(root, &["init", "-q"]);
        assert!(Source::read(root).unwrap_err().to_string().contains("Cargo.lock"));
        for path in ["Cargo.lock", "services/engine/src/main.rs", "services/engine/tests/it/main.rs", "README.md"] {
            write(path, "one");
        }
        git(root, &["add", "."]);
        write("services/engine/src/new.rs", "untracked");
        let source = Source::read(root).unwrap();
        assert_eq!((source.files(), source.size()), (2, 6));
        assert_eq!(source.unknown, ["services/engine/src/new.rs"]);
        let (tag, tar) = (source.tag(&["local"]), source.tar_gz().unwrap());
        assert_ne!(tag, source.tag(&["cloud"]));

        // Neither a time nor a document nor a test makes another source.
        write("README.md", "two");
        write("services/engine/tests/it/main.rs", "two");
        write("Cargo.lock", "one");
        let same = Source::read(root).unwrap();
        assert_eq!((same.tag(&["local"]), same.tar_gz().unwrap()), (tag.clone(), tar));
        write("Cargo.lock", "two");
        assert_ne!(Source::read(root).unwrap().tag(&["local"]), tag);
    }
}

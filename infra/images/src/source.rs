//! The source of images: the files that git tracks, with their contents in the folder.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use contract::names;

use crate::{blob::sha256, catalogue::Spec, layer, workspace::Workspace};

/// Bytes of source; more is a mistake, such as data that was added to git.
pub const LIMIT_BYTES: u64 = 64 * 1024 * 1024;
/// Files and folders that a build reads, below the root of the workspace.
const PARTS: [&str; 8] =
    ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo", "infra", "manifests", "services", "xtask"];

/// Files and folders that every image depends on; the last is the recipe of images.
const SHARED: [&str; 5] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo", "infra/images"];

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
    workspace: Workspace,
    /// Files in the same folders that git does not track; they are left out.
    pub unknown: Vec<String>,
}

impl Source {
    /// Reads the files of a workspace that a build needs.
    ///
    /// # Errors
    /// When the folder is not in a git repository, a file cannot be read, or the source is too large.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let tracked = list(root, &["--cached"])?;
        let mut items = Vec::new();
        let mut size = 0;
        for path in tracked.into_iter().filter(|path| is_needed(path)) {
            let file = root.join(&path);
            let bytes = match std::fs::read(&file) {
                // It was deleted, and git still tracks it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.with_context(|| format!("read {}", file.display()))?,
            };
            size += bytes.len() as u64;
            if size > LIMIT_BYTES {
                bail!("the source is more than {} MiB; {path} is one of the files", LIMIT_BYTES >> 20);
            }
            items.push(Item { executable: is_executable(&file)?, path, bytes });
        }
        items.sort_by(|one, other| one.path.cmp(&other.path));
        if !items.iter().any(|item| item.path == "Cargo.lock") {
            bail!("{} has no Cargo.lock that git tracks", root.display());
        }
        let unknown = list(root, &["--others", "--exclude-standard"])?;
        let unknown = unknown.into_iter().filter(|path| is_needed(path) && path.ends_with(".rs")).collect();
        Ok(Self { items, workspace: Workspace::read(root)?, unknown })
    }

    /// A tag of all of this source: `src-` and 16 characters. It depends on the contents of the files alone, not on
    /// times, branches and documents.
    pub fn tag(&self) -> String {
        tag(self.items.iter(), &[])
    }

    /// A tag of an image. It depends on the files that are compiled into its program, on those that determine features
    /// and crates, on the recipe of images, and on `with`: the traits of the compiler.
    ///
    /// # Errors
    /// When the workspace lacks a package.
    pub fn tag_of(&self, spec: &Spec, with: &[&str]) -> anyhow::Result<String> {
        let compiled = self.workspace.compiled(&[spec.package])?;
        // Programs of one run share features, so the manifest of another program can change this one.
        let together: Vec<&str> = spec.compiled_with().map(|other| other.package).collect();
        let manifests = self.workspace.manifests(&together)?;
        let is_in = |path: &str, file: &str| {
            path.strip_prefix(file).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let counts = |item: &&Item| {
            let mut places = SHARED.into_iter().chain(compiled.iter().copied());
            manifests.contains(&item.path) || places.any(|file| is_in(&item.path, file))
        };
        Ok(tag(self.items.iter().filter(counts), with))
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

fn tag<'a>(items: impl Iterator<Item = &'a Item>, with: &[&str]) -> String {
    let digest = |item: &Item| format!("{} {} {}", item.path, item.executable, sha256(&item.bytes));
    let digests: Vec<String> = items.map(digest).collect();
    let parts: Vec<&str> = with.iter().copied().chain(digests.iter().map(String::as_str)).collect();
    format!("src-{}", names::hash(&parts, 16))
}

/// Whether a build reads a file. Integration tests and environments are not part of any program.
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
        .context("run git to list the source")?;
    if !listed.status.success() {
        bail!("git lists no files in {}: {}", root.display(), String::from_utf8_lossy(&listed.stderr).trim());
    }
    let listed = String::from_utf8(listed.stdout).context("read the names that git printed")?;
    Ok(listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn is_executable(path: &PathBuf) -> anyhow::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path).with_context(|| format!("read the permissions of {}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o100 != 0)
}

#[cfg(test)]
mod tests;

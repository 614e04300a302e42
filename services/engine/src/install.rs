//! `engine install PATH`: puts a copy of this program where a desk's own image can run it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use contract::exit;

/// Runs `install` and returns the exit code.
pub fn main(path: &Path) -> u8 {
    match install(path) {
        Ok(()) => exit::DONE,
        Err(error) => {
            // Where it cannot be written there is nobody to tell; the exit code remains.
            let _ = writeln!(std::io::stderr(), "error: failed to {error:#}");
            exit::TRANSIENT
        }
    }
}

/// Copies this program to `path`, making the folders on the way. Whoever looks sees all of it or nothing.
fn install(path: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    let draft = PathBuf::from(format!("{}.part-{}", path.display(), std::process::id()));
    fs::copy(&program, &draft).with_context(|| format!("copy {} to {}", program.display(), draft.display()))?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).context("make the copy a program")?;
    fs::rename(&draft, path).with_context(|| format!("put the copy at {}", path.display()))
}

//! `engine install PATH`: copies this program to a path where a desk's own image can run it.

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
            // If standard error cannot be written, the exit code still reports the failure.
            let _ = writeln!(std::io::stderr(), "error: failed to {error:#}");
            exit::TRANSIENT
        }
    }
}

/// Copies this program to `path` and creates the folders on the way. The rename makes the copy appear whole.
fn install(path: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("create the folder {}", folder.display()))?;
    let temporary = PathBuf::from(format!("{}.part-{}", path.display(), std::process::id()));
    fs::copy(&program, &temporary).with_context(|| format!("copy {} to {}", program.display(), temporary.display()))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).context("make the copy executable")?;
    fs::rename(&temporary, path).with_context(|| format!("move the copy to {}", path.display()))
}

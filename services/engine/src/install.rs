//! `engine install PATH`: copies this program to a path where a desk's own image can run it, and beside it the
//! certificate authorities of its own image, for a desk's image that has none.

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use contract::exit;

use crate::config;

/// The certificate authorities of the engine's image.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Variable with the file of authorities that TLS libraries read in place of the system's.
const AUTHORITIES_VARIABLE: &str = "SSL_CERT_FILE";

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
    fs::rename(&temporary, path).with_context(|| format!("move the copy to {}", path.display()))?;
    let authorities = Path::new(AUTHORITIES);
    if authorities.exists() {
        fs::copy(authorities, authorities_beside(path)).context("copy the certificate authorities")?;
    }
    Ok(())
}

/// Where the authorities of an installed program are.
fn authorities_beside(program: &Path) -> PathBuf {
    program.with_file_name("ca-certificates.crt")
}

/// Begins this program anew with the authorities beside it, when the image has none. The libraries for Google's APIs read
/// them from the system or the variable only.
///
/// # Errors
/// When this program cannot be begun.
pub fn use_authorities() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let authorities = authorities_beside(&program);
    let is_set = config::variables().contains_key(AUTHORITIES_VARIABLE);
    if is_set || !authorities.exists() || !rustls_native_certs::load_native_certs().certs.is_empty() {
        return Ok(());
    }
    let error = Command::new(program).args(std::env::args_os().skip(1)).env(AUTHORITIES_VARIABLE, authorities).exec();
    Err(error).context("begin anew with the certificate authorities beside this program")
}

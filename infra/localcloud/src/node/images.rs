//! Images: a digest that names a program. A copy is kept, so that rebuilding does not change what runs.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, bail};
use tokio::sync::watch;

/// The images that nodes can run.
pub struct Images {
    folder: PathBuf,
    names: Mutex<HashMap<String, String>>,
    changed: watch::Sender<u64>,
}

/// An image that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `NAME@sha256:HEX`.
    pub reference: String,
    /// The program.
    pub program: PathBuf,
}

impl Images {
    /// The images kept in a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, names: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// Makes an image of a program and gives its reference, `NAME@sha256:HEX`. The name alone then means it too.
    ///
    /// # Errors
    /// When the program cannot be read or kept.
    pub fn register(&self, name: &str, program: &Path) -> anyhow::Result<String> {
        let digest = digest(program).with_context(|| format!("read program {}", program.display()))?;
        let Some(file) = program.file_name() else { bail!("{} is no program", program.display()) };
        let folder = self.folder.join(format!("sha256-{digest}"));
        let kept = folder.join(file);
        if !kept.exists() {
            fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
            // Written beside its place and moved there, so that nobody runs half a program.
            let part = self.folder.join(format!("part-{:016x}", rand::random::<u64>()));
            fs::copy(program, &part).with_context(|| format!("copy program {}", program.display()))?;
            fs::rename(&part, &kept).with_context(|| format!("keep program {}", kept.display()))?;
        }
        let reference = by_digest(name, &digest);
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), reference.clone());
        self.changed.send_modify(|count| *count += 1);
        Ok(reference)
    }

    /// The reference that [`Self::register`] would give.
    ///
    /// # Errors
    /// When the program cannot be read.
    pub fn reference(name: &str, program: &Path) -> anyhow::Result<String> {
        let digest = digest(program).with_context(|| format!("read program {}", program.display()))?;
        Ok(by_digest(name, &digest))
    }

    /// The image that a reference means, if it is known.
    pub fn find(&self, reference: &str) -> Option<Image> {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(reference).cloned();
        let reference = known.unwrap_or_else(|| reference.to_owned());
        let (_, digest) = reference.split_once("@sha256:")?;
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut files = fs::read_dir(self.folder.join(format!("sha256-{digest}"))).ok()?;
        let program = files.find_map(Result::ok)?.path();
        Some(Image { reference, program })
    }

    /// Wakes when an image was registered.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

fn by_digest(name: &str, digest: &str) -> String {
    format!("{name}@sha256:{digest}")
}

/// SHA-256 of a file, in hexadecimal. The TLS library's implementation is used, which is fast in every build.
fn digest(path: &Path) -> anyhow::Result<String> {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = TLS13_AES_128_GCM_SHA256.tls13().context("find SHA-256")?;
    let mut hash = suite.common.hash_provider.start();
    let mut reader = BufReader::new(File::open(path)?);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
    }
    Ok(hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_outlives_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tool");
        fs::write(&program, "hello").unwrap();
        let images = Images::new(folder.path().join("images"));
        let foreseen = Images::reference("repo/tool", &program).unwrap();
        assert_eq!(images.find(&foreseen), None);
        let reference = images.register("repo/tool", &program).unwrap();
        assert_eq!(reference, foreseen);
        assert_eq!(reference, "repo/tool@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        fs::write(&program, "changed").unwrap();
        let found = images.find(&reference).unwrap();
        assert_eq!(fs::read_to_string(&found.program).unwrap(), "hello");
        assert_eq!(images.find("repo/tool"), Some(found));
        assert_eq!(images.find("repo/tool@sha256:../../etc"), None);
        assert_eq!(images.find("other"), None);
    }
}

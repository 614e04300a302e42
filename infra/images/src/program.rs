//! A program, and the shared libraries that it cannot start without.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use goblin::elf::{Elf, header};
use oci_spec::image::Arch;

use crate::layer::Entry;

/// Folders of libraries, in the default order of the loaders of Debian and of Fedora.
pub const LIBRARY_FOLDERS: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// A program for Linux.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Processor that it is for.
    pub architecture: Arch,
    /// The loader and every library that it needs, directly or through another; none for a static program.
    pub libraries: Vec<Entry>,
}

impl Program {
    /// Reads a program, and its libraries from these folders.
    ///
    /// # Errors
    /// When it is not a program for Linux, or a library is missing.
    pub fn read(path: &Path, folders: &[&str]) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("read the program {}", path.display()))?;
        let context = || format!("understand the program {}", path.display());
        let elf = Elf::parse(&bytes).context("it is not a program for Linux").with_context(context)?;
        let architecture = match elf.header.e_machine {
            header::EM_X86_64 => Arch::Amd64,
            header::EM_AARCH64 => Arch::ARM64,
            other => bail!("{} is for a processor of the kind {other}, which no node has", path.display()),
        };
        let mut libraries: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
        if let Some(loader) = elf.interpreter {
            let found = std::fs::read(loader).with_context(|| format!("read the loader {loader}"))?;
            libraries.insert(loader.into(), found);
        }
        let mut missing: Vec<String> = elf.libraries.iter().map(|&name| name.to_owned()).collect();
        while let Some(name) = missing.pop() {
            if libraries.keys().any(|path| path.file_name().is_some_and(|file| file == name.as_str())) {
                continue;
            }
            let (path_of_library, content) = find(&name, folders)
                .with_context(|| format!("find the library {name}, which {} needs", path.display()))?;
            let more = Elf::parse(&content)
                .with_context(|| format!("understand the library {}", path_of_library.display()))?;
            missing.extend(more.libraries.iter().map(|&name| name.to_owned()));
            libraries.insert(path_of_library, content);
        }
        let libraries = libraries
            .into_iter()
            .map(|(path, content)| Entry::program(path.to_string_lossy().trim_start_matches('/').to_owned(), content))
            .collect();
        Ok(Self { architecture, libraries, bytes })
    }
}

/// A library from the first folder that has it. It may be a link; the image gets the file under this name.
fn find(name: &str, folders: &[&str]) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    for folder in folders {
        let path = Path::new(folder).join(name);
        match std::fs::read(&path) {
            Ok(content) => return Ok((path, content)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        }
    }
    bail!("it is in none of {}", folders.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_its_loader_and_libraries() {
        // On every machine this test itself is a program.
        let here = std::env::current_exe().unwrap();
        let program = Program::read(&here, LIBRARY_FOLDERS).unwrap();
        let names: Vec<&str> = program.libraries.iter().filter_map(|library| library.path.rsplit('/').next()).collect();
        assert!(names.contains(&"libc.so.6"), "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("ld-linux")), "{names:?}");
        let error = Program::read(&here, &["/nonexistent"]).unwrap_err();
        assert!(format!("{error:#}").contains("which"), "{error:#}");
    }

    #[test]
    fn a_file_that_is_not_a_program_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for content in ["", "#!/bin/sh\n", "\u{7f}ELF and nothing more"] {
            std::fs::write(file.path(), content).unwrap();
            let error = Program::read(file.path(), LIBRARY_FOLDERS).unwrap_err();
            assert!(format!("{error:#}").contains("not a program for Linux"), "{error:#}");
        }
    }
}

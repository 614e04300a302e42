//! Images made on this machine: cargo compiles the programs, and the images are put together in memory. No container
//! daemon, and no image that others made.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;
use cli::{error::Failure, output::Output, text};
use images::{Image, LIBRARY_FOLDERS, Part, Program, Recipe, Spec, assemble, spdx};
use tokio::process::Command;

use super::Tagged;
use crate::context;

/// Cargo's profile for images.
pub(crate) const PROFILE: &str = "release";
/// Between two flags in `CARGO_ENCODED_RUSTFLAGS`.
const BETWEEN_FLAGS: &str = "\u{1f}";

/// The traits of this machine that an image depends on.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Version of the compiler.
    rust: String,
    /// What it compiles for: this machine's own kind.
    triple: String,
    /// Version of the C library.
    libc: String,
    /// There is a static C library, so that programs need no other file.
    is_static: bool,
}

impl Machine {
    /// Reads the versions of the compiler and the C library.
    ///
    /// # Errors
    /// When there is no compiler, or it makes no programs for Linux.
    pub(crate) async fn read() -> anyhow::Result<Self> {
        let rustc = print("rustc", &["-vV"]).await?;
        let line = |key: &str| {
            rustc.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default().to_owned()
        };
        let (rust, triple) = (line("release:"), line("host:"));
        if !triple.contains("-linux-") {
            return Err(Failure::new("no-image", "this machine makes no programs for Linux")
                .on(triple)
                .why("an image made here holds a program compiled here, and nodes run Linux")
                .next("leave out --local, so that Cloud Build makes the images, or run it on Linux")
                .into());
        }
        let libc = print("getconf", &["GNU_LIBC_VERSION"]).await.unwrap_or_default().trim().to_owned();
        let archive = print("cc", &["-print-file-name=libc.a"]).await.unwrap_or_default();
        let is_static = Path::new(archive.trim()).is_absolute();
        Ok(Self { rust, triple, libc, is_static })
    }

    /// All traits, as parts of a tag.
    pub(crate) fn traits(&self, profile: &str) -> Vec<String> {
        // The flags as they would be anywhere.
        let (rust, c) = self.flags(Path::new("/cargo"), Path::new("/deskgrid"));
        let traits = ["local", profile, &self.rust, &self.triple, &self.libc, &rust, &c];
        traits.into_iter().map(str::to_owned).collect()
    }

    /// Parts of a program besides crates.
    fn parts(&self) -> Vec<Part> {
        let rust = Part { name: "rust".to_owned(), version: self.rust.clone() };
        let libc = self
            .libc
            .split_once(' ')
            .map(|(name, version)| Part { name: name.to_owned(), version: version.to_owned() });
        [Some(rust), libc].into_iter().flatten().collect()
    }

    /// Flags of the compiler. No path of this machine gets into a program, so that it is the same wherever it is made.
    fn flags(&self, cargo: &Path, root: &Path) -> (String, String) {
        let places = [(cargo, "/cargo"), (root, "/deskgrid")];
        let mut rust: Vec<String> =
            places.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect();
        if self.is_static {
            rust.push("-Ctarget-feature=+crt-static".to_owned());
        }
        let c: Vec<String> =
            places.iter().map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display())).collect();
        (rust.join(BETWEEN_FLAGS), c.join(" "))
    }
}

/// Where cargo keeps the crates of others.
fn cargo_home() -> PathBuf {
    let variables = contract::config::variables();
    let home = || variables.get("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    variables.get("CARGO_HOME").map(PathBuf::from).or_else(home).unwrap_or_default()
}

/// Compiles the programs of these images, and puts the images together.
///
/// # Errors
/// When something does not compile, or an image cannot be put together.
pub(crate) async fn make(
    machine: &Machine,
    wanted: &[Tagged],
    profile: &str,
    output: &Output,
) -> anyhow::Result<Vec<Image>> {
    let mut programs = BTreeMap::new();
    for Tagged { spec, .. } in wanted {
        if !programs.contains_key(spec.program) {
            // Always all of them at once: what is compiled together shares features, and so is the same every time.
            let together: Vec<&Spec> = spec.compiled_with().collect();
            programs.extend(compile(machine, &together, profile, output).await?);
        }
    }
    let triple = machine.triple.as_str();
    let metadata =
        print(&cargo(), &["metadata", "--format-version", "1", "--locked", "--filter-platform", triple]).await?;
    let metadata = serde_json::from_str(&metadata).context("read the crates that cargo printed")?;
    let mut images = Vec::new();
    for Tagged { spec, tag } in wanted {
        let path: &PathBuf =
            programs.get(spec.program).with_context(|| format!("find the program {}", spec.program))?;
        let program = Program::read(path, LIBRARY_FOLDERS)?;
        let sbom = spdx(&metadata, spec.package, tag, &machine.parts())?;
        let image = assemble(&Recipe { spec, program: &program, source: tag, sbom: &sbom })
            .with_context(|| format!("put the image {} together", spec.name))?;
        let packed: u64 = image.layers.iter().map(|layer| layer.bytes.len() as u64).sum();
        output.note(format_args!(
            "  {} {}: {}, {} compressed",
            spec.name,
            image.digest(),
            text::bytes(image.size),
            text::bytes(packed)
        ));
        images.push(image);
    }
    Ok(images)
}

/// Compiles programs; each by its name.
async fn compile(
    machine: &Machine,
    specs: &[&Spec],
    profile: &str,
    output: &Output,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let root = context::root();
    let (rust, c) = machine.flags(&cargo_home(), &root);
    let mut command = Command::new(cargo());
    command.args(["build", "--locked", "--message-format=json-render-diagnostics", "--profile", profile]);
    command.args(["--target", &machine.triple]);
    for spec in specs {
        command.args(["--package", spec.package, "--bin", spec.program]);
    }
    if output.is_quiet() {
        command.arg("--quiet");
    }
    let names: Vec<&str> = specs.iter().map(|spec| spec.program).collect();
    output.note(format_args!("  compiling {} ({profile})", names.join(", ")));
    let compiling = command
        .current_dir(&root)
        .env("CARGO_ENCODED_RUSTFLAGS", rust)
        .env("CFLAGS", c)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .context("run cargo build")?;
    let compiled = compiling.wait_with_output().await.context("run cargo build")?;
    if !compiled.status.success() {
        return Err(Failure::new("build", "the programs do not compile")
            .on(names.join(", "))
            .why(format!("cargo build ended with {}", compiled.status))
            .next("see the messages of the compiler above")
            .into());
    }
    Ok(String::from_utf8_lossy(&compiled.stdout).lines().filter_map(crate::binaries::artifact).collect())
}

fn cargo() -> String {
    contract::config::variables().remove("CARGO").unwrap_or_else(|| "cargo".to_owned())
}

/// The output of a program.
async fn print(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let context = || format!("run {program} {}", arguments.join(" "));
    let ran =
        Command::new(program).args(arguments).current_dir(context::root()).output().await.with_context(context)?;
    if !ran.status.success() {
        anyhow::bail!("{} ended with {}: {}", context(), ran.status, String::from_utf8_lossy(&ran.stderr).trim());
    }
    String::from_utf8(ran.stdout).with_context(context)
}

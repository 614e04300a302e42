//! The services' programs, built by cargo.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use anyhow::Context as _;
use cli::{error::Failure, output::Output};
use tokio::process::Command;

use crate::context;

/// The programs of the services, by the name of their package.
#[derive(Clone, Debug)]
pub struct Binaries {
    paths: BTreeMap<String, PathBuf>,
}

/// Packages that are built together, always the same, so that cargo settles on one set of features and nothing is
/// built twice.
const PACKAGES: [&str; 6] = ["xtask", "cli", "orchestrator", "engine", "client", "monitor"];

impl Binaries {
    /// Builds them; cargo prints its progress on standard error.
    ///
    /// # Errors
    /// When the build fails.
    pub async fn build(output: &Output) -> anyhow::Result<Self> {
        Self::build_with(&[], output).await
    }

    /// Builds them with the profile that the bench measures.
    ///
    /// # Errors
    /// When the build fails.
    pub async fn build_optimized(output: &Output) -> anyhow::Result<Self> {
        Self::build_with(&["--profile", "optimized"], output).await
    }

    async fn build_with(profile: &[&str], output: &Output) -> anyhow::Result<Self> {
        let cargo = contract::config::variables().remove("CARGO").unwrap_or_else(|| "cargo".to_owned());
        let mut command = Command::new(cargo);
        command.arg("build").arg("--message-format=json-render-diagnostics").current_dir(context::root());
        command.args(profile);
        for package in PACKAGES {
            command.args(["--package", package]);
        }
        if output.is_quiet() {
            command.arg("--quiet");
        }
        // Not `output`, which would keep cargo's progress and the compiler's messages from the terminal.
        let building = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("run cargo build")?;
        let built = building.wait_with_output().await.context("run cargo build")?;
        if !built.status.success() {
            return Err(Failure::new("build", "the services do not build")
                .why(format!("cargo build ended with {}", built.status))
                .next("see the messages of the compiler above")
                .into());
        }
        let paths = String::from_utf8_lossy(&built.stdout).lines().filter_map(artifact).collect();
        Ok(Self { paths })
    }

    /// The program of a service.
    ///
    /// # Errors
    /// When cargo built none of that name.
    pub fn path(&self, package: &str) -> anyhow::Result<&PathBuf> {
        self.paths.get(package).with_context(|| format!("find the program {package} in what cargo built"))
    }
}

/// Package and program of one line of cargo's messages, if it reports a program.
pub(crate) fn artifact(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let program = message["executable"].as_str()?;
    Some((message["target"]["name"].as_str()?.to_owned(), program.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"engine"},"executable":"/t/debug/engine"}"#;
        assert_eq!(artifact(line), Some(("engine".to_owned(), "/t/debug/engine".into())));
        for other in [r#"{"reason":"compiler-artifact","target":{"name":"x"},"executable":null}"#, "", "text"] {
            assert_eq!(artifact(other), None);
        }
    }
}

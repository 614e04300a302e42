//! The packages of the workspace, from `cargo metadata`: the folder of each, and the packages compiled into it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// One package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    /// Its folder, below the root.
    folder: String,
    /// Packages of the workspace that it cannot be compiled without.
    needs: BTreeSet<String>,
    /// Files outside its folder that it includes: `package.metadata.deskgrid.reads` of its manifest.
    reads: Vec<String>,
}

/// All packages of a workspace, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workspace(BTreeMap<String, Member>);

impl Workspace {
    /// Reads the packages with cargo, which only reads the manifests: no network, no registry.
    ///
    /// # Errors
    /// When there is no cargo, or the folder has no workspace.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let cargo = contract::config::variables().remove("CARGO").unwrap_or_else(|| "cargo".to_owned());
        let output = Command::new(&cargo)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(root)
            .output()
            .with_context(|| format!("run {cargo} to list the packages of the source"))?;
        if !output.status.success() {
            bail!("cargo lists no packages in {}: {}", root.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        let metadata = serde_json::from_slice(&output.stdout).context("read the packages that cargo printed")?;
        Self::from_metadata(&metadata).context("understand the packages that cargo printed")
    }

    /// The packages in the output of `cargo metadata`.
    fn from_metadata(metadata: &Value) -> anyhow::Result<Self> {
        let root = metadata["workspace_root"].as_str().context("find the root")?;
        let packages = metadata["packages"].as_array().context("find the packages")?;
        let below = |path: &str| Some(path.strip_prefix(root)?.trim_start_matches('/').to_owned());
        let mut folders = BTreeMap::new();
        for package in packages {
            let name = package["name"].as_str().context("find the name of a package")?;
            let manifest = package["manifest_path"].as_str().context("find the manifest of a package")?;
            let folder = manifest.strip_suffix("/Cargo.toml").and_then(below);
            folders.insert(folder.with_context(|| format!("find the folder of {name}"))?, (name, package));
        }
        let mut members = BTreeMap::new();
        for (folder, (name, package)) in &folders {
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            // Dependencies of tests are not in any program.
            let needs = dependencies.filter(|dependency| dependency["kind"] != "dev").filter_map(|dependency| {
                let (needed, _) = folders.get(&below(dependency["path"].as_str()?)?)?;
                Some((*needed).to_owned())
            });
            let reads = package["metadata"]["deskgrid"]["reads"].as_array().into_iter().flatten();
            let reads = reads.filter_map(|path| path.as_str().map(str::to_owned)).collect();
            members.insert((*name).to_owned(), Member { folder: folder.clone(), needs: needs.collect(), reads });
        }
        Ok(Self(members))
    }

    /// Folders and files, below the root, that are compiled into any of these packages.
    pub(crate) fn compiled(&self, packages: &[&str]) -> anyhow::Result<BTreeSet<&str>> {
        let members = self.closure(packages)?;
        Ok(members
            .into_iter()
            .flat_map(|member| [&member.folder].into_iter().chain(&member.reads))
            .map(String::as_str)
            .collect())
    }

    /// The manifests of these packages and of all that they need. Together they say which features are compiled.
    pub(crate) fn manifests(&self, packages: &[&str]) -> anyhow::Result<BTreeSet<String>> {
        Ok(self.closure(packages)?.into_iter().map(|member| format!("{}/Cargo.toml", member.folder)).collect())
    }

    fn closure(&self, packages: &[&str]) -> anyhow::Result<Vec<&Member>> {
        let mut open: Vec<&str> = packages.to_vec();
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        while let Some(name) = open.pop() {
            if seen.insert(name) {
                let member = self.0.get(name).with_context(|| format!("find the package {name} in the workspace"))?;
                open.extend(member.needs.iter().map(String::as_str));
                found.push(member);
            }
        }
        Ok(found)
    }

    /// The package that a file is in.
    #[cfg(test)]
    pub(crate) fn owner(&self, path: &str) -> Option<&str> {
        let holds = |member: &Member| path.strip_prefix(&member.folder).is_some_and(|rest| rest.starts_with('/'));
        self.0.iter().find(|(_, member)| holds(member)).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_compiled_in_counts_and_what_only_tests_use_does_not() {
        let to = |folder: &str, kind: Value| json!({"name": "x", "path": format!("/w/{folder}"), "kind": kind});
        let package = |folder: &str, dependencies: Value, reads: Value| {
            let name = folder.rsplit('/').next();
            json!({"name": name, "manifest_path": format!("/w/{folder}/Cargo.toml"), "dependencies": dependencies, "metadata": {"deskgrid": {"reads": reads}}})
        };
        let serde = json!({"name": "serde", "source": "registry", "kind": null});
        let metadata = json!({"workspace_root": "/w", "packages": [
            package("services/engine", json!([to("services/kernel", Value::Null), to("services/tables", json!("build")), to("infra/fixture", json!("dev")), serde]), Value::Null),
            package("services/kernel", json!([to("services/contract", Value::Null)]), json!(["data"])),
            package("services/contract", json!([]), Value::Null),
            package("services/tables", json!([]), Value::Null),
            package("infra/fixture", json!([]), Value::Null),
        ]});
        let workspace = Workspace::from_metadata(&metadata).unwrap();
        let compiled: Vec<&str> = workspace.compiled(&["engine"]).unwrap().into_iter().collect();
        assert_eq!(compiled, ["data", "services/contract", "services/engine", "services/kernel", "services/tables"]);
        let manifests: Vec<String> = workspace.manifests(&["kernel"]).unwrap().into_iter().collect();
        assert_eq!(manifests, ["services/contract/Cargo.toml", "services/kernel/Cargo.toml"]);
        assert!(workspace.compiled(&["missing"]).is_err());
    }
}

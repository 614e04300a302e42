//! Kubeconfig files, found and merged as `kubectl` does.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use kube::config::Kubeconfig;

/// The files that `kubectl` reads: those of `KUBECONFIG`, or the usual one of the person.
pub fn paths(variables: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let variable = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    let named: Vec<_> =
        std::env::split_paths(variable("KUBECONFIG")).filter(|path| !path.as_os_str().is_empty()).collect();
    match variable("HOME") {
        home if named.is_empty() && !home.is_empty() => vec![Path::new(home).join(".kube/config")],
        _ => named,
    }
}

/// The merged files, `None` when none exists. Files that are missing are ignored, the first file that has a name or the
/// current context wins, and an empty current context is none (client-go, `ClientConfigLoadingRules.Load`). The library
/// refuses missing files, and an empty current context wins there.
///
/// # Errors
/// When a file cannot be read or is no kubeconfig.
pub fn read(variables: &BTreeMap<String, String>) -> anyhow::Result<Option<Kubeconfig>> {
    let mut merged: Option<Kubeconfig> = None;
    for path in paths(variables).iter().filter(|path| path.exists()) {
        let context = || format!("read the kubeconfig {}", path.display());
        let mut one = Kubeconfig::read_from(path).with_context(context)?;
        one.current_context = one.current_context.filter(|name| !name.is_empty());
        merged = Some(match merged {
            Some(before) => before.merge(one).with_context(context)?,
            None => one,
        });
    }
    Ok(merged)
}

/// As [`read`], when a kubeconfig is needed.
///
/// # Errors
/// As [`read`], and when there is none.
pub fn read_needed(variables: &BTreeMap<String, String>) -> anyhow::Result<Kubeconfig> {
    read(variables)?.with_context(|| {
        let paths: Vec<_> = paths(variables).iter().map(|path| path.display().to_string()).collect();
        format!("there is no kubeconfig ({})", paths.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, server: &str, current: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: '{current}'\n\
             clusters: [{{name: shared, cluster: {{server: '{server}', certificate-authority: ca.crt}}}}]\n\
             contexts: [{{name: {name}, context: {{cluster: shared, user: {name}}}}}]\nusers: []\n"
        )
    }

    #[test]
    fn files_are_merged_as_kubectl_merges_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, current) in [("one", ""), ("two", "two"), ("three", "three")] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join("config"), config(name, &format!("https://{name}"), current)).unwrap();
        }
        let files = ["missing", "one/config", "two/config", "three/config"].map(path);
        let list = std::env::join_paths(files).unwrap().into_string().unwrap();
        let variables = BTreeMap::from([("KUBECONFIG".to_owned(), format!(":{list}:"))]);
        let read = read(&variables).unwrap().unwrap();
        assert_eq!(read.current_context.as_deref(), Some("two"));
        assert_eq!(read.contexts.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
        let [shared] = read.clusters.as_slice() else { panic!("{:?}", read.clusters) };
        let cluster = shared.cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://one"));
        assert_eq!(cluster.certificate_authority.as_deref(), path("one").join("ca.crt").to_str());
    }

    #[test]
    fn a_broken_file_is_named_with_its_line_and_none_is_an_answer() {
        let home = tempfile::tempdir().unwrap();
        let variables = BTreeMap::from([("HOME".to_owned(), home.path().display().to_string())]);
        assert!(read(&variables).unwrap().is_none());
        std::fs::create_dir(home.path().join(".kube")).unwrap();
        let file = home.path().join(".kube/config");
        std::fs::write(&file, "apiVersion: v1\nkind: Config\ncontexts: 7\n").unwrap();
        let error = format!("{:#}", read(&variables).unwrap_err());
        assert!(error.contains(file.to_str().unwrap()) && error.contains("line 3"), "{error}");
    }
}

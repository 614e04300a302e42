//! Volumes of a pod as folders: filled from ConfigMaps, Secrets, tokens and the pod itself.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use serde_json::Value;

use crate::kubernetes::{
    cluster::Cluster,
    kinds,
    value::{self, items, number, text, truth},
};

/// Gives the token for a `serviceAccountToken` source.
pub(super) type Tokens<'a> = dyn Fn(&Value) -> anyhow::Result<String> + Sync + 'a;

/// The volumes of a pod by name, each a real folder below `folder`.
///
/// # Errors
/// When a source is missing, or cannot be written out.
pub(super) fn prepare(
    cluster: &Cluster,
    pod: &Value,
    folder: &Path,
    tokens: &Tokens<'_>,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut volumes = BTreeMap::new();
    for volume in items(pod, "/spec/volumes") {
        let name = text(volume, "/name");
        let real = folder.join(name);
        fs::create_dir_all(&real).with_context(|| format!("make volume {name:?}"))?;
        fill(cluster, pod, volume, &real, tokens)
            .with_context(|| format!("MountVolume.SetUp failed for volume {name:?}"))?;
        volumes.insert(name.to_owned(), real);
    }
    Ok(volumes)
}

/// Bytes of all files below a folder; what is deleted meanwhile counts as nothing.
pub(super) fn size(folder: &Path) -> u128 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len().into(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Writes the files of a volume that has any.
///
/// # Errors
/// When a source is missing, or cannot be written out.
pub(super) fn fill(
    cluster: &Cluster,
    pod: &Value,
    volume: &Value,
    real: &Path,
    tokens: &Tokens<'_>,
) -> anyhow::Result<()> {
    let mut files = Files::default();
    let mode = |source: &str| number(volume, &format!("/{source}/defaultMode")).unwrap_or(0o644);
    if let Some(source) = volume.get("configMap") {
        config_map(cluster, pod, source, mode("configMap"), &mut files)?;
    } else if let Some(source) = volume.get("secret") {
        secret(cluster, pod, source, text(source, "/secretName"), mode("secret"), &mut files)?;
    } else if volume.get("projected").is_some() {
        for source in items(volume, "/projected/sources") {
            let mode = mode("projected");
            if let Some(source) = source.get("configMap") {
                config_map(cluster, pod, source, mode, &mut files)?;
            } else if let Some(source) = source.get("secret") {
                secret(cluster, pod, source, text(source, "/name"), mode, &mut files)?;
            } else if let Some(source) = source.get("serviceAccountToken") {
                files.add(text(source, "/path"), tokens(source)?.into_bytes(), mode);
            } else {
                bail!("the laptop cloud has no projected volume of this kind: {source}");
            }
        }
    } else if volume.get("emptyDir").is_none() {
        bail!("the laptop cloud has no volume of this kind: {volume}");
    }
    files.write(real)
}

#[derive(Default)]
struct Files(Vec<(String, Vec<u8>, i64)>);

impl Files {
    fn add(&mut self, path: &str, bytes: Vec<u8>, mode: i64) {
        self.0.push((path.to_owned(), bytes, mode));
    }

    /// Writes every file whose content differs, each in one step.
    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        for (path, bytes, mode) in &self.0 {
            if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
                bail!("path {path:?} leaves its volume");
            }
            let target = folder.join(path);
            if fs::read(&target).is_ok_and(|there| there == *bytes) {
                continue;
            }
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            let part = target.with_extension("deskgrid-part");
            fs::write(&part, bytes)?;
            // The owner can always read; a laptop has no other user to read for.
            let bits = u32::try_from(*mode).unwrap_or(0o644) & 0o777 | 0o400;
            fs::set_permissions(&part, fs::Permissions::from_mode(bits))?;
            fs::rename(&part, &target)?;
        }
        Ok(())
    }

    fn add_items(
        &mut self,
        source: &Value,
        data: &BTreeMap<String, Vec<u8>>,
        mode: i64,
        what: &str,
    ) -> anyhow::Result<()> {
        let chosen = items(source, "/items");
        if chosen.is_empty() {
            for (key, bytes) in data {
                self.add(key, bytes.clone(), mode);
            }
        }
        for item in chosen {
            let key = text(item, "/key");
            match data.get(key) {
                Some(bytes) => self.add(text(item, "/path"), bytes.clone(), number(item, "/mode").unwrap_or(mode)),
                None if truth(source, "/optional") => {}
                None => bail!("{what} references non-existent config key: {key}"),
            }
        }
        Ok(())
    }
}

fn config_map(cluster: &Cluster, pod: &Value, source: &Value, mode: i64, files: &mut Files) -> anyhow::Result<()> {
    let name = text(source, "/name");
    match cluster.store.get(&kinds::CONFIG_MAP, value::namespace(pod), name) {
        Some(object) => files.add_items(source, &config_data(&object), mode, "configmap"),
        None if truth(source, "/optional") => Ok(()),
        None => bail!("configmap {name:?} not found"),
    }
}

fn secret(
    cluster: &Cluster,
    pod: &Value,
    source: &Value,
    name: &str,
    mode: i64,
    files: &mut Files,
) -> anyhow::Result<()> {
    match cluster.store.get(&kinds::SECRET, value::namespace(pod), name) {
        Some(object) => files.add_items(source, &secret_data(&object), mode, "secret"),
        None if truth(source, "/optional") => Ok(()),
        None => bail!("secret {name:?} not found"),
    }
}

/// The keys of a ConfigMap with their bytes.
pub(super) fn config_data(object: &Value) -> BTreeMap<String, Vec<u8>> {
    let plain = value::entries(object, "/data").map(|(key, text)| (key.to_owned(), text.as_bytes().to_vec()));
    let binary = value::entries(object, "/binaryData").map(|(key, text)| (key.to_owned(), decode(text)));
    plain.chain(binary).collect()
}

/// The keys of a Secret with their bytes.
pub(super) fn secret_data(object: &Value) -> BTreeMap<String, Vec<u8>> {
    value::entries(object, "/data").map(|(key, text)| (key.to_owned(), decode(text))).collect()
}

fn decode(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text.trim()).unwrap_or_default()
}

//! Images in one file: an OCI image layout as a tar file, as `ctr images import`, `kind load image-archive`, `docker
//! load`, `podman load` and `skopeo` read it.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufReader, BufWriter, Read as _, Write as _},
    path::Path,
};

use anyhow::Context as _;
use oci_spec::image::MediaType;
use serde_json::{Value, json};

use crate::assemble::{Blob, Image, canonical};

/// The name that containerd gives an image of the layout.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The name, or tag, of an image of a layout.
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// What the images of an archive were built from, so that it need not be made again.
const SOURCE: &str = "dev.deskgrid.source";

/// Writes images, each under the repository named beside it, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, images: &[(String, &Image)]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let context = || format!("write the archive {}", path.display());
    let draft = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    let mut tar = tar::Builder::new(BufWriter::new(draft));
    add(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).with_context(context)?;
    add(&mut tar, "index.json", &canonical(&index(images)?)?).with_context(context)?;
    add(&mut tar, "manifest.json", &canonical(&for_docker(images))?).with_context(context)?;
    let mut written = BTreeSet::new();
    for (_, image) in images {
        for blob in image.blobs().chain([&image.manifest]) {
            if written.insert(&blob.digest) {
                add(&mut tar, &place(blob), &blob.bytes).with_context(context)?;
            }
        }
    }
    let mut file = tar.into_inner().with_context(context)?;
    file.flush().with_context(context)?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(context)?;
    // A temporary file is for its owner only; an archive is like any other file that a person asked for.
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

/// References by digest of the images of an archive, if it was built from this source; nothing when it was not, or is
/// none of ours.
pub fn built_from(path: &Path, source: &str) -> Option<Vec<String>> {
    let mut tar = tar::Archive::new(BufReader::new(File::open(path).ok()?));
    // The index is near the start; blobs are not read.
    for entry in tar.entries().ok()?.take(3) {
        let mut entry = entry.ok()?;
        if entry.path().ok()?.as_os_str() != "index.json" {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).ok()?;
        let index: Value = serde_json::from_str(&text).ok()?;
        if index["annotations"][SOURCE] != source {
            return None;
        }
        let names = index["manifests"].as_array()?.iter();
        let names = names.filter_map(|manifest| manifest["annotations"][CONTAINERD_NAME].as_str());
        return Some(names.filter(|name| name.contains("@sha256:")).map(str::to_owned).collect());
    }
    None
}

fn index(images: &[(String, &Image)]) -> anyhow::Result<Value> {
    let mut manifests = Vec::new();
    for (repository, image) in images {
        // Under its tag for people, and under its digest, which is what a pod asks for: an import makes up no
        // reference with a digest by itself.
        let named = [format!("{repository}:{}", image.source), format!("{repository}@{}", image.digest())];
        for name in named {
            let mut descriptor = serde_json::to_value(image.manifest.descriptor()?).context("describe an image")?;
            descriptor["platform"] = json!({"architecture": image.architecture, "os": "linux"});
            descriptor["annotations"] = json!({CONTAINERD_NAME: name, REFERENCE: name});
            manifests.push(descriptor);
        }
    }
    let source = images.first().map(|(_, image)| image.source.as_str()).unwrap_or_default();
    Ok(json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageIndex,
        "manifests": manifests,
        "annotations": {SOURCE: source},
    }))
}

/// The index as `docker load` of older versions wants it.
fn for_docker(images: &[(String, &Image)]) -> Value {
    let entry = |(repository, image): &(String, &Image)| {
        json!({
            "Config": place(&image.config),
            "RepoTags": [format!("{repository}:{}", image.source)],
            "Layers": image.layers.iter().map(place).collect::<Vec<_>>(),
        })
    };
    images.iter().map(entry).collect()
}

fn place(blob: &Blob) -> String {
    format!("blobs/{}", blob.digest.replace(':', "/"))
}

fn add(tar: &mut tar::Builder<impl std::io::Write>, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

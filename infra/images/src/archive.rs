//! Images in one file: an OCI image layout as a tar file, as `ctr images import`, `kind load image-archive`, `docker
//! load`, `podman load` and `skopeo` read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufReader, BufWriter, Read as _, Write},
    path::Path,
};

use anyhow::Context as _;
use oci_spec::image::{ImageManifest, MediaType};
use serde_json::{Value, json};

use crate::{
    assemble::{Image, canonical},
    blob::Blob,
};

/// The name that containerd gives an image of the layout.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The name, or tag, of an image of a layout.
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// The layout's list of images.
const INDEX: &str = "index.json";
/// The same as `docker load` of older versions reads it.
const FOR_DOCKER: &str = "manifest.json";
/// Most bytes of a list or of a manifest.
const LIST_MAX: u64 = 4 * 1024 * 1024;

/// What an archive says that it holds.
#[derive(Debug, Default)]
pub struct Archive {
    /// Descriptors of its images, by their names: with a tag, and again with a digest.
    named: BTreeMap<String, Value>,
    /// Entries for Docker, by their names with a tag.
    for_docker: BTreeMap<String, Value>,
}

impl Archive {
    /// Reads what an archive says that it holds: nothing when there is none, or an empty file.
    ///
    /// # Errors
    /// When the file is none, or holds what this program would not have written.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("read the archive {}", path.display());
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened.with_context(context)?,
        };
        if file.metadata().with_context(context)?.len() == 0 {
            return Ok(Self::default());
        }
        let lists = small(file, |path| path == INDEX || path == FOR_DOCKER).with_context(context)?;
        Self::of(&lists).with_context(context)
    }

    fn of(lists: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<Self> {
        let list = |name: &str| -> anyhow::Result<Value> {
            let bytes = lists.get(name).with_context(|| format!("find {name} in it"))?;
            serde_json::from_slice(bytes).with_context(|| format!("understand its {name}"))
        };
        let (index, docker) = (list(INDEX)?, list(FOR_DOCKER)?);
        let mut archive = Self::default();
        for descriptor in index["manifests"].as_array().context("find the images in its list")? {
            let name =
                descriptor["annotations"][CONTAINERD_NAME].as_str().context("find the name of an image in it")?;
            archive.named.insert(name.to_owned(), descriptor.clone());
        }
        for entry in docker.as_array().context("find the images in its list for Docker")? {
            let name = entry["RepoTags"][0].as_str().context("find the name of an image in its list for Docker")?;
            archive.for_docker.insert(name.to_owned(), entry.clone());
        }
        Ok(archive)
    }

    /// Digest of the image of a repository with this tag.
    pub fn digest_of(&self, repository: &str, tag: &str) -> Option<&str> {
        self.named.get(&format!("{repository}:{tag}"))?["digest"].as_str()
    }

    fn digests(&self) -> BTreeSet<&str> {
        self.named.values().filter_map(|descriptor| descriptor["digest"].as_str()).collect()
    }

    /// Takes images in, each in the place of what had its repository.
    fn take(&mut self, images: &[(String, &Image)]) -> anyhow::Result<()> {
        let others = |name: &String| images.iter().all(|(repository, _)| repository != repository_of(name));
        self.named.retain(|name, _| others(name));
        self.for_docker.retain(|name, _| others(name));
        for (repository, image) in images {
            let tagged = format!("{repository}:{}", image.source);
            self.for_docker.insert(tagged.clone(), for_docker(&tagged, image));
            // Under its tag for people, and under its digest, which is what a pod asks for: an import makes up no
            // reference with a digest by itself.
            for name in [tagged, format!("{repository}@{}", image.digest())] {
                let mut descriptor = serde_json::to_value(image.manifest.descriptor()?).context("describe an image")?;
                descriptor["platform"] = json!({"architecture": image.architecture, "os": "linux"});
                descriptor["annotations"] = json!({CONTAINERD_NAME: name, REFERENCE: name});
                self.named.insert(name, descriptor);
            }
        }
        Ok(())
    }

    fn index(&self) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageIndex,
            "manifests": self.named.values().collect::<Vec<_>>(),
        })
    }
}

/// Writes images, each under the repository named beside it, whole or not at all. What an archive that is there holds
/// of other repositories stays in it.
///
/// # Errors
/// When the file cannot be written, or is there and is no archive.
pub fn write(path: &Path, images: &[(String, &Image)]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut archive = Archive::read(path)?;
    archive.take(images)?;
    let context = || format!("write the archive {}", path.display());
    let draft = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    let mut tar = tar::Builder::new(BufWriter::new(draft));
    add(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).with_context(context)?;
    add(&mut tar, INDEX, &canonical(&archive.index())?).with_context(context)?;
    let docker: Vec<&Value> = archive.for_docker.values().collect();
    add(&mut tar, FOR_DOCKER, &canonical(&docker)?).with_context(context)?;
    let mut written = BTreeSet::new();
    for (_, image) in images {
        for blob in image.blobs().chain([&image.manifest]) {
            if written.insert(place(&blob.digest)) {
                add(&mut tar, &place(&blob.digest), &blob.bytes).with_context(context)?;
            }
        }
    }
    keep(path, &archive, &mut tar, written).with_context(context)?;
    let mut file = tar.into_inner().with_context(context)?;
    file.flush().with_context(context)?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(context)?;
    // A temporary file is for its owner only; an archive is like any other file that a person asked for.
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

/// Brings what is still named and was not written anew from the archive that is there.
fn keep(
    path: &Path,
    archive: &Archive,
    tar: &mut tar::Builder<impl Write>,
    mut written: BTreeSet<String>,
) -> anyhow::Result<()> {
    let manifests: BTreeSet<String> = archive.digests().into_iter().map(place).collect();
    let manifests: BTreeSet<String> = manifests.difference(&written).cloned().collect();
    if manifests.is_empty() {
        return Ok(());
    }
    let mut kept = manifests.clone();
    let found = small(File::open(path)?, |path| manifests.contains(path))?;
    for place_of in &manifests {
        let manifest = found.get(place_of).with_context(|| format!("find {place_of} in it"))?;
        let manifest: ImageManifest = serde_json::from_slice(manifest).with_context(|| format!("read {place_of}"))?;
        kept.insert(place(manifest.config().digest().as_ref()));
        kept.extend(manifest.layers().iter().map(|layer| place(layer.digest().as_ref())));
    }
    let mut old = tar::Archive::new(BufReader::new(File::open(path)?));
    for entry in old.entries_with_seek()? {
        let entry = entry?;
        let place = entry.path()?.to_string_lossy().into_owned();
        if kept.contains(&place) && written.insert(place.clone()) {
            let mut header = header(entry.size());
            tar.append_data(&mut header, &place, entry)?;
        }
    }
    match kept.iter().find(|place| !written.contains(*place)) {
        Some(missing) => anyhow::bail!("the archive that is there lacks {missing}"),
        None => Ok(()),
    }
}

/// Small files of a tar file, by their paths.
fn small(file: File, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut tar = tar::Archive::new(BufReader::new(file));
    let mut found = BTreeMap::new();
    for entry in tar.entries_with_seek()? {
        let entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if is_wanted(&path) {
            let mut bytes = Vec::new();
            entry.take(LIST_MAX).read_to_end(&mut bytes)?;
            found.insert(path, bytes);
        }
    }
    Ok(found)
}

/// The repository of a name with a tag or a digest.
fn repository_of(name: &str) -> &str {
    let by_digest = name.split_once('@').map(|(repository, _)| repository);
    by_digest.or_else(|| name.rsplit_once(':').map(|(repository, _)| repository)).unwrap_or(name)
}

/// An image as `docker load` of older versions wants it.
fn for_docker(name: &str, image: &Image) -> Value {
    json!({
        "Config": place(&image.config.digest),
        "RepoTags": [name],
        "Layers": image.layers.iter().map(|layer: &Blob| place(&layer.digest)).collect::<Vec<_>>(),
    })
}

/// Where the bytes of a digest are.
fn place(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn add(tar: &mut tar::Builder<impl Write>, path: &str, bytes: &[u8]) -> std::io::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), path, bytes)
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header
}

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
/// Bytes of a list or of a manifest.
const MAX_LIST_BYTES: u64 = 4 * 1024 * 1024;

/// The lists of an archive.
#[derive(Debug, Default)]
pub struct Archive {
    /// Descriptors of its images, by their names: with a tag, and again with a digest.
    named: BTreeMap<String, Value>,
    /// Entries for Docker, by their names with a tag.
    for_docker: BTreeMap<String, Value>,
}

impl Archive {
    /// Reads the lists of an archive; they are empty when there is no file, or an empty one.
    ///
    /// # Errors
    /// When the file is not an archive, or not one of this program.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("read the archive {}", path.display());
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            opened => opened.with_context(context)?,
        };
        if file.metadata().with_context(context)?.len() == 0 {
            return Ok(Self::default());
        }
        let lists = small_files(file, |path| path == INDEX || path == FOR_DOCKER).with_context(context)?;
        Self::from_lists(&lists).with_context(context)
    }

    fn from_lists(lists: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<Self> {
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

    /// Adds images, each instead of the images of its repository.
    fn replace(&mut self, images: &[(String, &Image)]) -> anyhow::Result<()> {
        let others = |name: &String| images.iter().all(|(repository, _)| repository != repository_of(name));
        self.named.retain(|name, _| others(name));
        self.for_docker.retain(|name, _| others(name));
        for (repository, image) in images {
            let tagged = format!("{repository}:{}", image.source);
            self.for_docker.insert(tagged.clone(), for_docker(&tagged, image));
            // Under its tag for people, and under its digest, which pods use: an import creates no
            // reference by digest.
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

/// Writes images, each under its repository, atomically. Images of other repositories in an existing archive are kept.
///
/// # Errors
/// When the file cannot be written, or exists and is not an archive.
pub fn write(path: &Path, images: &[(String, &Image)]) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut archive = Archive::read(path)?;
    archive.replace(images)?;
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
            if written.insert(blob_path(&blob.digest)) {
                add(&mut tar, &blob_path(&blob.digest), &blob.bytes).with_context(context)?;
            }
        }
    }
    keep(path, &archive, &mut tar, written).with_context(context)?;
    let mut file = tar.into_inner().with_context(context)?;
    file.flush().with_context(context)?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(context)?;
    // A temporary file is readable by its owner only; an archive has the usual permissions.
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).with_context(context)?;
    file.persist(path).with_context(context)?;
    Ok(())
}

/// Copies blobs that the lists still name, and that are not written yet, from the existing archive.
fn keep(
    path: &Path,
    archive: &Archive,
    tar: &mut tar::Builder<impl Write>,
    mut written: BTreeSet<String>,
) -> anyhow::Result<()> {
    let manifests: BTreeSet<String> = archive.digests().into_iter().map(blob_path).collect();
    let manifests: BTreeSet<String> = manifests.difference(&written).cloned().collect();
    if manifests.is_empty() {
        return Ok(());
    }
    let mut kept = manifests.clone();
    let found = small_files(File::open(path)?, |path| manifests.contains(path))?;
    for path_of in &manifests {
        let manifest = found.get(path_of).with_context(|| format!("find {path_of} in it"))?;
        let manifest: ImageManifest = serde_json::from_slice(manifest).with_context(|| format!("read {path_of}"))?;
        kept.insert(blob_path(manifest.config().digest().as_ref()));
        kept.extend(manifest.layers().iter().map(|layer| blob_path(layer.digest().as_ref())));
    }
    let mut old = tar::Archive::new(BufReader::new(File::open(path)?));
    for entry in old.entries_with_seek()? {
        let entry = entry?;
        let blob = entry.path()?.to_string_lossy().into_owned();
        if kept.contains(&blob) && written.insert(blob.clone()) {
            let mut header = header(entry.size());
            tar.append_data(&mut header, &blob, entry)?;
        }
    }
    match kept.iter().find(|blob| !written.contains(*blob)) {
        Some(missing) => anyhow::bail!("the existing archive lacks {missing}"),
        None => Ok(()),
    }
}

/// Small files of a tar file, by their paths.
fn small_files(file: File, is_named: impl Fn(&str) -> bool) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut tar = tar::Archive::new(BufReader::new(file));
    let mut found = BTreeMap::new();
    for entry in tar.entries_with_seek()? {
        let entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        if is_named(&path) {
            let mut bytes = Vec::new();
            entry.take(MAX_LIST_BYTES).read_to_end(&mut bytes)?;
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

/// An image as `docker load` of older versions reads it.
fn for_docker(name: &str, image: &Image) -> Value {
    json!({
        "Config": blob_path(&image.config.digest),
        "RepoTags": [name],
        "Layers": image.layers.iter().map(|layer: &Blob| blob_path(&layer.digest)).collect::<Vec<_>>(),
    })
}

/// Path of the blob of a digest.
fn blob_path(digest: &str) -> String {
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

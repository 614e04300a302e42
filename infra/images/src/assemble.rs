//! An image: the layers, the configuration that says how to start it, and the manifest that names them all.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use oci_spec::image::{
    Arch, ConfigBuilder, ImageConfigurationBuilder, ImageManifestBuilder, MediaType, Os, RootFsBuilder, SCHEMA_VERSION,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    authorities,
    blob::Blob,
    catalogue::Spec,
    layer::{Entry, Layer},
    program::Program,
    sbom,
};

/// User and group of the programs, as in the manifests.
const USER: &str = "65532:65532";
/// Creation time of every image: a real one would change the digest.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image in memory.
#[derive(Clone, Debug)]
pub struct Image {
    /// Name in the catalogue.
    pub name: &'static str,
    /// Tag of its source.
    pub source: String,
    /// The manifest; its digest is the image's.
    pub manifest: Blob,
    /// How to start it.
    pub config: Blob,
    /// Its layers, the lowest first.
    pub layers: Vec<Blob>,
    /// Bytes of all files in it.
    pub size: u64,
    /// Processor that it is for.
    pub architecture: Arch,
}

impl Image {
    /// The image's digest.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// Everything but the manifest.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config])
    }
}

/// The ingredients of an image.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// Which image.
    pub spec: &'static Spec,
    /// Its program.
    pub program: &'a Program,
    /// Tag of the source of the program.
    pub source: &'a str,
    /// The bill of materials of the program, from [`sbom::spdx`].
    pub sbom: &'a Value,
}

/// Makes an image. The same recipe is the same image.
///
/// # Errors
/// When there is not enough memory for a tar file, or the image cannot be described.
pub fn assemble(recipe: &Recipe<'_>) -> anyhow::Result<Image> {
    let Recipe { spec, program, source, sbom } = *recipe;
    let path = format!("usr/bin/{}", spec.program);
    let own =
        vec![Entry::program(path.clone(), program.bytes.clone()), Entry::file(sbom::path(spec.name), canonical(sbom)?)];
    // The layer that changes least is lowest, and all images share it.
    let contents = [base(), program.libraries.clone(), own];
    let layers = contents.into_iter().filter(|entries| !entries.is_empty());
    let layers = layers.map(Layer::pack).collect::<Result<Vec<_>, _>>().context("pack a layer")?;
    let labels: BTreeMap<String, String> =
        spec.labels(source).into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let config = ConfigBuilder::default()
        .user(USER)
        .entrypoint(vec![format!("/{path}")])
        .env(vec!["PATH=/usr/bin".to_owned()])
        .working_dir("/")
        .labels(labels.clone().into_iter().collect::<HashMap<_, _>>())
        .build()
        .context("describe how to start the image")?;
    let config = ImageConfigurationBuilder::default()
        .created(CREATED)
        .architecture(program.architecture.clone())
        .os(Os::Linux)
        .config(config)
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids(layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>())
                .build()
                .context("describe the layers")?,
        )
        .build()
        .context("describe the image")?;
    let config = Blob::new(MediaType::ImageConfig, canonical(&config)?);
    let size = layers.iter().map(|layer| layer.size).sum();
    let layers: Vec<Blob> = layers.into_iter().map(|layer| layer.blob).collect();
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(config.descriptor()?)
        .layers(layers.iter().map(Blob::descriptor).collect::<anyhow::Result<Vec<_>>>()?)
        .annotations(labels.into_iter().collect::<HashMap<_, _>>())
        .build()
        .context("describe the image")?;
    let manifest = Blob::new(MediaType::ImageManifest, canonical(&manifest)?);
    let (source, architecture) = (source.to_owned(), program.architecture.clone());
    Ok(Image { name: spec.name, source, manifest, config, layers, size, architecture })
}

/// The lowest layer, which every image has.
///
/// # Errors
/// When there is not enough memory for a tar file.
pub(crate) fn base_layer() -> anyhow::Result<Blob> {
    Ok(Layer::pack(base()).context("pack a layer")?.blob)
}

/// The files of every image: the user, name resolution, certificate authorities, and a folder for mounts.
fn base() -> Vec<Entry> {
    vec![
        Entry::file("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"),
        Entry::file("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
        Entry::file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        Entry::file("etc/ssl/certs/ca-certificates.crt", authorities::pem()),
        Entry::folder("tmp", 0o1777),
    ]
}

/// JSON with its keys in order, so that equal values are equal bytes.
pub(crate) fn canonical(value: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut value = serde_json::to_value(value).context("encode as JSON")?;
    sort(&mut value);
    serde_json::to_vec(&value).context("encode as JSON")
}

fn sort(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<String, Value> = std::mem::take(fields).into_iter().collect();
            *fields = sorted.into_iter().collect();
            fields.values_mut().for_each(sort);
        }
        Value::Array(items) => items.iter_mut().for_each(sort),
        _ => {}
    }
}

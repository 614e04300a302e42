//! The file `images.json` of an environment: the references of the images that were built last.

use std::collections::BTreeMap;

use anyhow::Context as _;
use provision::{
    Environment,
    manifests::{Images, WebImages},
};

use crate::context;

/// Name of the file, in the environment's folder.
const IMAGES_FILE: &str = "images.json";

/// Records the references of images by their names; other images keep their recorded references.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(environment: &Environment, made: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<()> {
    let folder = context::generated(environment);
    let path = folder.join(IMAGES_FILE);
    let known = std::fs::read_to_string(&path).ok();
    // An unreadable file is replaced.
    let mut noted: BTreeMap<String, String> =
        known.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    noted.extend(made);
    let text = serde_json::to_string_pretty(&noted).context("encode the names of the images")?;
    std::fs::create_dir_all(&folder).with_context(|| format!("make the folder {}", folder.display()))?;
    std::fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))
}

/// The images that the last build made; nothing before the first.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn read(environment: &Environment) -> anyhow::Result<Option<Images>> {
    let path = context::generated(environment).join(IMAGES_FILE);
    let context = || format!("read {}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let noted: BTreeMap<String, String> = serde_json::from_str(&text).with_context(context)?;
            // Only some of them were made yet.
            Ok(serde_json::to_value(noted).and_then(serde_json::from_value).ok())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(context),
    }
}

/// The images of the web apps that the last build made, if it made any. An unreadable file counts as none.
pub(crate) fn read_web(environment: &Environment) -> WebImages {
    let path = context::generated(environment).join(IMAGES_FILE);
    let noted = std::fs::read_to_string(path).ok();
    noted.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

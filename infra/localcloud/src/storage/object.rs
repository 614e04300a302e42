//! An object: its data, what is known about it, and its JSON form.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::google::{
    call::time_text,
    error::{Error, Result},
};

/// One generation of an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Object {
    /// Bucket.
    pub bucket: String,
    /// Name.
    pub name: String,
    /// Generation: microseconds, strictly increasing.
    pub generation: i64,
    /// Counts changes of the metadata, from 1.
    pub metageneration: i64,
    /// What the writer said about it.
    pub attributes: Attributes,
    /// CRC32C of the data.
    pub crc32c: u32,
    /// MD5 of the data.
    pub md5: [u8; 16],
    /// When it was made.
    pub created: Timestamp,
    /// When its metadata changed last.
    pub updated: Timestamp,
    /// The data; saved apart.
    #[serde(skip)]
    pub data: Bytes,
}

/// What a writer may say about an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attributes {
    /// Content type.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// Content encoding.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_encoding: String,
    /// Content disposition.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_disposition: String,
    /// Content language.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_language: String,
    /// Cache control.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cache_control: String,
    /// Storage class.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub storage_class: String,
    /// Custom time, RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub custom_time: String,
    /// Custom metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Conditions on the live object (or the generation addressed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// `ifGenerationMatch`; 0: there is none.
    pub generation_match: Option<i64>,
    /// `ifGenerationNotMatch`; 0: there is one.
    pub generation_not_match: Option<i64>,
    /// `ifMetagenerationMatch`
    pub metageneration_match: Option<i64>,
    /// `ifMetagenerationNotMatch`
    pub metageneration_not_match: Option<i64>,
}

/// Checksums a writer sent along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums {
    /// CRC32C.
    pub crc32c: Option<u32>,
    /// MD5; other lengths than 16 bytes never match.
    pub md5: Option<Vec<u8>>,
}

impl Preconditions {
    /// Checks the conditions against what there is.
    ///
    /// # Errors
    /// 412, or 304 for a `NotMatch` of a read.
    pub fn check(&self, found: Option<&Object>, reading: bool) -> Result<()> {
        let generation = found.map_or(0, |object| object.generation);
        let metageneration = found.map(|object| object.metageneration);
        let met = self.generation_match.is_none_or(|desired| desired == generation)
            && self.metageneration_match.is_none_or(|desired| metageneration == Some(desired));
        if !met {
            return Err(Error::condition_not_met());
        }
        let differs = self.generation_not_match.is_none_or(|unwanted| unwanted != generation)
            && self.metageneration_not_match.is_none_or(|unwanted| metageneration != Some(unwanted));
        match (differs, reading) {
            (true, _) => Ok(()),
            (false, true) => Err(Error::not_modified()),
            (false, false) => Err(Error::condition_not_met()),
        }
    }
}

impl Checksums {
    /// Refuses data that does not have these checksums.
    ///
    /// # Errors
    /// 400.
    pub fn check(&self, data: &[u8]) -> Result<()> {
        if let Some(sent) = self.crc32c {
            let found = crc32c::crc32c(data);
            if sent != found {
                return Err(Error::invalid(format!(
                    "Provided CRC32C \"{}\" doesn't match calculated CRC32C \"{}\".",
                    base64_crc(sent),
                    base64_crc(found)
                )));
            }
        }
        if let Some(sent) = &self.md5 {
            let found = md5::compute(data).0;
            if *sent != found {
                return Err(Error::invalid(format!(
                    "Provided MD5 hash \"{}\" doesn't match calculated MD5 hash \"{}\".",
                    BASE64_STANDARD.encode(sent),
                    BASE64_STANDARD.encode(found)
                )));
            }
        }
        Ok(())
    }

    /// Adds what JSON metadata says (`crc32c`, `md5Hash`).
    pub fn read_json(&mut self, resource: &Value) {
        self.crc32c = resource.get("crc32c").and_then(Value::as_str).and_then(read_crc).or(self.crc32c);
        let md5 = resource.get("md5Hash").and_then(Value::as_str);
        self.md5 = md5.and_then(|text| BASE64_STANDARD.decode(text).ok()).or(self.md5.take());
    }

    /// Adds what an `x-goog-hash` header says.
    pub fn read_header(&mut self, header: &str) {
        for part in header.split(',') {
            match part.trim().split_once('=') {
                Some(("crc32c", text)) => self.crc32c = read_crc(text).or(self.crc32c),
                Some(("md5", text)) => self.md5 = BASE64_STANDARD.decode(text).ok().or(self.md5.take()),
                _ => {}
            }
        }
    }
}

impl Attributes {
    /// Changes what JSON says; null removes.
    ///
    /// # Errors
    /// 400 for a value of the wrong type.
    pub fn patch(&mut self, patch: &Value) -> Result<()> {
        let mut whole = serde_json::to_value(&*self).map_err(|error| Error::internal(error.to_string()))?;
        for (key, value) in patch.as_object().into_iter().flatten() {
            let known = [
                "contentType",
                "contentEncoding",
                "contentDisposition",
                "contentLanguage",
                "cacheControl",
                "storageClass",
                "customTime",
            ];
            if known.contains(&key.as_str()) {
                whole[key] = value.clone();
                if value.is_null() {
                    whole.as_object_mut().map(|whole| whole.remove(key));
                }
            } else if key == "metadata" {
                let mut merged = whole.get("metadata").cloned().unwrap_or_else(|| json!({}));
                json_patch::merge(&mut merged, value);
                whole["metadata"] = if merged.is_object() { merged } else { json!({}) };
            }
        }
        *self = serde_json::from_value(whole).map_err(|error| Error::invalid(format!("Invalid metadata: {error}")))?;
        self.check()
    }

    /// Checks the rules.
    ///
    /// # Errors
    /// 400.
    pub fn check(&self) -> Result<()> {
        let size: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > 8192 {
            return Err(Error::invalid("Metadata part is too large: custom metadata has at most 8192 bytes."));
        }
        Ok(())
    }
}

impl Object {
    /// Opaque etag of this state.
    pub fn etag(&self) -> String {
        let mut bytes = vec![0x08];
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&u16::try_from(self.metageneration).unwrap_or(u16::MAX).to_be_bytes());
        BASE64_STANDARD.encode(bytes)
    }

    /// Size, in bytes.
    pub fn size(&self) -> i64 {
        i64::try_from(self.data.len()).unwrap_or(i64::MAX)
    }

    /// CRC32C as JSON has it.
    pub fn crc32c_text(&self) -> String {
        base64_crc(self.crc32c)
    }

    /// MD5 as JSON has it.
    pub fn md5_text(&self) -> String {
        BASE64_STANDARD.encode(self.md5)
    }

    /// The JSON resource. `base` is this server's address, for the links.
    pub fn json(&self, base: &str) -> Value {
        let path = format!("b/{}/o/{}", self.bucket, encode(&self.name));
        let mut value = serde_json::to_value(&self.attributes).unwrap_or_default();
        let updated = time_text(self.updated);
        let created = time_text(self.created);
        let fields = json!({
            "kind": "storage#object",
            "id": format!("{}/{}/{}", self.bucket, self.name, self.generation),
            "selfLink": format!("{base}/storage/v1/{path}"),
            "mediaLink": format!("{base}/download/storage/v1/{path}?generation={}&alt=media", self.generation),
            "name": self.name,
            "bucket": self.bucket,
            "generation": self.generation.to_string(),
            "metageneration": self.metageneration.to_string(),
            "size": self.size().to_string(),
            "crc32c": self.crc32c_text(),
            "md5Hash": self.md5_text(),
            "etag": self.etag(),
            "timeCreated": created,
            "updated": updated,
            "timeStorageClassUpdated": created,
            "timeFinalized": created,
        });
        if let (Some(value), Value::Object(fields)) = (value.as_object_mut(), fields) {
            value.extend(fields);
        }
        value
    }
}

/// Checks an object name.
///
/// # Errors
/// 400.
pub fn check_name(name: &str) -> Result<()> {
    let bad = name.is_empty()
        || name.len() > 1024
        || matches!(name, "." | "..")
        || name.contains(['\r', '\n'])
        || name.starts_with(".well-known/acme-challenge/");
    if bad { Err(Error::invalid(format!("Invalid object name: {name:?}"))) } else { Ok(()) }
}

const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An object name as one segment of a path.
pub fn encode(name: &str) -> String {
    utf8_percent_encode(name, PATH).to_string()
}

fn base64_crc(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

fn read_crc(text: &str) -> Option<u32> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

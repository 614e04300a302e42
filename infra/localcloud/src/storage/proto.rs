//! Objects as protobuf has them.

use googleapis_tonic_google_storage_v2::google::storage::v2 as proto;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::object::{Attributes, Object};
use crate::google::{
    error::{Error, Result},
    grpc::{time, timestamp},
};

/// Name of a bucket from `projects/_/buckets/B`.
pub(super) fn bucket_name(name: &str) -> Result<&str> {
    name.strip_prefix("projects/_/buckets/")
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Error::invalid(format!("Invalid bucket name: {name}; it must be projects/_/buckets/BUCKET")))
}

/// An object without its data.
pub(super) fn object(object: &Object) -> proto::Object {
    let attributes = object.attributes.clone();
    let custom_time: Option<Timestamp> = attributes.custom_time.parse().ok();
    proto::Object {
        name: object.name.clone(),
        bucket: format!("projects/_/buckets/{}", object.bucket),
        etag: object.etag(),
        generation: object.generation,
        metageneration: object.metageneration,
        storage_class: attributes.storage_class,
        size: object.size(),
        content_encoding: attributes.content_encoding,
        content_disposition: attributes.content_disposition,
        cache_control: attributes.cache_control,
        content_language: attributes.content_language,
        finalize_time: Some(timestamp(object.created)),
        content_type: attributes.content_type,
        create_time: Some(timestamp(object.created)),
        checksums: Some(proto::ObjectChecksums { crc32c: Some(object.crc32c), md5_hash: object.md5.to_vec() }),
        update_time: Some(timestamp(object.updated)),
        update_storage_class_time: Some(timestamp(object.created)),
        metadata: attributes.metadata.into_iter().collect(),
        custom_time: custom_time.map(timestamp),
        ..proto::Object::default()
    }
}

/// What a writer says about an object.
pub(super) fn attributes(from: &proto::Object) -> Attributes {
    Attributes {
        content_type: from.content_type.clone(),
        content_encoding: from.content_encoding.clone(),
        content_disposition: from.content_disposition.clone(),
        content_language: from.content_language.clone(),
        cache_control: from.cache_control.clone(),
        storage_class: from.storage_class.clone(),
        custom_time: from.custom_time.as_ref().and_then(time).map(|time| time.to_string()).unwrap_or_default(),
        metadata: from.metadata.clone().into_iter().collect(),
    }
}

/// A JSON patch of the fields that a mask names.
pub(super) fn object_patch(from: &proto::Object, mask: &[String]) -> Result<Value> {
    let whole = serde_json::to_value(attributes(from)).map_err(|error| Error::internal(error.to_string()))?;
    let mut patch = Map::new();
    for path in mask {
        let json_name = match path.as_str() {
            "*" => return Ok(whole),
            "content_type" => "contentType",
            "content_encoding" => "contentEncoding",
            "content_disposition" => "contentDisposition",
            "content_language" => "contentLanguage",
            "cache_control" => "cacheControl",
            "storage_class" => "storageClass",
            "custom_time" => "customTime",
            "metadata" => "metadata",
            other => match other.strip_prefix("metadata.") {
                Some(key) => {
                    let value = from.metadata.get(key).map_or(Value::Null, |value| json!(value));
                    let entry = patch.entry("metadata").or_insert_with(|| json!({}));
                    entry[key] = value;
                    continue;
                }
                None => return Err(Error::invalid(format!("Field {other} cannot be updated."))),
            },
        };
        patch.insert(json_name.to_owned(), whole.get(json_name).cloned().unwrap_or(Value::Null));
    }
    Ok(Value::Object(patch))
}

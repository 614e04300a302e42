//! Buckets and objects as protobuf has them.

use googleapis_tonic_google_storage_v2::google::storage::v2 as proto;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    bucket::Bucket,
    object::{Attributes, Checksums, Object},
};
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

/// A generation where 0 means the live one.
pub(super) fn generation(number: i64) -> Option<i64> {
    (number != 0).then_some(number)
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
        delete_time: object.deleted.map(timestamp),
        finalize_time: Some(timestamp(object.created)),
        content_type: attributes.content_type,
        create_time: Some(timestamp(object.created)),
        component_count: object.components.unwrap_or(0),
        checksums: Some(proto::ObjectChecksums {
            crc32c: Some(object.crc32c),
            md5_hash: object.md5.map(|md5| md5.to_vec()).unwrap_or_default(),
        }),
        update_time: Some(timestamp(object.updated)),
        update_storage_class_time: Some(timestamp(object.created)),
        temporary_hold: attributes.temporary_hold,
        event_based_hold: attributes.event_based_hold.then_some(true),
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
        temporary_hold: from.temporary_hold,
        event_based_hold: from.event_based_hold.unwrap_or(false),
        metadata: from.metadata.clone().into_iter().collect(),
    }
}

/// Checksums of a request.
pub(super) fn checksums(from: Option<&proto::ObjectChecksums>) -> Checksums {
    Checksums {
        crc32c: from.and_then(|from| from.crc32c),
        md5: from.map(|from| from.md5_hash.clone()).filter(|md5| !md5.is_empty()),
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
            "temporary_hold" => "temporaryHold",
            "event_based_hold" => "eventBasedHold",
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

/// A bucket.
pub(super) fn bucket(bucket: &Bucket, number: u64) -> proto::Bucket {
    let text = |name: &str| bucket.settings.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let labels = bucket.settings.get("labels").and_then(Value::as_object);
    let soft = bucket.settings.get("softDeletePolicy");
    let soft_secs = soft
        .and_then(|soft| soft.get("retentionDurationSeconds"))
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    let prevention = bucket
        .settings
        .get("iamConfiguration")
        .and_then(|iam| iam.get("publicAccessPrevention"))
        .and_then(Value::as_str)
        .unwrap_or("inherited");
    let multi = matches!(text("location").as_str(), "US" | "EU" | "ASIA");
    proto::Bucket {
        name: format!("projects/_/buckets/{}", bucket.name),
        bucket_id: bucket.name.clone(),
        etag: bucket.etag(),
        project: format!("projects/{number}"),
        metageneration: bucket.metageneration,
        location: text("location"),
        location_type: if multi { "multi-region" } else { "region" }.to_owned(),
        storage_class: text("storageClass"),
        create_time: Some(timestamp(bucket.created)),
        update_time: Some(timestamp(bucket.updated)),
        labels: labels
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        versioning: bucket
            .settings
            .contains_key("versioning")
            .then(|| proto::bucket::Versioning { enabled: bucket.is_versioned() }),
        iam_config: Some(proto::bucket::IamConfig {
            uniform_bucket_level_access: Some(proto::bucket::iam_config::UniformBucketLevelAccess {
                enabled: bucket.is_uniform(),
                lock_time: None,
            }),
            public_access_prevention: prevention.to_owned(),
        }),
        soft_delete_policy: soft_secs.map(|seconds| proto::bucket::SoftDeletePolicy {
            retention_duration: Some(prost_types::Duration { seconds, nanos: 0 }),
            effective_time: None,
        }),
        lifecycle: bucket.settings.get("lifecycle").map(lifecycle),
        ..proto::Bucket::default()
    }
}

fn lifecycle(from: &Value) -> proto::bucket::Lifecycle {
    use proto::bucket::lifecycle::{
        Rule,
        rule::{Action, Condition},
    };
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let days = |value: &Value| value.as_i64().and_then(|days| i32::try_from(days).ok());
    let rules = from["rule"].as_array().into_iter().flatten().map(|rule| Rule {
        action: Some(Action {
            r#type: rule["action"]["type"].as_str().unwrap_or_default().to_owned(),
            storage_class: rule["action"]["storageClass"].as_str().unwrap_or_default().to_owned(),
        }),
        condition: Some(Condition {
            age_days: days(&rule["condition"]["age"]),
            is_live: rule["condition"]["isLive"].as_bool(),
            num_newer_versions: days(&rule["condition"]["numNewerVersions"]),
            matches_prefix: texts(&rule["condition"]["matchesPrefix"]),
            matches_suffix: texts(&rule["condition"]["matchesSuffix"]),
            matches_storage_class: texts(&rule["condition"]["matchesStorageClass"]),
            ..Condition::default()
        }),
    });
    proto::bucket::Lifecycle { rule: rules.collect() }
}

/// A bucket's settings as JSON has them; with a mask, only what it names, and null for what is to go.
pub(super) fn bucket_json(from: &proto::Bucket, mask: Option<&[String]>) -> Result<Value> {
    let mut json = Map::new();
    let all = mask.is_none_or(|mask| mask.iter().any(|path| path == "*"));
    let wanted = |name: &str| {
        all || mask.into_iter().flatten().any(|path| path == name || path.starts_with(&format!("{name}.")))
    };
    let mut put = |name: &str, value: Option<Value>| match value {
        Some(value) => {
            json.insert(name.to_owned(), value);
        }
        None if mask.is_some() && !all => {
            json.insert(name.to_owned(), Value::Null);
        }
        None => {}
    };
    let text = |text: &str| (!text.is_empty()).then(|| json!(text));
    if all {
        put("location", text(&from.location));
    }
    if wanted("storage_class") {
        put("storageClass", text(&from.storage_class));
    }
    if wanted("labels") {
        put("labels", (!from.labels.is_empty()).then(|| json!(from.labels)));
    }
    if wanted("versioning") {
        put("versioning", from.versioning.map(|versioning| json!({ "enabled": versioning.enabled })));
    }
    if wanted("iam_config") {
        let iam = from.iam_config.as_ref().map(|iam| {
            let mut value = json!({});
            if let Some(access) = &iam.uniform_bucket_level_access {
                value["uniformBucketLevelAccess"] = json!({ "enabled": access.enabled });
            }
            if !iam.public_access_prevention.is_empty() {
                value["publicAccessPrevention"] = json!(iam.public_access_prevention);
            }
            value
        });
        if iam.is_some() {
            put("iamConfiguration", iam);
        }
    }
    if wanted("soft_delete_policy") {
        put(
            "softDeletePolicy",
            from.soft_delete_policy
                .as_ref()
                .and_then(|soft| soft.retention_duration)
                .map(|duration| json!({ "retentionDurationSeconds": duration.seconds.to_string() })),
        );
    }
    if wanted("lifecycle") {
        put("lifecycle", from.lifecycle.as_ref().map(lifecycle_json));
    }
    let known = ["storage_class", "labels", "versioning", "iam_config", "soft_delete_policy", "lifecycle"];
    let stranger = mask
        .into_iter()
        .flatten()
        .find(|path| path.as_str() != "*" && known.iter().all(|known| path.split('.').next() != Some(*known)));
    match stranger {
        Some(path) => Err(Error::invalid(format!("The laptop cloud cannot update {path} over gRPC."))),
        None => Ok(Value::Object(json)),
    }
}

fn lifecycle_json(from: &proto::bucket::Lifecycle) -> Value {
    let rules: Vec<Value> = from
        .rule
        .iter()
        .map(|rule| {
            let action = rule.action.clone().unwrap_or_default();
            let condition = rule.condition.clone().unwrap_or_default();
            let mut json = json!({ "action": { "type": action.r#type }, "condition": {} });
            if !action.storage_class.is_empty() {
                json["action"]["storageClass"] = json!(action.storage_class);
            }
            let mut put = |name: &str, value: Value| {
                if !value.is_null() && value != json!([]) {
                    json["condition"][name] = value;
                }
            };
            put("age", json!(condition.age_days));
            put("isLive", json!(condition.is_live));
            put("numNewerVersions", json!(condition.num_newer_versions));
            put("matchesPrefix", json!(condition.matches_prefix));
            put("matchesSuffix", json!(condition.matches_suffix));
            put("matchesStorageClass", json!(condition.matches_storage_class));
            json
        })
        .collect();
    json!({ "rule": rules })
}

//! A bucket: its settings, its objects, its notifications, and its JSON form.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{notification::Notification, object::Object};
use crate::google::{
    call::time_text,
    error::{Error, Result},
};

/// Fields that the service sets, whatever is sent.
const OUTPUT_ONLY: [&str; 15] = [
    "kind",
    "id",
    "selfLink",
    "name",
    "projectNumber",
    "metageneration",
    "timeCreated",
    "updated",
    "etag",
    "owner",
    "acl",
    "defaultObjectAcl",
    "locationType",
    "generation",
    "satisfiesPZS",
];

/// A bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bucket {
    /// Name.
    pub name: String,
    /// What was set, as JSON has it.
    pub settings: Map<String, Value>,
    /// Counts changes of the settings, from 1.
    pub metageneration: i64,
    /// When it was made.
    pub created: Timestamp,
    /// When its settings changed last.
    pub updated: Timestamp,
    /// Objects by name.
    #[serde(skip)]
    pub objects: BTreeMap<String, Arc<Object>>,
    /// Notifications by id.
    pub notifications: BTreeMap<u64, Notification>,
    /// The next notification's id.
    pub last_notification: u64,
}

impl Bucket {
    /// A new bucket.
    ///
    /// # Errors
    /// 400 for settings that break a rule.
    pub fn new(name: &str, desired: &Value, location: &str, now: Timestamp) -> Result<Self> {
        let mut bucket = Self {
            name: name.to_owned(),
            settings: Map::new(),
            metageneration: 1,
            created: now,
            updated: now,
            objects: BTreeMap::new(),
            notifications: BTreeMap::new(),
            last_notification: 0,
        };
        let defaults = json!({
            "location": location,
            "storageClass": "STANDARD",
            "rpo": null,
            "iamConfiguration": {
                "publicAccessPrevention": "inherited",
                "uniformBucketLevelAccess": { "enabled": false },
            },
            "softDeletePolicy": { "retentionDurationSeconds": "604800" },
        });
        bucket.merge(&defaults)?;
        bucket.merge(desired)?;
        bucket.normalise(now);
        Ok(bucket)
    }

    /// Changes settings: null removes, objects merge.
    ///
    /// # Errors
    /// 400 for settings that break a rule.
    pub fn patch(&mut self, patch: &Value, now: Timestamp) -> Result<()> {
        let moved = patch.get("location").and_then(Value::as_str).is_some_and(|place| {
            self.settings.get("location").and_then(Value::as_str) != Some(&place.to_ascii_uppercase())
        });
        if moved {
            return Err(Error::invalid("The location of a bucket cannot be changed."));
        }
        let mut changed = self.clone();
        changed.merge(patch)?;
        changed.normalise(now);
        changed.metageneration += 1;
        changed.updated = now;
        *self = changed;
        Ok(())
    }

    fn merge(&mut self, patch: &Value) -> Result<()> {
        let Value::Object(fields) = patch else {
            return Err(Error::invalid("A bucket is a JSON object."));
        };
        let fields: Map<String, Value> = fields
            .iter()
            .filter(|(key, _)| !OUTPUT_ONLY.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let mut fields = Value::Object(fields);
        // The older name of uniform access, which gsutil still uses.
        if let Some(older) = fields.pointer("/iamConfiguration/bucketPolicyOnly/enabled").cloned()
            && fields.pointer("/iamConfiguration/uniformBucketLevelAccess").is_none()
        {
            fields["iamConfiguration"]["uniformBucketLevelAccess"] = json!({ "enabled": older });
        }
        let mut settings = Value::Object(std::mem::take(&mut self.settings));
        json_patch::merge(&mut settings, &fields);
        if let Value::Object(settings) = settings {
            self.settings = settings;
        }
        check_labels(self.settings.get("labels"))
    }

    /// Spells settings as Google does.
    fn normalise(&mut self, now: Timestamp) {
        for key in ["location", "storageClass"] {
            if let Some(text) = self.settings.get(key).and_then(Value::as_str).map(str::to_ascii_uppercase) {
                self.settings.insert(key.to_owned(), json!(text));
            }
        }
        if self
            .settings
            .get("lifecycle")
            .is_some_and(|lifecycle| lifecycle["rule"].as_array().is_none_or(Vec::is_empty))
        {
            self.settings.remove("lifecycle");
        }
        if self.settings.get("labels").and_then(Value::as_object).is_some_and(Map::is_empty) {
            self.settings.remove("labels");
        }
        let uniform = self.is_uniform();
        if let Some(Value::Object(iam)) = self.settings.get_mut("iamConfiguration") {
            let mut access = json!({ "enabled": uniform });
            if uniform {
                let lock_time = now + jiff::SignedDuration::from_hours(90 * 24);
                let kept = iam.get("uniformBucketLevelAccess").and_then(|kept| kept.get("lockedTime")).cloned();
                access["lockedTime"] = kept.unwrap_or_else(|| json!(time_text(lock_time)));
            }
            iam.insert("uniformBucketLevelAccess".to_owned(), access.clone());
            iam.insert("bucketPolicyOnly".to_owned(), access);
        }
        if let Some(Value::Object(soft)) = self.settings.get_mut("softDeletePolicy") {
            if let Some(seconds) = soft.get("retentionDurationSeconds").and_then(Value::as_i64) {
                soft.insert("retentionDurationSeconds".to_owned(), json!(seconds.to_string()));
            }
            if soft.get("retentionDurationSeconds").and_then(Value::as_str) == Some("0") {
                soft.remove("effectiveTime");
            } else {
                soft.entry("effectiveTime").or_insert_with(|| json!(time_text(now)));
            }
        }
    }

    /// True when only policies decide, not lists on objects.
    pub fn is_uniform(&self) -> bool {
        self.settings
            .get("iamConfiguration")
            .and_then(|iam| iam.pointer("/uniformBucketLevelAccess/enabled"))
            .and_then(Value::as_bool)
            .unwrap_or(false)
    }

    /// True when nobody may be given access who is not known.
    pub fn is_public_prevented(&self) -> bool {
        self.settings.get("iamConfiguration").and_then(|iam| iam.get("publicAccessPrevention")).and_then(Value::as_str)
            == Some("enforced")
    }

    /// Storage class of objects that do not say.
    pub fn storage_class(&self) -> String {
        self.settings.get("storageClass").and_then(Value::as_str).unwrap_or("STANDARD").to_owned()
    }

    /// Opaque etag of the settings.
    pub fn etag(&self) -> String {
        let metageneration = u8::try_from(self.metageneration).unwrap_or(u8::MAX);
        BASE64_STANDARD.encode([0x08, metageneration])
    }

    /// The JSON resource.
    pub fn json(&self, base: &str, number: u64) -> Value {
        let mut value = Value::Object(self.settings.clone());
        let location = self.settings.get("location").and_then(Value::as_str).unwrap_or_default();
        let multi = matches!(location, "US" | "EU" | "ASIA");
        let fields = json!({
            "kind": "storage#bucket",
            "selfLink": format!("{base}/storage/v1/b/{}", self.name),
            "id": self.name,
            "name": self.name,
            "projectNumber": number.to_string(),
            "generation": self.created.as_microsecond().to_string(),
            "metageneration": self.metageneration.to_string(),
            "locationType": if multi { "multi-region" } else { "region" },
            "etag": self.etag(),
            "timeCreated": time_text(self.created),
            "updated": time_text(self.updated),
        });
        if let (Some(value), Value::Object(fields)) = (value.as_object_mut(), fields) {
            value.extend(fields);
        }
        if multi {
            value["rpo"] = json!("DEFAULT");
        }
        value
    }
}

/// Checks a bucket name.
///
/// # Errors
/// 400.
pub fn check_name(name: &str) -> Result<()> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let good = (3..=63).contains(&name.len())
        && edge(name.chars().next())
        && edge(name.chars().next_back())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
        && !name.starts_with("goog")
        && !name.contains("..");
    if good { Ok(()) } else { Err(Error::invalid(format!("Invalid bucket name: '{name}'"))) }
}

fn check_labels(labels: Option<&Value>) -> Result<()> {
    let Some(labels) = labels else { return Ok(()) };
    let fits = |text: &str| {
        text.chars().count() <= 63
            && text.chars().all(|c| (c.is_alphanumeric() && !c.is_uppercase()) || matches!(c, '_' | '-'))
    };
    let good = labels.as_object().is_some_and(|labels| {
        labels.len() <= 64
            && labels.iter().all(|(key, value)| !key.is_empty() && fits(key) && value.as_str().is_some_and(fits))
    });
    if good {
        Ok(())
    } else {
        Err(Error::invalid("Invalid argument: labels have lower-case keys and values of at most 63 characters."))
    }
}

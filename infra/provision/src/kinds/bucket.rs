//! Buckets: the environment's, and those of businesses that have their own.

use std::collections::BTreeMap;

use contract::object;
use serde_json::{Value, json};

use super::*;
use crate::{
    calls,
    environment::{Business, Managed},
    google::Method,
    grants, lock,
};

pub(crate) const RULES: Rules = Rules {
    noun: "bucket",
    title: named,
    api: Api::Storage,
    target: None,
    parent: no_parent,
    managed: |manage| manage.bucket,
    desired,
    is_first: false,
    mark: Mark::Labels("/labels"),
    immutable: &["location", "name"],
    list: None,
    read: |id, _| Request::get(Api::Storage, path(id)),
    view: as_read,
    limit: None,
    differences: by_field,
    phase: ready,
    denied: |_| {
        let reason = "you may not read it; bucket names are shared by all of Google Cloud, so it may be somebody else's: \
                      set another `bucket` in the environment file";
        Some(Action::Blocked { code: "bucket-taken", reason: reason.to_owned() })
    },
    absent_may_be_denied: false,
    create: Some(|new| {
        Request::new(Api::Storage, Method::Post, "storage/v1/b").query("project", new.project).body(new.fields.clone())
    }),
    is_created: None,
    update: |id, desired, live, changed| vec![update(id, desired, live, changed)],
    is_eventual: false,
    delete: |id, _| vec![Request::new(Api::Storage, Method::Delete, path(id))],
    undelete: None,
    started_operation: no_operation,
    exclusive_operations: None,
    methods: Methods {
        read: &["storage.buckets.get"],
        create: &["storage.buckets.insert"],
        update: &["storage.buckets.patch"],
        delete: &["storage.buckets.delete"],
    },
    explain: crypto_key::explain,
    removal: Removal::WithData("data stays unless asked for"),
    role: "roles/storage.admin",
    lengths: Some(|_| 3..=63),
    on_itself: Some(on_itself),
    checks: &[|environment, client, _| Box::pin(check(environment, client))],
};

/// How long the source and the log of an image build are kept, in days: long enough to examine a failed one.
const BUILD_DAYS: u32 = 30;

/// The id of a bucket.
pub(crate) fn id(name: &str) -> Id {
    Id::new(Kind::Bucket, name)
}

/// Path of a bucket, its policy, or something in it.
pub(super) fn path(id: &Id) -> String {
    format!("storage/v1/b/{}", escaped(&id.name))
}

fn desired(environment: &Environment) -> Vec<Resource> {
    let security = &environment.security;
    let buckets = environment.buckets().into_iter().map(|(name, businesses)| {
        let mut fields = json!({
            "name": name,
            "location": environment.location.to_uppercase(),
            "storageClass": "STANDARD",
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": true},
                "publicAccessPrevention": "enforced",
            },
            "lifecycle": {"rule": lifecycle(&businesses, name == environment.bucket)},
            "softDeletePolicy": {"retentionDurationSeconds": security.soft_delete_secs.to_string()},
            "versioning": {"enabled": false},
        });
        if environment.manage.bucket == Managed::Create {
            fields["labels"] = labels(environment, None);
        }
        if let Some(key) = security.kms_keys.get("bucket") {
            fields["encryption"] = json!({"defaultKmsKeyName": key});
        }
        resource(environment, id(name), None, fields, crypto_key::permissions(environment, &["bucket"]))
    });
    buckets.collect()
}

/// Labels of others stay: a patch merges maps.
fn update(id: &Id, desired: &Value, live: &Value, changed: &[String]) -> Request {
    let body: Value =
        top_level_fields(changed).into_iter().map(|field| (field.to_owned(), desired[field].clone())).collect();
    let request = Request::new(Api::Storage, Method::Patch, path(id)).body(body);
    match live["metageneration"].as_str() {
        Some(metageneration) => request.query("ifMetagenerationMatch", metageneration),
        None => request,
    }
}

/// Deletes what is old, one rule per age since a bucket may have only so many. All rules of a bucket together may name
/// 1,000 prefixes (cloud.google.com/storage/quotas#buckets; 50 until June 2025), which is 333 businesses: IAM's limits
/// of the bucket's policy are met long before. The sources and logs of image builds are where `has_builds`.
pub(crate) fn lifecycle(businesses: &[&Business], has_builds: bool) -> Vec<Value> {
    let mut prefixes: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    if has_builds {
        prefixes.insert(BUILD_DAYS, [object::BUILD_SOURCE_PREFIX, object::BUILD_LOG_PREFIX].map(str::to_owned).into());
    }
    for business in businesses {
        let retention = &business.retention;
        let ages =
            [(retention.output_days, "output"), (retention.outcome_days, "outcome"), (retention.common_days, "common")];
        for (days, part) in ages {
            prefixes.entry(days).or_default().push(format!("{}/{part}/", business.name));
        }
    }
    let mut rules: Vec<Value> = prefixes
        .iter()
        .map(|(age, prefixes)| {
            json!({"action": {"type": "Delete"}, "condition": {"age": age, "matchesPrefix": prefixes}})
        })
        .collect();
    rules.push(json!({"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}));
    rules
}

/// For the lock, and for what is ours to set.
fn on_itself(environment: &Environment) -> Vec<&'static str> {
    let kinds = [Kind::Bucket, Kind::BucketPolicy].map(Kind::rules);
    let ours = kinds.iter().filter(|rules| (rules.managed)(&environment.manage) == Managed::Create);
    let methods = lock::METHODS.iter().chain(ours.flat_map(|rules| rules.methods.update));
    calls::permissions(methods.copied()).into_iter().collect()
}

/// Permissions on the bucket, once there is one.
async fn check(environment: &Environment, client: &Client) -> Vec<Finding> {
    let name = &environment.bucket;
    let permissions = on_itself(environment);
    let mut test = Request::get(Api::Storage, format!("storage/v1/b/{}/iam/testPermissions", escape(name)));
    for permission in &permissions {
        test = test.query("permissions", *permission);
    }
    match client.send(&test).await {
        Err(error) if error.is_not_found() => Vec::new(),
        // The plan itself reports a bucket of somebody else.
        Err(error) => vec![Finding::warning("bucket", error.to_string(), "")],
        Ok(answer) => {
            let lacking = grants::lacking(&permissions, &answer);
            vec![match lacking.is_empty() {
                true => Finding::good("bucket", "everything that is done to it"),
                false => Finding::bad(
                    "denied",
                    "bucket",
                    format!("missing on bucket {name}: {}", lacking.join(", ")),
                    format!(
                        "gcloud storage buckets add-iam-policy-binding gs://{name} --member YOU --role \
                         roles/storage.admin"
                    ),
                ),
            }]
        }
    }
}

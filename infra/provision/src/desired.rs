//! What should exist: a pure function of the environment file.

use std::collections::{BTreeMap, BTreeSet};

use contract::{labels, object};
use serde_json::{Value, json};

use crate::{
    environment::{Auth, Builder, Business, ClusterMode, Endpoint, Environment, Managed, WebAccess},
    resource::{Condition, Desired, Grant, Id, Kind, Resource},
};

pub mod access;
mod cluster;
mod registry;

pub(crate) use cluster::cluster_id;

/// Seconds a message is leased before it is delivered again.
///
/// Google's clients renew a lease of 60 seconds by themselves, so this only counts for a consumer that died: a minute
/// later another one has the message. The shortest possible, 10, would deliver twice whenever a consumer stalls.
const ACK_DEADLINE_SECS: u32 = 60;
/// Shortest and longest pause before a nacked message is delivered again. Messages are nacked when an
/// orchestrator stops or the API server is busy, so the first pause is short.
const RETRY: (&str, &str) = ("1s", "60s");
/// How long messages wait for an orchestrator: Pub/Sub's longest by default, 7 days.
const MESSAGE_RETENTION: &str = "604800s";
/// Stands for the project's Cloud Storage agent among the members of a policy, until somebody asked who that is.
pub const STORAGE_AGENT: &str = "serviceAccount:{the storage service agent}";

/// Every resource of an environment, with what must be there before it.
pub fn desired(environment: &Environment) -> Vec<Resource> {
    let mut resources = Resources { environment, list: vec![], grants: BTreeMap::new() };
    resources.services();
    resources.environment_accounts();
    resources.cluster();
    resources.registry();
    resources.custom_roles();
    for (name, businesses) in environment.buckets() {
        resources.bucket(name, &businesses);
    }
    for business in &environment.businesses {
        resources.pubsub(business);
        resources.accounts(business);
        resources.notification(business);
        resources.business_grants(business);
    }
    resources.environment_grants();
    resources.finish()
}

/// The services of the project that an environment needs, as far as it is ours to use them.
pub fn services(environment: &Environment) -> Vec<&'static str> {
    let manage = &environment.manage;
    let mut services = vec!["cloudresourcemanager", "iam", "logging", "monitoring", "pubsub", "storage"];
    if manage.cluster != Managed::Off {
        services.extend(["compute", "container"]);
    }
    if manage.registry != Managed::Off {
        services.push("artifactregistry");
    }
    if environment.build.builder == Builder::CloudBuild {
        services.push("cloudbuild");
    }
    if environment.auth == Auth::WorkloadIdentity {
        services.push("iamcredentials");
    }
    if environment.web.enabled && environment.web.access == WebAccess::Iap {
        services.push("iap");
    }
    services.sort_unstable();
    services
}

/// Text in the description of what cannot have labels; ends with what it is for.
pub(crate) fn description(environment: &str, purpose: &str) -> String {
    format!("{}{purpose}", ownership_mark(environment))
}

/// How the description of a service account of this environment begins.
pub(crate) fn ownership_mark(environment: &str) -> String {
    format!(
        "{}={} {}={environment}: ",
        labels::GOOGLE_MANAGED_BY,
        labels::MANAGED_BY_DESKGRID,
        labels::GOOGLE_ENVIRONMENT
    )
}

struct Resources<'a> {
    environment: &'a Environment,
    list: Vec<Resource>,
    /// Grants by what they are on, with the one business they are for, if it is one.
    grants: BTreeMap<Id, (Option<String>, BTreeSet<Grant>)>,
}

impl Resources<'_> {
    fn add(&mut self, id: Id, business: Option<&Business>, managed: Managed, fields: Value, after: Vec<Id>) {
        if managed != Managed::Off {
            let business = business.map(|business| business.name.clone());
            self.list.push(Resource { id, business, managed, desired: Desired::Fields(fields), after });
        }
    }

    fn labels(&self, business: Option<&Business>) -> Value {
        let mut all = self.environment.labels.clone();
        all.insert(labels::GOOGLE_MANAGED_BY.to_owned(), labels::MANAGED_BY_DESKGRID.to_owned());
        all.insert(labels::GOOGLE_ENVIRONMENT.to_owned(), self.environment.name.clone());
        if let Some(business) = business {
            all.insert(labels::BUSINESS.to_owned(), business.name.clone());
        }
        json!(all)
    }

    fn services(&mut self) {
        let name = format!("projects/{}/services", self.environment.project);
        let enabled = services(self.environment).into_iter();
        let fields: Value = enabled.map(|service| (format!("{service}.googleapis.com"), json!("ENABLED"))).collect();
        self.add(Id::new(Kind::Services, name), None, self.environment.manage.apis, fields, vec![]);
    }

    fn bucket(&mut self, name: &str, businesses: &[&Business]) {
        let security = &self.environment.security;
        let managed = self.environment.manage.bucket;
        let mut fields = json!({
            "name": name,
            "location": self.environment.location.to_uppercase(),
            "storageClass": "STANDARD",
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": true},
                "publicAccessPrevention": "enforced",
            },
            "lifecycle": {"rule": lifecycle(businesses, name == self.environment.bucket)},
            "softDeletePolicy": {"retentionDurationSeconds": security.soft_delete_secs.to_string()},
            "versioning": {"enabled": false},
        });
        if managed == Managed::Create {
            fields["labels"] = self.labels(None);
        }
        if let Some(key) = security.kms_keys.get("bucket") {
            fields["encryption"] = json!({"defaultKmsKeyName": key});
        }
        self.add(Id::new(Kind::Bucket, name), None, managed, fields, vec![]);
    }

    fn topic_id(&self, topic: &str) -> Id {
        Id::new(Kind::Topic, format!("projects/{}/topics/{topic}", self.environment.project))
    }

    fn subscription_id(&self, subscription: &str) -> Id {
        Id::new(Kind::Subscription, format!("projects/{}/subscriptions/{subscription}", self.environment.project))
    }

    fn pubsub(&mut self, business: &Business) {
        let managed = self.environment.manage.pubsub;
        let security = &self.environment.security;
        let mut fields = json!({});
        if managed == Managed::Create {
            fields["labels"] = self.labels(Some(business));
        }
        let subscription_base = fields.clone();
        if !security.allowed_locations.is_empty() {
            fields["messageStoragePolicy"] = json!({"allowedPersistenceRegions": security.allowed_locations});
        }
        if let Some(key) = security.kms_keys.get("pubsub") {
            fields["kmsKeyName"] = json!(key);
        }
        let topic = self.topic_id(&business.topic);
        self.add(topic.clone(), Some(business), managed, fields.clone(), vec![]);
        self.add(self.topic_id(&business.events_topic), Some(business), managed, fields, vec![]);

        let mut fields = subscription_base;
        fields["topic"] = json!(topic.name);
        fields["ackDeadlineSeconds"] = json!(ACK_DEADLINE_SECS);
        fields["messageRetentionDuration"] = json!(MESSAGE_RETENTION);
        // Present but empty: never expires. Absent would mean: deleted after 31 idle days.
        fields["expirationPolicy"] = json!({});
        fields["retryPolicy"] = json!({"minimumBackoff": RETRY.0, "maximumBackoff": RETRY.1});
        self.add(
            self.subscription_id(&business.subscription),
            Some(business),
            managed,
            fields.clone(),
            vec![topic.clone()],
        );
        if let Some(priority) = &business.priority_subscription {
            // The main subscription has no filter, since a filter can never be changed: a priority message comes
            // on both, and the second arrival finds the Job or its outcome.
            fields["filter"] = json!(format!("attributes.{} = \"true\"", labels::ATTRIBUTE_PRIORITY));
            self.add(self.subscription_id(priority), Some(business), managed, fields, vec![topic]);
        }
    }

    fn notification(&mut self, business: &Business) {
        if !business.submit_on_upload {
            return;
        }
        let topic = self.topic_id(&business.topic);
        let bucket = Id::new(Kind::Bucket, &business.bucket);
        let fields = json!({
            "topic": format!("//pubsub.googleapis.com/{}", topic.name),
            "event_types": ["OBJECT_FINALIZE"],
            "object_name_prefix": object::input_prefix(&business.name),
            // With the object's metadata, which holds the options.
            "payload_format": "JSON_API_V1",
            // Doubles, which a creation whose answer was lost leaves.
            "others": [],
        });
        let id = Id::new(Kind::Notification, format!("{}/notificationConfigs/{}", business.bucket, business.topic));
        // Cloud Storage makes one only where its agent may publish.
        let after = vec![bucket, topic.clone(), topic.policy()];
        self.add(id, Some(business), self.environment.manage.bucket, fields, after);
    }

    /// All grants on one thing become one resource, so that its policy is written once.
    fn finish(self) -> Vec<Resource> {
        let mut list = self.list;
        let managed = self.environment.manage.iam;
        let grants = if managed == Managed::Off { BTreeMap::new() } else { self.grants };
        for (on, (business, grants)) in grants {
            let emails: BTreeSet<&str> =
                grants.iter().filter_map(|grant| grant.member.strip_prefix("serviceAccount:")).collect();
            let roles: BTreeSet<&str> = grants.iter().map(|grant| grant.role.as_str()).collect();
            let after = list
                .iter()
                .filter(|other| {
                    other.id == on
                        || (other.id.kind == Kind::ServiceAccount && emails.contains(other.id.short()))
                        || (other.id.kind == Kind::Role && roles.contains(other.id.name.as_str()))
                        // The pool of Kubernetes accounts comes with the first cluster that uses it.
                        || (other.id.kind == Kind::Cluster && on.kind == Kind::ServiceAccount)
                })
                .map(|other| other.id.clone())
                .collect();
            list.push(Resource { id: on.policy(), business, managed, desired: Desired::Grants(grants), after });
        }
        let known: BTreeSet<Id> = list.iter().map(|resource| resource.id.clone()).collect();
        let services = list.iter().find(|resource| resource.id.kind == Kind::Services).map(|found| found.id.clone());
        for resource in list.iter_mut().filter(|resource| resource.id.kind != Kind::Services) {
            // What others make is not waited for.
            resource.after.retain(|id| known.contains(id));
            resource.after.splice(0..0, services.clone());
        }
        list
    }
}

/// How long the source and the log of an image build are kept, in days: long enough to examine a failed one.
const BUILD_DAYS: u32 = 30;

/// Deletes what is old, one rule per age since a bucket may have only so many. All rules of a bucket together may name
/// 1,000 prefixes (cloud.google.com/storage/quotas#buckets; 50 until June 2025), which is 333 businesses: IAM's limits
/// of the bucket's policy are met long before. The sources and logs of image builds are where `has_builds`.
fn lifecycle(businesses: &[&Business], has_builds: bool) -> Vec<Value> {
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

#[cfg(test)]
mod tests;

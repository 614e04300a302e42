//! What should exist: a pure function of the environment file.

use std::collections::{BTreeMap, BTreeSet};

use common::labels;
use serde_json::{Value, json};

use crate::{
    environment::{Auth, Business, Environment, Managed},
    resource::{Condition, Grant, Id, Kind, Resource, Wanted},
};

/// Seconds a message is leased before it is delivered again.
///
/// Google's clients renew a lease of 60 seconds by themselves, so this only counts for a consumer that died: a minute
/// later another one has the message. The shortest possible, 10, would deliver twice whenever a consumer stalls.
const ACK_DEADLINE_SECS: u32 = 60;
/// Shortest and longest pause before a message that was given back is delivered again. Messages are given back when an
/// orchestrator stops or the API server is busy, so the first pause is short.
const RETRY: (&str, &str) = ("1s", "60s");
/// How long messages wait for an orchestrator: Pub/Sub's longest by default, 7 days.
const MESSAGE_RETENTION: &str = "604800s";
/// Custom role for what no predefined role grants alone. Listing is evaluated on the bucket, never on a prefix, so it
/// cannot stand under a condition on objects; the nearest predefined role also shows the bucket's metadata.
const LISTER_ROLE: &str = "deskgridObjectLister";

/// Every resource of an environment, with what must be there before it.
pub fn desired(environment: &Environment) -> Vec<Resource> {
    let mut resources = Resources { environment, list: vec![], grants: BTreeMap::new() };
    resources.lister_role();
    for (name, businesses) in environment.buckets() {
        resources.bucket(name, &businesses);
    }
    for business in &environment.businesses {
        resources.pubsub(business);
        resources.accounts(business);
        resources.grants(business);
    }
    resources.finish()
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
            self.list.push(Resource { id, business, managed, wanted: Wanted::Fields(fields), after });
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

    fn lister(&self) -> String {
        format!("projects/{}/roles/{LISTER_ROLE}", self.environment.project)
    }

    fn lister_role(&mut self) {
        let fields = json!({
            "title": "Deskgrid object lister",
            "description": format!("{}={}: list the names of objects", labels::GOOGLE_MANAGED_BY, labels::MANAGED_BY_DESKGRID),
            "stage": "GA",
            "includedPermissions": ["storage.objects.list"],
        });
        self.add(Id::new(Kind::Role, self.lister()), None, self.environment.manage.iam, fields, vec![]);
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
            "lifecycle": {"rule": lifecycle(businesses)},
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

    fn account_id(email: &str) -> Id {
        let project = email.split_once('@').and_then(|(_, domain)| domain.strip_suffix(".iam.gserviceaccount.com"));
        Id::new(Kind::ServiceAccount, format!("projects/{}/serviceAccounts/{email}", project.unwrap_or("-")))
    }

    fn accounts(&mut self, business: &Business) {
        let accounts = &business.accounts;
        let identities =
            [("client", &accounts.client), ("orchestrator", &accounts.orchestrator), ("engine", &accounts.engine)];
        for (identity, email) in identities {
            if !email.ends_with(&format!("@{}.iam.gserviceaccount.com", self.environment.project)) {
                // Somebody else's account: we grant to it, and make nothing.
                continue;
            }
            let managed = self.environment.manage.iam;
            let purpose = format!("{identity} of {}", business.name);
            let fields = match managed {
                Managed::Create => json!({
                    "displayName": format!("Deskgrid {purpose}"),
                    "description": description(&self.environment.name, &purpose),
                }),
                _ => json!({}),
            };
            self.add(Self::account_id(email), Some(business), managed, fields, vec![]);
        }
    }

    fn grant(&mut self, on: Id, business: &Business, role: &str, member: String, condition: Option<Condition>) {
        let shared = on.kind == Kind::Bucket
            && self.environment.buckets().iter().any(|(name, businesses)| {
                *name == on.name && (businesses.len() > 1 || *name == self.environment.bucket)
            });
        let owner = (!shared).then(|| business.name.clone());
        let entry = self.grants.entry(on).or_insert_with(|| (owner, BTreeSet::new()));
        entry.1.insert(Grant { role: role.to_owned(), member, condition });
    }

    /// The table of who may do what, for the three identities of a business.
    fn grants(&mut self, business: &Business) {
        let member = |email: &str| format!("serviceAccount:{email}");
        let (client, orchestrator, engine) = (
            member(&business.accounts.client),
            member(&business.accounts.orchestrator),
            member(&business.accounts.engine),
        );
        let topic = self.topic_id(&business.topic);
        let events = self.topic_id(&business.events_topic);
        let bucket = Id::new(Kind::Bucket, &business.bucket);
        let lister = self.lister();
        let on = |parts: &[&str]| Some(under(business, parts));

        self.grant(bucket.clone(), business, "roles/storage.objectCreator", client.clone(), on(&["input", "common"]));
        self.grant(bucket.clone(), business, "roles/storage.objectViewer", client.clone(), on(&["output", "outcome"]));
        self.grant(bucket.clone(), business, &lister, client.clone(), None);
        self.grant(topic.clone(), business, "roles/pubsub.publisher", client, None);

        self.grant(bucket.clone(), business, "roles/storage.objectUser", orchestrator.clone(), on(&[]));
        self.grant(bucket.clone(), business, &lister, orchestrator.clone(), None);
        for topic in [topic, events] {
            self.grant(topic, business, "roles/pubsub.publisher", orchestrator.clone(), None);
        }
        for name in [Some(&business.subscription), business.priority_subscription.as_ref()].into_iter().flatten() {
            let subscription = self.subscription_id(name);
            for role in ["roles/pubsub.subscriber", "roles/pubsub.viewer"] {
                self.grant(subscription.clone(), business, role, orchestrator.clone(), None);
            }
        }

        let readable = on(&["input", "common", "output"]);
        self.grant(bucket.clone(), business, "roles/storage.objectViewer", engine.clone(), readable);
        self.grant(bucket, business, "roles/storage.objectCreator", engine, on(&["output"]));

        if self.environment.auth == Auth::WorkloadIdentity {
            let pairs = [("orchestrator", &business.accounts.orchestrator), ("engine", &business.accounts.engine)];
            for (kubernetes, email) in pairs {
                let pool = self.environment.workload_pool();
                let member = format!("serviceAccount:{pool}[{}/{kubernetes}]", business.namespace);
                self.grant(Self::account_id(email), business, "roles/iam.workloadIdentityUser", member, None);
            }
        }
    }

    /// All grants on one thing become one resource, so that its policy is written once.
    fn finish(self) -> Vec<Resource> {
        let mut list = self.list;
        let managed = self.environment.manage.iam;
        if managed == Managed::Off {
            return list;
        }
        for (on, (business, grants)) in self.grants {
            let emails: BTreeSet<&str> =
                grants.iter().filter_map(|grant| grant.member.strip_prefix("serviceAccount:")).collect();
            let roles: BTreeSet<&str> = grants.iter().map(|grant| grant.role.as_str()).collect();
            let after = list
                .iter()
                .filter(|other| {
                    other.id == on
                        || (other.id.kind == Kind::ServiceAccount && emails.contains(other.id.short()))
                        || (other.id.kind == Kind::Role && roles.contains(other.id.name.as_str()))
                })
                .map(|other| other.id.clone())
                .collect();
            list.push(Resource { id: on.policy(), business, managed, wanted: Wanted::Grants(grants), after });
        }
        list
    }
}

/// Objects of a business whose name begins with one of these parts; all of them without one.
fn under(business: &Business, parts: &[&str]) -> Condition {
    let prefix =
        |part: &str| format!("resource.name.startsWith(\"projects/_/buckets/{}/objects/{part}\")", business.bucket);
    let name = &business.name;
    if parts.is_empty() {
        return Condition { title: name.clone(), expression: prefix(&format!("{name}/")) };
    }
    let prefixes: Vec<String> = parts.iter().map(|part| prefix(&format!("{name}/{part}/"))).collect();
    Condition { title: format!("{name} {}", parts.join(" ")), expression: prefixes.join(" || ") }
}

/// Deletes what is old, one rule per age since a bucket may have only so many.
fn lifecycle(businesses: &[&Business]) -> Vec<Value> {
    let mut prefixes: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for business in businesses {
        let retention = &business.retention;
        let ages =
            [(retention.output_days, "output"), (retention.outcome_days, "outcome"), (retention.common_days, "common")];
        for (days, part) in ages {
            prefixes.entry(days).or_default().push(format!("{}/{part}/", business.name));
        }
    }
    let mut rules: Vec<Value> = prefixes
        .into_iter()
        .map(|(age, prefixes)| {
            json!({"action": {"type": "Delete"}, "condition": {"age": age, "matchesPrefix": prefixes}})
        })
        .collect();
    rules.push(json!({"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}));
    rules
}

#[cfg(test)]
mod tests;

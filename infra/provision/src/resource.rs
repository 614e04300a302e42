//! Resources as values: what one is called, what it should be like, and what must exist before it.

use std::{collections::BTreeSet, fmt};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::environment::Managed;

/// Kinds of resource, in the order in which people read about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The services (APIs) that are enabled in a project, `projects/P/services`; one resource for all of them.
    Services,
    /// A cluster, `projects/P/locations/L/clusters/C`.
    Cluster,
    /// A node pool, `projects/P/locations/L/clusters/C/nodePools/N`.
    NodePool,
    /// An image registry, `projects/P/locations/L/repositories/R`.
    Registry,
    /// A bucket; the name is the bucket's.
    Bucket,
    /// A custom role, `projects/P/roles/R`.
    Role,
    /// A service account, `projects/P/serviceAccounts/EMAIL`.
    ServiceAccount,
    /// A topic, `projects/P/topics/T`.
    Topic,
    /// A subscription, `projects/P/subscriptions/S`.
    Subscription,
    /// A notification of a bucket to a topic, `BUCKET/notificationConfigs/TOPIC`; the API names them by numbers.
    Notification,
    /// An alert policy, `projects/P/alertPolicies/ENVIRONMENT-BUSINESS-ALERT`; the API names them by numbers.
    Alert,
    /// A dashboard, `projects/P/dashboards/D`.
    Dashboard,
    /// A project, `projects/P`; only what a policy is on.
    Project,
    /// A key of Cloud KMS, `projects/P/locations/L/keyRings/R/cryptoKeys/K`; only what a policy is on.
    CryptoKey,
    /// Who may do what on a bucket.
    BucketPolicy,
    /// Who may do what on a topic.
    TopicPolicy,
    /// Who may do what on a subscription.
    SubscriptionPolicy,
    /// Who may act as a service account.
    ServiceAccountPolicy,
    /// Who may read and write images.
    RegistryPolicy,
    /// Who may do what in the whole project.
    ProjectPolicy,
    /// Who may encrypt with a key.
    CryptoKeyPolicy,
}

/// What a resource is called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Kind.
    pub kind: Kind,
    /// Full name, as the API has it. A policy has the name of what it is on.
    pub name: String,
}

/// One role for one member, perhaps only under a condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Grant {
    /// Role, `roles/…` or `projects/P/roles/…`.
    pub role: String,
    /// Member, such as `serviceAccount:EMAIL`.
    pub member: String,
    /// Condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// When a grant holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Condition {
    /// Short name for people.
    pub title: String,
    /// Expression in Google's Common Expression Language.
    pub expression: String,
}

/// What a resource should be like.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// The fields that we set, in the API's own JSON.
    Fields(Value),
    /// The grants that must be there; others are left alone.
    Grants(BTreeSet<Grant>),
}

/// A resource that should exist.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resource {
    /// What it is called.
    pub id: Id,
    /// Business it is for; none for the whole environment.
    pub business: Option<String>,
    /// Whether we make it or only check it.
    pub managed: Managed,
    /// What it should be like.
    pub desired: Desired,
    /// What must be there before it.
    pub after: Vec<Id>,
}

impl Id {
    /// An id.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// The last part of the name.
    pub fn short(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            kind: Kind,
            name: &'a str,
        }
        Shape { kind: self.kind, name: &self.name }.serialize(serializer)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.role, self.member)?;
        match &self.condition {
            Some(condition) => write!(f, " if {}", condition.title),
            None => Ok(()),
        }
    }
}

//! Who calls, and which members of a policy that is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Principal {
    /// No credentials at all.
    Anonymous,
    /// A person.
    User {
        /// Email address.
        email: String,
    },
    /// A Google service account.
    ServiceAccount {
        /// Email address.
        email: String,
        /// Unique id; none for Google's own agents, which live outside the project.
        uid: Option<String>,
    },
    /// A Kubernetes service account by itself (Workload Identity Federation for GKE).
    Kubernetes {
        /// Namespace.
        namespace: String,
        /// Name of the Kubernetes service account.
        account: String,
    },
}

/// The workload identity pool of the project's clusters.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Project id.
    pub project: String,
    /// Project number.
    pub number: u64,
}

impl Pool {
    /// True for a member of a policy that is somebody, or some group, of this pool.
    pub fn names(&self, member: &str) -> bool {
        let name = self.name();
        member.strip_prefix("serviceAccount:").is_some_and(|rest| rest.starts_with(&format!("{name}[")))
            || (member.starts_with("principal") && member.contains(&format!("/workloadIdentityPools/{name}/")))
    }

    /// Name of the pool: `PROJECT.svc.id.goog`.
    pub fn name(&self) -> String {
        format!("{}.svc.id.goog", self.project)
    }

    pub(super) fn path(&self) -> String {
        format!("iam.googleapis.com/projects/{}/locations/global/workloadIdentityPools/{}", self.number, self.name())
    }

    /// `principal://…` of a Kubernetes service account.
    pub fn subject(&self, namespace: &str, account: &str) -> String {
        format!("principal://{}/subject/ns/{namespace}/sa/{account}", self.path())
    }

    /// The member in its older form: `serviceAccount:POOL[ns/ksa]`.
    pub fn member(&self, namespace: &str, account: &str) -> String {
        format!("serviceAccount:{}[{namespace}/{account}]", self.name())
    }
}

impl Principal {
    /// The name under which messages and `user_of_token` show the caller.
    pub fn member(&self, pool: &Pool) -> String {
        match self {
            Self::Anonymous => "allUsers".to_owned(),
            Self::User { email } => format!("user:{email}"),
            Self::ServiceAccount { email, .. } => format!("serviceAccount:{email}"),
            Self::Kubernetes { namespace, account } => pool.subject(namespace, account),
        }
    }

    /// True when a member of a binding stands for this caller. `uid` is the account the member was bound to.
    pub fn is(&self, member: &str, bound: Option<&str>, pool: &Pool) -> bool {
        if member == "allUsers" {
            return true;
        }
        if member == "allAuthenticatedUsers" {
            return *self != Self::Anonymous;
        }
        match self {
            Self::Anonymous => false,
            Self::User { email } => same(member, "user:", email),
            Self::ServiceAccount { email, uid } => {
                same(member, "serviceAccount:", email) && (uid.is_none() || uid.as_deref() == bound)
            }
            Self::Kubernetes { namespace, account } => {
                member == pool.subject(namespace, account)
                    || member == pool.member(namespace, account)
                    || member
                        .strip_prefix("principalSet://")
                        .and_then(|rest| rest.strip_prefix(&pool.path()))
                        .is_some_and(|rest| {
                            rest == "/*" || rest.strip_prefix("/namespace/").is_some_and(|name| name == namespace)
                        })
            }
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous caller"),
            Self::User { email } | Self::ServiceAccount { email, .. } => f.write_str(email),
            Self::Kubernetes { namespace, account } => write!(f, "ns/{namespace}/sa/{account}"),
        }
    }
}

fn same(member: &str, prefix: &str, email: &str) -> bool {
    member.strip_prefix(prefix).is_some_and(|name| name.eq_ignore_ascii_case(email))
}

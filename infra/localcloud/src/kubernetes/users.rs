//! Who sends a request: bearer tokens and the users behind them.

use std::sync::Arc;

use super::kinds::Kind;

/// Maps a Google access token to its principal (`user:x`, `serviceAccount:email`).
pub type GoogleUser = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Whether the principal of a Google access token has a permission in the project, such as `container.jobs.list`.
pub type GoogleAllows = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// What only `roles/container.admin` and its likes contain together: to grant more than one has, and to change nodes.
const ADMIN: [&str; 2] = ["container.clusterRoles.escalate", "container.nodes.update"];

/// An authenticated user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// May do everything.
    pub admin: bool,
    /// The Google access token, of a principal of Google's.
    pub google: Option<String>,
}

impl User {
    /// An administrator.
    pub fn admin(name: &str) -> Self {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        Self { name: name.to_owned(), groups, admin: true, google: None }
    }

    /// Another user, as an administrator speaks for one.
    pub fn impersonated(name: &str, mut groups: Vec<String>) -> Self {
        if let Some((namespace, account)) =
            name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
        {
            return Self::service_account(namespace, account);
        }
        groups.push("system:authenticated".to_owned());
        Self { name: name.to_owned(), groups, admin: false, google: None }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ];
        Self { name: format!("system:serviceaccount:{namespace}:{name}"), groups, admin: false, google: None }
    }
}

/// The tokens that are good, besides those of service accounts.
pub struct Tokens {
    admin: String,
    google: GoogleUser,
    allows: GoogleAllows,
}

impl Tokens {
    /// Tokens with this one for the administrator.
    pub fn new(admin: String, google: GoogleUser, allows: GoogleAllows) -> Self {
        Self { admin, google, allows }
    }

    /// The administrator's token.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// The administrator, or the principal of Google's, that a token stands for.
    pub fn user(&self, token: &str) -> Option<User> {
        if token == self.admin {
            return Some(User::admin("admin"));
        }
        let principal = (self.google)(token)?;
        let email = principal.strip_prefix("user:").or(principal.strip_prefix("serviceAccount:"));
        Some(User {
            name: email.unwrap_or(&principal).to_owned(),
            groups: vec!["system:authenticated".to_owned()],
            admin: ADMIN.iter().all(|permission| (self.allows)(token, permission)),
            google: Some(token.to_owned()),
        })
    }

    /// Whether IAM lets a user do this to objects of a kind, whatever RBAC says: one of both is enough
    /// (cloud.google.com/kubernetes-engine/docs/how-to/role-based-access-control, "Interaction with IAM").
    pub fn iam_allows(&self, user: &User, kind: &Kind, subresource: &str, verb: &str) -> bool {
        let lower = kind.kind.to_ascii_lowercase();
        let same = lower.bytes().zip(kind.plural.bytes()).take_while(|(one, other)| one == other).count();
        let name = format!("{}{}{}", &lower[..1], &kind.kind[1..same], &kind.plural[same..]);
        let verb = match (subresource, verb) {
            ("log", _) => "getLogs",
            ("portforward", _) => "portForward",
            ("exec" | "attach", _) => subresource,
            (_, "watch") => "list",
            (_, "patch") => "update",
            (_, "deletecollection") => "delete",
            (_, verb) => verb,
        };
        let needed = format!("container.{name}.{verb}");
        // Of the rules and bindings that one writes one has everything oneself, or the right to hand out more
        // (kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping).
        let hands_out =
            (kind.group == "rbac.authorization.k8s.io" && ["create", "update"].contains(&verb)).then(|| {
                name.strip_suffix("Bindings").map_or_else(|| format!("{name}.escalate"), |role| format!("{role}s.bind"))
            });
        let needed = [Some(needed), hands_out.map(|more| format!("container.{more}"))];
        user.google
            .as_ref()
            .is_some_and(|token| needed.iter().flatten().all(|permission| (self.allows)(token, permission)))
    }
}

/// A token of 32 random bytes, in hexadecimal.
pub fn random() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

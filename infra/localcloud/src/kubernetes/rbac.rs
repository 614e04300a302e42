//! Role-based access: whether the roles bound to a user allow a request.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

use super::{
    kinds,
    store::Store,
    users::User,
    value::{items, text},
};

/// What a user wants to do.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    /// `get`, `list`, `create` and so on.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural name, with `/subresource` where there is one.
    pub resource: &'a str,
    /// Namespace, "" for the whole cluster.
    pub namespace: &'a str,
    /// Name of the object, "" for none.
    pub name: &'a str,
}

/// The role, and its binding, that let every service account read the keys of the cluster's tokens.
pub const ISSUER_DISCOVERY: &str = "system:service-account-issuer-discovery";
/// Refusals that are kept, of all users together.
const REFUSED: usize = 1000;

/// Which of their rights users have made use of, so that a right which nobody uses can be found.
#[derive(Debug, Default)]
pub struct Used {
    hasher: RandomState,
    wishes: Mutex<HashMap<u64, (String, Granted)>>,
    refused: Mutex<BTreeSet<(String, Granted)>>,
}

/// Something that a user did, or desired to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Granted {
    /// Namespace, "" for the whole cluster.
    pub namespace: String,
    /// API group.
    pub group: String,
    /// Plural name, with `/subresource` where there is one.
    pub resource: String,
    /// `get`, `list`, `create` and so on.
    pub verb: String,
}

impl From<&Access<'_>> for Granted {
    fn from(access: &Access<'_>) -> Self {
        let [namespace, group, resource, verb] =
            [access.namespace, access.group, access.resource, access.verb].map(str::to_owned);
        Self { namespace, group, resource, verb }
    }
}

impl Used {
    pub(super) fn note(&self, user: &str, access: &Access<'_>) {
        let key = self.hasher.hash_one((user, access.namespace, access.group, access.resource, access.verb));
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        wishes.entry(key).or_insert_with(|| (user.to_owned(), Granted::from(access)));
    }

    pub(super) fn note_refused(&self, user: &str, access: &Access<'_>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() < REFUSED {
            refused.insert((user.to_owned(), Granted::from(access)));
        }
    }

    /// What a user was refused so far.
    pub fn refused(&self, user: &str) -> BTreeSet<Granted> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.iter().filter(|(of, _)| of == user).map(|(_, access)| access.clone()).collect()
    }

    /// What a user, like `system:serviceaccount:NAMESPACE:NAME`, did so far.
    pub fn of(&self, user: &str) -> BTreeSet<Granted> {
        let wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        wishes.values().filter(|(of, _)| of == user).map(|(_, granted)| granted.clone()).collect()
    }
}

/// Whether the user may.
pub fn allows(store: &Store, user: &User, access: &Access<'_>) -> bool {
    if user.admin || user.groups.iter().any(|group| group == "system:masters") {
        return true;
    }
    has_rule(store, user, "", |rule| covers(rule, access))
        || !access.namespace.is_empty() && has_rule(store, user, access.namespace, |rule| covers(rule, access))
}

/// Whether the user may read a path that is no resource, such as `/openid/v1/jwks`.
pub fn allows_path(store: &Store, user: &User, path: &str) -> bool {
    user.admin
        || has_rule(store, user, "", |rule| {
            let matches =
                |pattern: &str| pattern.strip_suffix('*').map_or(pattern == path, |base| path.starts_with(base));
            items(rule, "/nonResourceURLs").iter().filter_map(Value::as_str).any(matches)
                && items(rule, "/verbs").iter().any(|verb| verb == "*" || verb == "get")
        })
}

/// Whether a role that is bound to the user in a namespace, or in the whole cluster (""), has such a rule.
fn has_rule(store: &Store, user: &User, namespace: &str, is_wanted: impl Fn(&Value) -> bool) -> bool {
    let kind = if namespace.is_empty() { &kinds::CLUSTER_ROLE_BINDING } else { &kinds::ROLE_BINDING };
    store.all(kind, Some(namespace)).iter().filter(|binding| binds(binding, user)).any(|binding| {
        let name = text(binding, "/roleRef/name");
        let role = match text(binding, "/roleRef/kind") {
            "Role" => store.get(&kinds::ROLE, namespace, name),
            _ => store.get(&kinds::CLUSTER_ROLE, "", name),
        };
        role.is_some_and(|role| items(&role, "/rules").iter().any(&is_wanted))
    })
}

/// What the refusal says after `is forbidden: `.
pub fn refusal(user: &User, access: &Access<'_>) -> String {
    let place = if access.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", access.namespace)
    };
    format!(
        "User {:?} cannot {} resource {:?} in API group {:?} {place}",
        user.name, access.verb, access.resource, access.group
    )
}

/// The cluster roles that every cluster has.
pub fn built_in() -> Vec<Value> {
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}, "rules": rules});
    let read = json!(["get", "list", "watch"]);
    let write = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    let core = json!([
        "pods",
        "pods/log",
        "pods/status",
        "services",
        "configmaps",
        "endpoints",
        "events",
        "persistentvolumeclaims",
        "serviceaccounts",
        "resourcequotas",
        "limitranges",
        "namespaces"
    ]);
    let secrets = json!(["secrets"]);
    let groups = json!(["apps", "batch", "networking.k8s.io", "policy"]);
    let all = json!(["*"]);
    vec![
        role(
            "cluster-admin",
            json!([
                {"apiGroups": all, "resources": all, "verbs": all},
                {"nonResourceURLs": all, "verbs": all},
            ]),
        ),
        role(
            "admin",
            json!([
                {"apiGroups": [""], "resources": core, "verbs": write},
                {"apiGroups": [""], "resources": secrets, "verbs": write},
                {"apiGroups": groups, "resources": all, "verbs": write},
                {"apiGroups": [kinds::ROLE.group], "resources": ["roles", "rolebindings"], "verbs": write},
            ]),
        ),
        role(
            "edit",
            json!([
                {"apiGroups": [""], "resources": core, "verbs": write},
                {"apiGroups": [""], "resources": secrets, "verbs": write},
                {"apiGroups": groups, "resources": all, "verbs": write},
            ]),
        ),
        role(
            "view",
            json!([
                {"apiGroups": [""], "resources": core, "verbs": read},
                {"apiGroups": groups, "resources": all, "verbs": read},
            ]),
        ),
        role(
            ISSUER_DISCOVERY,
            json!([{
                "nonResourceURLs": [
                    "/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks",
                    "/openid/v1/jwks/",
                ],
                "verbs": ["get"],
            }]),
        ),
    ]
}

fn binds(binding: &Value, user: &User) -> bool {
    items(binding, "/subjects").iter().any(|subject| {
        let name = text(subject, "/name");
        match text(subject, "/kind") {
            "User" => name == user.name,
            "Group" => user.groups.iter().any(|group| group == name),
            "ServiceAccount" => {
                let namespace = text(subject, "/namespace");
                user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
                    == Some((namespace, name))
            }
            _ => false,
        }
    })
}

fn covers(rule: &Value, access: &Access<'_>) -> bool {
    let has = |field: &str, desired: &str| items(rule, field).iter().any(|one| one == "*" || one == desired);
    let resource = has("/resources", access.resource)
        || access
            .resource
            .split_once('/')
            .is_some_and(|(_, sub)| items(rule, "/resources").iter().any(|one| *one == *format!("*/{sub}")));
    let names = items(rule, "/resourceNames");
    has("/verbs", access.verb)
        && has("/apiGroups", access.group)
        && resource
        && (names.is_empty() || names.iter().any(|name| name == access.name))
}

//! Predefined roles: those that the laptop cloud knows, with the permissions that matter here.

use std::{collections::BTreeMap, sync::LazyLock};

/// Permissions by role; a trailing `*` stands for everything that begins so.
static ROLES: LazyLock<BTreeMap<&str, Vec<&str>>> =
    LazyLock::new(|| serde_json::from_str(include_str!("predefined.json")).unwrap_or_default());

/// True for a predefined role.
pub(super) fn exists(role: &str) -> bool {
    matches!(role, "roles/owner" | "roles/editor" | "roles/viewer") || ROLES.contains_key(role)
}

/// True when the role has the permission.
pub(super) fn has(role: &str, permission: &str) -> bool {
    let of_objects = permission.starts_with("storage.objects.");
    match role {
        "roles/owner" => !makes_tokens(permission),
        "roles/editor" => !is_protected(permission) && !of_objects,
        "roles/viewer" => reads(permission) && !is_protected(permission) && !of_objects,
        _ => ROLES.get(role).into_iter().flatten().any(|has| match has.strip_suffix('*') {
            Some(prefix) => permission.starts_with(prefix),
            None => *has == permission,
        }),
    }
}

fn reads(permission: &str) -> bool {
    permission.ends_with(".get") || permission.ends_with(".list")
}

/// What only owners and administrators of access may do.
fn is_protected(permission: &str) -> bool {
    permission.ends_with(".setIamPolicy")
        || permission.starts_with("iam.roles.") && !reads(permission)
        || makes_tokens(permission)
}

/// What not even an owner may do without being granted it.
fn makes_tokens(permission: &str) -> bool {
    ["getAccessToken", "getOpenIdToken", "implicitDelegation", "signBlob", "signJwt"]
        .iter()
        .any(|verb| permission.ends_with(verb))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_have_what_google_gives_them() {
        let check = |role: &str, permission: &str, expected: bool| {
            assert_eq!(has(role, permission), expected, "{role} {permission}");
        };
        check("roles/pubsub.publisher", "pubsub.topics.publish", true);
        check("roles/pubsub.publisher", "pubsub.topics.get", false);
        check("roles/storage.admin", "storage.buckets.create", true);
        check("roles/owner", "iam.serviceAccounts.getAccessToken", false);
        check("roles/editor", "storage.objects.get", false);
        check("roles/viewer", "pubsub.topics.list", true);
        assert!(exists("roles/owner") && exists("roles/logging.logWriter") && !exists("roles/nonsense"));
    }
}

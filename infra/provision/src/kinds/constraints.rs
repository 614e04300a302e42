//! Constraints of an organisation that a creation may break, and the setting that avoids each. The table of calls says
//! which methods they refuse.

use serde_json::Value;

use super::{crypto_key, services};
use crate::environment::{ClusterMode, Endpoint, Environment};

/// One constraint.
pub(crate) struct Constraint {
    /// Name without `constraints/`.
    pub(crate) name: &'static str,
    /// Whether the settings of an environment could break it.
    pub(crate) matters: fn(&Environment) -> bool,
    /// What of the environment the policy in effect forbids; nothing when all is allowed.
    pub(crate) forbids: fn(&Environment, &Value) -> Option<String>,
    /// The setting that avoids it.
    pub(crate) fix: &'static str,
}

const KEYS: &str = "set auth = \"workload-identity\" in the environment file: no key exists then";
const ACCOUNTS: &str = "set iam = \"verify\" under [manage] in the environment file, and have the accounts made that \
                        `cargo xtask plan` then names";

/// Constraints that we could break. Names:
/// cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints, and of the managed ones
/// cloud.google.com/kubernetes-engine/docs/how-to/hardening-your-cluster.
pub(crate) const CONSTRAINTS: [Constraint; 10] = [
    enforced("iam.disableServiceAccountKeyCreation", always, KEYS),
    enforced("iam.managed.disableServiceAccountKeyCreation", always, KEYS),
    enforced("iam.disableServiceAccountCreation", always, ACCOUNTS),
    enforced("iam.managed.disableServiceAccountCreation", always, ACCOUNTS),
    enforced(
        "container.managed.enableControlPlaneDNSOnlyAccess",
        |environment| environment.network.endpoint != Endpoint::Dns,
        "set endpoint = \"dns\" under [network] in the environment file, or cluster = \"verify\" under [manage]",
    ),
    enforced("container.managed.enablePrivateNodes", has_public_nodes, PRIVATE),
    Constraint {
        name: "compute.vmExternalIpAccess",
        matters: has_public_nodes,
        forbids: |_, policy| {
            let listed = rules(policy).any(|rule| rule["values"].is_object() || rule["denyAll"] == true);
            listed.then(|| "machines may have no public address, and the nodes would have one".to_owned())
        },
        fix: PRIVATE,
    },
    Constraint {
        name: "gcp.resourceLocations",
        matters: always,
        forbids: |environment, policy| {
            let desired = [Some(environment.location.as_str()), environment.zone.as_deref()];
            let denied = |place: &&str| !allows(policy, |value| is_in(value, place));
            desired.into_iter().flatten().find(denied).map(|place| format!("nothing may be made in {place}"))
        },
        fix: "set `location` (and `zone`) in the environment file to one that is allowed: gcloud org-policies describe \
              gcp.resourceLocations --effective --project PROJECT",
    },
    Constraint {
        name: "gcp.restrictNonCmekServices",
        matters: always,
        forbids: |environment, policy| {
            let open = crypto_key::CLASSES.iter().filter(|class| {
                class.is_ours(environment)
                    && !environment.security.kms_keys.contains_key(class.name)
                    && !allows(policy, |value| value == format!("{}.googleapis.com", class.service))
            });
            let open: Vec<&str> = open.map(|class| class.name).collect();
            (!open.is_empty()).then(|| format!("these have to have a key of yours: {}", open.join(", ")))
        },
        fix: "name a key for each under [security.kms_keys] in the environment file",
    },
    Constraint {
        name: "gcp.restrictServiceUsage",
        matters: always,
        forbids: |environment, policy| {
            let services = services::needed(environment).into_iter().map(|name| format!("{name}.googleapis.com"));
            let denied: Vec<String> = services.filter(|name| !allows(policy, |value| value == name)).collect();
            (!denied.is_empty()).then(|| format!("these services may not be used: {}", denied.join(", ")))
        },
        fix: "have them allowed for the project; or leave out what needs them under [manage] and [build] in the \
              environment file",
    },
];

const PRIVATE: &str =
    "set private_nodes = true under [network] in the environment file, or cluster = \"verify\" under [manage]";

const fn enforced(name: &'static str, matters: fn(&Environment) -> bool, fix: &'static str) -> Constraint {
    Constraint {
        name,
        matters,
        forbids: |_, policy| is_enforced(policy).then(|| "the organisation enforces it".to_owned()),
        fix,
    }
}

fn always(_: &Environment) -> bool {
    true
}

fn has_public_nodes(environment: &Environment) -> bool {
    // Of an Autopilot cluster too.
    let modes = [ClusterMode::Standard, ClusterMode::Autopilot];
    !environment.network.private_nodes && modes.contains(&environment.cluster.mode)
}

fn rules(policy: &Value) -> impl Iterator<Item = &Value> {
    policy["spec"]["rules"].as_array().into_iter().flatten()
}

fn is_enforced(policy: &Value) -> bool {
    rules(policy).any(|rule| rule["enforce"] == true)
}

/// Whether a list constraint lets something through that `is` recognises among its values. What is denied anywhere is
/// denied; where something is allowed by name, only that is.
fn allows(policy: &Value, is: impl Fn(&str) -> bool) -> bool {
    let named = |key: &str| -> Vec<&str> {
        let values = rules(policy).filter_map(|rule| rule["values"][key].as_array()).flatten();
        values.filter_map(Value::as_str).map(|value| value.strip_prefix("is:").unwrap_or(value)).collect()
    };
    let (allowed, denied) = (named("allowedValues"), named("deniedValues"));
    if rules(policy).any(|rule| rule["denyAll"] == true) || denied.iter().any(|value| is(value)) {
        return false;
    }
    allowed.is_empty() || allowed.iter().any(|value| is(value))
}

/// Whether a place is, or is in, what a policy names: itself, or one of Google's groups (`in:europe-west1-locations`,
/// `in:eu-locations`, `in:us-locations`). A group that we cannot know to be without the place is taken to have it.
fn is_in(value: &str, place: &str) -> bool {
    let Some(group) = value.strip_prefix("in:").and_then(|group| group.strip_suffix("-locations")) else {
        return value.eq_ignore_ascii_case(place);
    };
    let continents = ["africa", "asia", "australia", "europe", "me", "northamerica", "southamerica", "us"];
    let continent = |text: &str| continents.iter().find(|name| text.split('-').next() == Some(**name)).copied();
    match (group, continent(group), continent(place)) {
        // A region, or one of its zones.
        (region, _, _) if place == region || place.starts_with(&format!("{region}-")) => true,
        // The Union is not all of Europe, and nothing else.
        ("eu", _, of_place) => of_place == Some("europe"),
        // Another region, or another continent.
        (_, Some(_), _) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::calls;

    #[test]
    fn the_constraints_are_those_that_the_table_of_calls_names() {
        let named: BTreeSet<&str> = calls::all().flat_map(|(_, call)| &call.constraints).map(String::as_str).collect();
        assert_eq!(CONSTRAINTS.iter().map(|constraint| constraint.name).collect::<BTreeSet<_>>(), named);
    }

    #[test]
    fn only_an_enforced_rule_is_enforced() {
        assert!(is_enforced(&json!({"spec": {"rules": [{"enforce": true}]}})));
        assert!(!is_enforced(&json!({"spec": {"rules": [{"enforce": false}]}})));
        assert!(!is_enforced(&json!({})));
    }

    #[test]
    fn places_are_found_in_groups() {
        for (value, place, found) in [
            ("europe-west1", "europe-west1", true),
            ("europe-west1", "europe-west1-b", false),
            ("in:europe-west1-locations", "europe-west1-b", true),
            ("in:europe-west1-locations", "europe-west10", false),
            ("in:eu-locations", "europe-west4", true),
            ("in:eu-locations", "us-east1", false),
            ("in:us-locations", "us-east1", true),
            ("in:us-locations", "europe-west4", false),
            ("in:europe-locations", "europe-west4", true),
            ("EU", "eu", true),
        ] {
            assert_eq!(is_in(value, place), found, "{place} in {value}");
        }
    }

    #[test]
    fn a_list_lets_through_what_it_names_and_denies_before_it_allows() {
        let policy = |rules: Value| json!({"spec": {"rules": rules}});
        let allows = |rules: Value| allows(&policy(rules), |value| value == "a");
        assert!(allows(json!([])));
        assert!(allows(json!([{"allowAll": true}])));
        assert!(allows(json!([{"values": {"allowedValues": ["is:a"]}}])));
        assert!(!allows(json!([{"values": {"allowedValues": ["b"]}}])));
        assert!(!allows(json!([{"values": {"deniedValues": ["a"], "allowedValues": ["a"]}}])));
        assert!(!allows(json!([{"denyAll": true}])));
    }
}

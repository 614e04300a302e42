//! Tests of what should exist: the table of who may do what, and what depends on what.

use std::collections::BTreeMap;

use super::*;
use crate::environment::tests::environment;

const TWO: &str =
    "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\npriority = true\n[businesses.bu2]\n";

/// What the roles that we grant hold, as far as our services use it.
fn permissions(role: &str) -> &'static [&'static str] {
    match role.rsplit('/').next().unwrap() {
        "storage.objectCreator" => &["create"],
        "storage.objectViewer" => &["get", "list"],
        "storage.objectUser" => &["create", "delete", "get", "list", "update"],
        "deskgridObjectLister" => &["list"],
        "pubsub.publisher" => &["publish"],
        "pubsub.subscriber" => &["consume"],
        "pubsub.viewer" => &["view"],
        "iam.workloadIdentityUser" => &["act-as"],
        other => panic!("a role that the table does not know: {other}"),
    }
}

/// Conditions of ours are alternatives of "the name starts with".
fn holds(condition: Option<&Condition>, resource: &str) -> bool {
    condition.is_none_or(|condition| {
        condition.expression.split(" || ").any(|part| {
            let prefix = part.strip_prefix("resource.name.startsWith(\"").and_then(|part| part.strip_suffix("\")"));
            resource.starts_with(prefix.expect("a condition of the usual form"))
        })
    })
}

/// What `identity` may do with `object` of the bucket (or with the bucket itself, for listing).
fn on_object(resources: &[Resource], identity: &str, object: &str) -> Vec<&'static str> {
    let member = format!("serviceAccount:{identity}@desk-one.iam.gserviceaccount.com");
    let mut allowed = BTreeSet::new();
    for resource in resources.iter().filter(|resource| resource.id.kind == Kind::BucketPolicy) {
        let Wanted::Grants(grants) = &resource.wanted else { panic!("a policy holds grants") };
        for grant in grants.iter().filter(|grant| grant.member == member) {
            for permission in permissions(&grant.role) {
                let bucket = format!("projects/_/buckets/{}", resource.id.name);
                let on = if *permission == "list" { bucket } else { format!("{bucket}/objects/{object}") };
                if holds(grant.condition.as_ref(), &on) {
                    allowed.insert(*permission);
                }
            }
        }
    }
    allowed.into_iter().collect()
}

#[test]
fn the_table_of_who_may_do_what_with_objects() {
    let resources = desired(&environment(TWO));
    let table: [(&str, &str, &[&str]); 17] = [
        ("bu1-client", "bu1/input/s/j", &["create", "list"]),
        ("bu1-client", "bu1/common/s/n", &["create", "list"]),
        ("bu1-client", "bu1/output/s/j/1-0", &["get", "list"]),
        ("bu1-client", "bu1/outcome/s/j/1-0.json", &["get", "list"]),
        ("bu1-client", "bu1/control/s.json", &["list"]),
        ("bu1-client", "bu2/output/s/j/1-0", &["list"]),
        ("bu1-client", "bu2/input/s/j", &["list"]),
        ("bu1-orchestrator", "bu1/input/s/j", &["create", "delete", "get", "list", "update"]),
        ("bu1-orchestrator", "bu1/outcome/s/j/1-0.json", &["create", "delete", "get", "list", "update"]),
        ("bu1-orchestrator", "bu2/input/s/j", &["list"]),
        ("bu1-orchestrator", "bu10/input/s/j", &["list"]),
        ("bu1-engine", "bu1/input/s/j", &["get"]),
        ("bu1-engine", "bu1/common/s/n", &["get"]),
        ("bu1-engine", "bu1/output/s/j/1-0", &["create", "get"]),
        ("bu1-engine", "bu1/outcome/s/j/1-0.json", &[]),
        ("bu1-engine", "bu2/input/s/j", &[]),
        ("bu2-engine", "bu1/input/s/j", &[]),
    ];
    for (identity, object, allowed) in table {
        assert_eq!(on_object(&resources, identity, object), allowed, "{identity} on {object}");
    }
}

#[test]
fn the_table_of_who_may_do_what_elsewhere() {
    let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for resource in desired(&environment(TWO)) {
        let Wanted::Grants(grants) = resource.wanted else { continue };
        if resource.id.kind == Kind::BucketPolicy {
            continue;
        }
        for grant in grants {
            assert_eq!(grant.condition, None);
            let may: Vec<&str> = permissions(&grant.role).to_vec();
            let member = grant.member.trim_start_matches("serviceAccount:").split('@').next().unwrap();
            let short = resource.id.short().replace("desk-one-", "");
            table.entry(member.to_owned()).or_default().push(format!("{} {short}", may.join(" ")));
        }
    }
    let rows = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
    assert_eq!(table["bu1-client"], rows(&["publish bu1-topic"]));
    assert_eq!(
        table["bu1-orchestrator"],
        rows(&[
            "publish bu1-events-topic",
            "publish bu1-topic",
            "consume bu1-priority-subscription",
            "view bu1-priority-subscription",
            "consume bu1-subscription",
            "view bu1-subscription",
        ])
    );
    assert!(!table.contains_key("bu1-engine"));
    assert_eq!(
        table["desk-one.svc.id.goog[bu1/orchestrator]"],
        rows(&["act-as bu1-orchestrator@one.iam.gserviceaccount.com".replace("@one", "@desk-one").as_str()])
    );
}

#[test]
fn with_keys_nobody_acts_as_an_account() {
    let keys = TWO.replace("[businesses.bu1]", "auth = \"key\"\n[businesses.bu1]");
    assert!(desired(&environment(&keys)).iter().all(|resource| resource.id.kind != Kind::ServiceAccountPolicy));
}

#[test]
fn everything_comes_after_what_it_needs_and_nothing_else() {
    let resources = desired(&environment(TWO));
    let after = |id: &str| -> Vec<String> {
        let found = resources.iter().find(|resource| resource.id.to_string() == id).unwrap();
        found.after.iter().map(ToString::to_string).collect()
    };
    assert_eq!(after("subscription desk-one-bu1-subscription"), ["topic desk-one-bu1-topic"]);
    assert_eq!(
        after("permissions on topic desk-one-bu2-topic"),
        [
            "topic desk-one-bu2-topic",
            "service account bu2-client@desk-one.iam.gserviceaccount.com",
            "service account bu2-orchestrator@desk-one.iam.gserviceaccount.com"
        ]
    );
    assert_eq!(after("permissions on bucket desk-one-bucket").len(), 8);
    let ids: BTreeSet<&Id> = resources.iter().map(|resource| &resource.id).collect();
    assert_eq!(ids.len(), resources.len(), "nothing is wanted twice");
    assert!(resources.iter().flat_map(|resource| &resource.after).all(|id| ids.contains(id)));
}

#[test]
fn another_business_changes_nothing_of_the_first() {
    let one = desired(&environment(&TWO.replace("[businesses.bu2]\n", "")));
    let two = desired(&environment(TWO));
    let of_bu1 = |resources: &[Resource]| -> Vec<Resource> {
        resources.iter().filter(|resource| resource.business.as_deref() == Some("bu1")).cloned().collect()
    };
    assert_eq!(of_bu1(&one), of_bu1(&two));
    let shared = two.iter().filter(|resource| resource.business.is_none()).map(|resource| resource.id.to_string());
    assert_eq!(
        shared.collect::<Vec<_>>(),
        ["role deskgridObjectLister", "bucket desk-one-bucket", "permissions on bucket desk-one-bucket"]
    );
}

#[test]
fn old_objects_go_by_age_with_one_rule_for_each() {
    let environment = environment(TWO);
    let rules = lifecycle(&environment.businesses.iter().collect::<Vec<_>>());
    assert_eq!(
        json!(rules),
        json!([
            {"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix":
                ["bu1/output/", "bu1/common/", "bu2/output/", "bu2/common/"]}},
            {"action": {"type": "Delete"}, "condition": {"age": 90, "matchesPrefix": ["bu1/outcome/", "bu2/outcome/"]}},
            {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}},
        ])
    );
}

#[test]
fn what_others_manage_is_left_out_or_only_looked_at() {
    let managed =
        |line: &str| desired(&environment(&TWO.replace("[businesses.bu1]", &format!("{line}\n[businesses.bu1]"))));
    assert!(managed("manage.iam = \"off\"").iter().all(|resource| !resource.id.is_policy()));
    assert!(managed("manage.pubsub = \"off\"").iter().all(|resource| resource.id.kind != Kind::Topic));
    let verified = managed("manage.bucket = \"verify\"");
    let bucket = verified.iter().find(|resource| resource.id.kind == Kind::Bucket).unwrap();
    assert_eq!(bucket.managed, Managed::Verify);
    let Wanted::Fields(fields) = &bucket.wanted else { panic!("a bucket has fields") };
    assert!(fields.get("labels").is_none());
    let foreign =
        TWO.replace("[businesses.bu2]\n", "[businesses.bu2.accounts]\nengine = \"e@other.iam.gserviceaccount.com\"\n");
    let accounts = desired(&environment(&foreign));
    assert!(
        accounts
            .iter()
            .filter(|resource| resource.id.kind == Kind::ServiceAccount)
            .all(|resource| !resource.id.name.contains("other"))
    );
}

//! Tests of what should exist: the table of who may do what, and what depends on what.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{environment::tests::environment, kinds::bucket};

const TWO: &str =
    "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\npriority = true\n[businesses.bu2]\n";

/// What the roles that we grant hold, as far as our services use it.
fn permissions(role: &str) -> &'static [&'static str] {
    match role.rsplit('/').next().unwrap() {
        "storage.objectCreator" => &["create"],
        "storage.objectViewer" => &["get", "list"],
        "storage.objectUser" => &["create", "delete", "get", "list", "update"],
        "deskgridObjectLister" | "storage.legacyBucketReader" => &["list"],
        "deskgridObjectMarker" => &["update"],
        "pubsub.publisher" => &["publish"],
        "pubsub.subscriber" => &["consume"],
        "pubsub.viewer" => &["view"],
        "iam.workloadIdentityUser" => &["act-as"],
        "artifactregistry.reader" => &["pull"],
        "artifactregistry.writer" => &["pull", "push"],
        "container.defaultNodeServiceAccount" => &["write-logs-and-metrics"],
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
        let Desired::Grants(grants) = &resource.desired else { panic!("a policy holds grants") };
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
    let table: &[(&str, &str, &[&str])] = &[
        ("e-bu1-client", "bu1/input/s/j", &["create", "list"]),
        ("e-bu1-client", "bu1/common/s/n", &["create", "list"]),
        ("e-bu1-client", "bu1/output/s/j/1-0", &["get", "list"]),
        ("e-bu1-client", "bu1/outcome/s/j/1-0.json", &["get", "list"]),
        ("e-bu1-client", "bu1/control/s.json", &["list"]),
        ("e-bu1-client", "bu2/output/s/j/1-0", &["list"]),
        ("e-bu1-client", "bu2/input/s/j", &["list"]),
        ("e-bu1-orchestrator", "bu1/input/s/j", &["create", "delete", "get", "list", "update"]),
        ("e-bu1-orchestrator", "bu1/outcome/s/j/1-0.json", &["create", "delete", "get", "list", "update"]),
        ("e-bu1-orchestrator", "bu2/input/s/j", &["list"]),
        ("e-bu1-orchestrator", "bu10/input/s/j", &["list"]),
        ("e-bu1-engine", "bu1/input/s/j", &["get"]),
        ("e-bu1-engine", "bu1/common/s/n", &["get"]),
        ("e-bu1-engine", "bu1/output/s/j/1-0", &["create", "get"]),
        ("e-bu1-engine", "bu1/outcome/s/j/1-0.json", &[]),
        ("e-bu1-engine", "bu2/input/s/j", &[]),
        ("e-bu2-engine", "bu1/input/s/j", &[]),
        ("e-web-client", "bu1/input/s/j", &["create", "list", "update"]),
        ("e-web-client", "bu2/output/s/j/1-0", &["get", "list"]),
        ("e-web-client", "bu1/control/s.json", &["create", "delete", "get", "list", "update"]),
        ("e-web-monitor", "bu1/input/s/j", &["create", "delete", "get", "list", "update"]),
        ("e-web-monitor", "bu1/control/s.json", &["create", "delete", "get", "list", "update"]),
        ("e-web-client", "bu1/outcome/s/j/1-0.json", &["get", "list"]),
        ("e-web-monitor", "bu1/common/s/n", &["create", "delete", "get", "list", "update"]),
        ("e-web-monitor", "bu2/outcome/s/j/1-0.json", &["get", "list", "update"]),
        ("e-web-monitor", "bu2/output/s/j/1-0", &["get", "list"]),
        ("e-web-monitor", "bu2/parked/s/j/1-0.json", &["get", "list"]),
        ("e-web-monitor", "bu3/output/s/j/1-0", &["list"]),
        ("e-web-monitor", "deskgrid/build/source/a.tar.gz", &["list"]),
        ("e-builder", "deskgrid/build/source/a.tar.gz", &["get", "list"]),
        ("e-builder", "deskgrid/build/log/log-1.txt", &["create", "delete", "get", "list", "update"]),
        ("e-builder", "bu1/input/s/j", &["list"]),
        ("e-nodes", "bu1/input/s/j", &[]),
    ];
    for (identity, object, allowed) in table {
        // Who holds a role that lists under a condition on objects cannot list: that is asked of the bucket.
        assert_eq!(on_object(&resources, identity, object), *allowed, "{identity} on {object}");
    }
    let one = desired(&environment(&format!("{TWO}[web]\nbusinesses = [\"bu1\"]\n")));
    assert_eq!(on_object(&one, "e-web-monitor", "bu2/outcome/s/j/1-0.json"), ["list"]);
    let without = desired(&environment(&format!("{TWO}[web]\nenabled = false\n")));
    assert!(without.iter().all(|resource| !resource.id.name.ends_with("deskgridObjectMarker")), "nobody needs it");
}

#[test]
fn the_table_of_who_may_do_what_elsewhere() {
    let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for resource in desired(&environment(TWO)) {
        let Desired::Grants(grants) = resource.desired else { continue };
        if resource.id.kind == Kind::BucketPolicy {
            continue;
        }
        for grant in grants {
            assert_eq!(grant.condition, None);
            let may: Vec<&str> = permissions(&grant.role).to_vec();
            let member = grant.member.trim_start_matches("serviceAccount:").split('@').next().unwrap();
            let member = member.trim_end_matches("-8599b5");
            let short = resource.id.short().replace("desk-one-", "");
            table.entry(member.to_owned()).or_default().push(format!("{} {short}", may.join(" ")));
        }
    }
    let rows = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
    assert_eq!(table["e-bu1-client"], rows(&["publish bu1-topic", "view bu1-topic"]));
    assert_eq!(
        table["e-bu1-orchestrator"],
        rows(&[
            "publish bu1-events-topic",
            "publish bu1-topic",
            "consume bu1-priority-subscription",
            "view bu1-priority-subscription",
            "consume bu1-subscription",
            "view bu1-subscription",
        ])
    );
    assert!(!table.contains_key("e-bu1-engine"));
    assert_eq!(
        table["e-web-client"],
        rows(&["publish bu1-topic", "view bu1-topic", "publish bu2-topic", "view bu2-topic",])
    );
    assert_eq!(
        table["e-web-monitor"],
        rows(&[
            "view bu1-events-topic",
            "publish bu1-topic",
            "view bu1-topic",
            "view bu2-events-topic",
            "publish bu2-topic",
            "view bu2-topic",
            "view bu1-priority-subscription",
            "view bu1-subscription",
            "view bu2-subscription",
        ])
    );
    assert_eq!(table["e-builder"], rows(&["pull push images"]));
    assert_eq!(table["e-nodes"], rows(&["pull images", "write-logs-and-metrics desk-one"]));
    assert_eq!(
        table["desk-one.svc.id.goog[bu1/orchestrator]"],
        rows(&["act-as e-bu1-orchestrator@one.iam.gserviceaccount.com".replace("@one", "@desk-one").as_str()])
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
        assert_eq!(found.after[0].kind, Kind::Services, "nothing comes before the services");
        found.after[1..].iter().map(ToString::to_string).collect()
    };
    assert_eq!(after("cluster desk-one-cluster"), ["service account e-nodes@desk-one.iam.gserviceaccount.com"]);
    assert_eq!(after("node pool engines"), ["cluster desk-one-cluster"]);
    assert_eq!(
        after("permissions on service account e-bu1-engine@desk-one.iam.gserviceaccount.com"),
        ["cluster desk-one-cluster", "service account e-bu1-engine@desk-one.iam.gserviceaccount.com"]
    );
    assert_eq!(after("subscription desk-one-bu1-subscription"), ["topic desk-one-bu1-topic"]);
    assert_eq!(
        after("permissions on topic desk-one-bu2-topic"),
        [
            "service account e-web-client@desk-one.iam.gserviceaccount.com",
            "service account e-web-monitor@desk-one.iam.gserviceaccount.com",
            "topic desk-one-bu2-topic",
            "service account e-bu2-client@desk-one.iam.gserviceaccount.com",
            "service account e-bu2-orchestrator@desk-one.iam.gserviceaccount.com"
        ]
    );
    assert_eq!(after("permissions on bucket desk-one-bucket").len(), 12);
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
        [
            "services of the project",
            "service account e-nodes@desk-one.iam.gserviceaccount.com",
            "service account e-builder@desk-one.iam.gserviceaccount.com",
            "service account e-web-client@desk-one.iam.gserviceaccount.com",
            "service account e-web-monitor@desk-one.iam.gserviceaccount.com",
            "cluster desk-one-cluster",
            "node pool system",
            "node pool engines",
            "registry desk-one-images",
            "role deskgridObjectLister",
            "role deskgridObjectMarker",
            "bucket desk-one-bucket",
            "permissions on registry desk-one-images",
            "permissions on bucket desk-one-bucket",
            "permissions on service account e-web-client@desk-one.iam.gserviceaccount.com",
            "permissions on service account e-web-monitor@desk-one.iam.gserviceaccount.com",
            "permissions on project desk-one",
        ]
    );
}

#[test]
fn alerts_watch_the_subscriptions_and_the_failures_of_each_business() {
    assert!(
        desired(&environment(TWO)).iter().all(|resource| !matches!(resource.id.kind, Kind::Alert | Kind::Dashboard))
    );
    let alerts = "[alerts]\noldest_message = \"5m\"\nfailures_per_hour = 3\n";
    let resources = desired(&environment(&TWO.replace("[businesses.bu1]", &format!("{alerts}[businesses.bu1]"))));
    let of = |kind: Kind| resources.iter().filter(move |resource| resource.id.kind == kind);
    let fields = |resource: &Resource| match &resource.desired {
        Desired::Fields(fields) => fields.clone(),
        Desired::Grants(_) => Value::Null,
    };
    let policies: Vec<(String, Value)> = of(Kind::Alert).map(|one| (one.id.to_string(), fields(one))).collect();
    assert_eq!(policies.len(), 4);
    assert_eq!(policies[0].0, "alert e-bu1-oldest-message");
    assert_eq!(policies[0].1["displayName"], "Deskgrid e, bu1: the oldest message waits longer than 300 s");
    let threshold = &policies[0].1["conditions"][0]["conditionThreshold"];
    assert_eq!(threshold["thresholdValue"], 300);
    assert_eq!(
        threshold["filter"],
        "resource.type=\"pubsub_subscription\" AND \
         metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND \
         resource.labels.subscription_id=one_of(\"desk-one-bu1-subscription\",\"desk-one-bu1-priority-subscription\")"
    );
    assert_eq!(policies[3].0, "alert e-bu2-failures");
    assert_eq!(
        policies[3].1["conditions"][0]["conditionPrometheusQueryLanguage"]["query"],
        "sum by (namespace) (increase(orchestrator_jobs_settled_total{cluster=\"desk-one-cluster\",namespace=\"bu2\",\
         state=\"failed\"}[1h])) > 3"
    );
    // One write after another.
    let after: Vec<bool> = of(Kind::Alert).map(|one| one.after.iter().any(|id| id.kind == Kind::Alert)).collect();
    assert_eq!(after, [false, true, true, true]);
    let dashboard = fields(of(Kind::Dashboard).next().unwrap()).to_string();
    assert!(dashboard.contains(r#"namespace=~\"bu1|bu2\""#), "{dashboard}");
}

#[test]
fn an_upload_is_told_of_only_where_it_is_asked_for() {
    let text = TWO.replace("[businesses.bu2]", "[businesses.bu2]\nsubmit_on_upload = true");
    let resources = desired(&environment(&text));
    let notifications: Vec<&Resource> =
        resources.iter().filter(|resource| resource.id.kind == Kind::Notification).collect();
    assert_eq!(notifications.len(), 1);
    let Desired::Fields(fields) = &notifications[0].desired else { panic!("a notification has fields") };
    assert_eq!(fields["object_name_prefix"], "bu2/input/");
    let of_agent: Vec<String> = resources
        .iter()
        .filter(|resource| match &resource.desired {
            Desired::Grants(grants) => {
                grants.iter().any(|grant| grant.member == agent("gs-project-accounts", PROJECT_NUMBER))
            }
            Desired::Fields(_) => false,
        })
        .map(|resource| resource.id.to_string())
        .collect();
    assert_eq!(of_agent, ["permissions on topic desk-one-bu2-topic"]);
    let after: Vec<String> = notifications[0].after.iter().map(ToString::to_string).collect();
    assert!(after.contains(&of_agent[0]), "its agent may publish first: {after:?}");
}

/// The fields of the one resource of a kind, in an environment of these lines before the businesses.
fn fields(lines: &str, kind: Kind) -> Value {
    let text = TWO.replace("[businesses.bu1]", &format!("{lines}\n[businesses.bu1]"));
    let found = desired(&environment(&text)).into_iter().find(|resource| resource.id.kind == kind);
    match found.map(|resource| resource.desired) {
        Some(Desired::Fields(fields)) => fields,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_is_what_network_and_security_say() {
    let plain = fields("", Kind::Cluster);
    assert_eq!(plain["workloadIdentityConfig"]["workloadPool"], "desk-one.svc.id.goog");
    assert_eq!(plain["networkConfig"]["datapathProvider"], "ADVANCED_DATAPATH");
    assert_eq!(
        plain["controlPlaneEndpointsConfig"],
        json!({"dnsEndpointConfig": {"allowExternalTraffic": true}, "ipEndpointsConfig": {"enabled": false}})
    );
    assert_eq!((plain.get("subnetwork"), plain.get("autopilot"), plain.get("databaseEncryption")), (None, None, None));
    let key = "projects/desk-one/locations/europe-west1/keyRings/r/cryptoKeys/k";
    let lines = format!(
        "[network]\nnetwork = \"hpc\"\nsubnetwork = \"nodes\"\nprivate_nodes = true\nendpoint = \"private\"\n\
         [security]\nkms_keys = {{ cluster = \"{key}\", disks = \"{key}\", registry = \"{key}\" }}"
    );
    let nodes = fields(&lines, Kind::NodePool);
    assert_eq!(nodes["config"]["bootDiskKmsKey"], key);
    assert_eq!(fields("", Kind::NodePool)["config"].get("bootDiskKmsKey"), None);
    let autopilot = format!("cluster.mode = \"autopilot\"\n{lines}");
    let defaults = &fields(&autopilot, Kind::Cluster)["autoscaling"]["autoprovisioningNodePoolDefaults"];
    assert_eq!(defaults["bootDiskKmsKey"], key);
    let closed = fields(&lines, Kind::Cluster);
    assert_eq!((&closed["network"], &closed["subnetwork"]), (&json!("hpc"), &json!("nodes")));
    assert_eq!(closed["networkConfig"]["defaultEnablePrivateNodes"], true);
    assert_eq!(
        closed["controlPlaneEndpointsConfig"]["ipEndpointsConfig"],
        json!({"enabled": true, "enablePublicEndpoint": false})
    );
    assert_eq!(closed["databaseEncryption"], json!({"state": "ENCRYPTED", "keyName": key}));
    assert_eq!(fields(&lines, Kind::Registry)["kmsKeyName"], key);
    let node = "security.node_account = \"n@other-project.iam.gserviceaccount.com\"";
    assert_eq!(fields(node, Kind::NodePool)["config"]["serviceAccount"], "n@other-project.iam.gserviceaccount.com");
}

#[test]
fn google_looks_after_the_nodes_of_autopilot() {
    let lines = "cluster.mode = \"autopilot\"";
    let cluster = fields(lines, Kind::Cluster);
    assert_eq!(cluster["autopilot"], json!({"enabled": true}));
    let defaults = &cluster["autoscaling"]["autoprovisioningNodePoolDefaults"];
    assert_eq!(defaults["serviceAccount"], "e-nodes@desk-one.iam.gserviceaccount.com");
    let text = TWO.replace("[businesses.bu1]", &format!("{lines}\n[businesses.bu1]"));
    assert!(desired(&environment(&text)).iter().all(|resource| resource.id.kind != Kind::NodePool));
}

#[test]
fn old_objects_go_by_age_with_one_rule_for_each() {
    let environment = environment(TWO);
    let businesses: Vec<&Business> = environment.businesses.iter().collect();
    let rules = bucket::lifecycle(&businesses, true);
    assert_eq!(
        json!(rules),
        json!([
            {"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix":
                ["deskgrid/build/source/", "deskgrid/build/log/", "bu1/output/", "bu1/common/", "bu2/output/", "bu2/common/"]}},
            {"action": {"type": "Delete"}, "condition": {"age": 90, "matchesPrefix": ["bu1/outcome/", "bu2/outcome/"]}},
            {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}},
        ])
    );
    // A bucket of a business's own has no builds.
    assert!(!json!(bucket::lifecycle(&businesses, false)).to_string().contains("deskgrid/build/"));
}

#[test]
fn what_others_manage_is_left_out_or_only_looked_at() {
    let managed =
        |line: &str| desired(&environment(&TWO.replace("[businesses.bu1]", &format!("{line}\n[businesses.bu1]"))));
    assert!(managed("manage.iam = \"off\"").iter().all(|resource| !resource.id.is_policy()));
    assert!(managed("manage.pubsub = \"off\"").iter().all(|resource| resource.id.kind != Kind::Topic));
    let without = |line: &str, kind: Kind| {
        let resources = managed(line);
        let ids: BTreeSet<&Id> = resources.iter().map(|resource| &resource.id).collect();
        assert!(resources.iter().flat_map(|resource| &resource.after).all(|id| ids.contains(id)), "{line}");
        assert!(resources.iter().all(|resource| resource.id.target().kind != kind), "{line}");
    };
    without("manage.apis = \"off\"", Kind::Services);
    without("manage.cluster = \"off\"", Kind::Cluster);
    without("manage.cluster = \"off\"", Kind::NodePool);
    without("manage.cluster = \"verify\"", Kind::NodePool);
    without("manage.registry = \"off\"", Kind::Registry);
    let cluster = fields("manage.cluster = \"verify\"", Kind::Cluster);
    assert_eq!(cluster, json!({"workloadIdentityConfig": {"workloadPool": "desk-one.svc.id.goog"}}));
    assert_eq!(fields("manage.registry = \"verify\"", Kind::Registry), json!({"format": "DOCKER"}));
    let verified = managed("manage.bucket = \"verify\"");
    let bucket = verified.iter().find(|resource| resource.id.kind == Kind::Bucket).unwrap();
    assert_eq!(bucket.managed, Managed::Verify);
    let Desired::Fields(fields) = &bucket.desired else { panic!("a bucket has fields") };
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

//! Tests of the plan, without any cloud.

use serde_json::json;

use super::*;
use crate::{desired::desired, environment::tests::environment, show};

const ONE: &str = "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n";

/// A cloud that is just as `desired` says.
fn perfect(environment: &Environment) -> Observation {
    let mut observed = Observation::default();
    for resource in desired(environment) {
        let live = match &resource.desired {
            Desired::Fields(fields) => fields.clone(),
            Desired::Grants(grants) => {
                let edit = policy::Edit { add: grants.iter().cloned().collect(), remove: vec![] };
                policy::apply(&Value::Null, &edit)
            }
        };
        observed.live.insert(resource.id, Live::Present(live));
    }
    observed
}

/// The plan for `text` when one live resource was changed by `change`, as text.
fn check(text: &str, id: &str, change: impl FnOnce(&mut Live), expected: &str) {
    let environment = environment(text);
    let mut observed = perfect(&environment);
    let (_, live) = observed.live.iter_mut().find(|(found, _)| found.to_string() == id).unwrap();
    change(live);
    let plan = plan(&environment, &desired(&environment), &observed, Options::default());
    let text = show::render(&plan);
    assert_eq!(text.rsplit_once('\n').unwrap().0, expected);
}

fn set(field: &'static str, value: Value) -> impl FnOnce(&mut Live) {
    move |live| match live {
        Live::Present(live) => *live.pointer_mut(field).unwrap() = value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_perfect_cloud_needs_nothing() {
    let environment = environment(ONE);
    let plan = plan(&environment, &desired(&environment), &perfect(&environment), Options::default());
    assert!(plan.is_empty());
    assert_eq!(show::render(&plan), "e in project desk-one: nothing to do, 28 as they should be");
}

#[test]
fn an_emulator_without_permissions_needs_none() {
    let environment = environment(ONE);
    let mut observed = perfect(&environment);
    for (id, live) in &mut observed.live {
        if matches!(id.kind, Kind::TopicPolicy | Kind::SubscriptionPolicy) {
            *live = Live::Unsupported;
        }
    }
    assert!(plan(&environment, &desired(&environment), &observed, Options::default()).is_empty());
}

#[test]
fn an_empty_cloud_needs_everything_and_the_plan_is_json_too() {
    let environment = environment(ONE);
    let plan = plan(&environment, &desired(&environment), &Observation::default(), Options::default());
    assert_eq!(plan.pending().count(), plan.changes.len());
    let json = serde_json::to_value(&plan).unwrap();
    let bucket = json["changes"].as_array().unwrap().iter().find(|change| change["kind"] == "bucket").unwrap();
    assert_eq!(bucket["action"], "create");
    assert_eq!(bucket["differences"][0]["field"], "iamConfiguration.publicAccessPrevention");
    let text = show::render(&plan);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "~ change services of the project");
    assert!(lines.contains(&"+ create cluster desk-one-cluster"), "{text}");
    assert!(lines.contains(&"+ grant permissions on bucket desk-one-bucket: 19"), "{text}");
    let first = lines.iter().position(|line| line.ends_with("(bu1)")).unwrap();
    assert!(lines[first..lines.len() - 1].iter().all(|line| line.contains("(bu1)")), "grouped: {text}");
}

#[test]
fn every_kind_of_difference_has_its_line() {
    check(
        ONE,
        "bucket desk-one-bucket",
        set("/iamConfiguration/uniformBucketLevelAccess/enabled", json!(false)),
        "~ change bucket desk-one-bucket\n    ~ iamConfiguration.uniformBucketLevelAccess.enabled: false -> true",
    );
    check(
        ONE,
        "bucket desk-one-bucket",
        set("/location", json!("US")),
        "! cannot change bucket desk-one-bucket\n      `location` can never be changed; give it another name in the environment file, or delete it by hand\n    ~ location: US -> EUROPE-WEST1",
    );
    check(
        ONE,
        "subscription desk-one-bu1-subscription",
        set("/topic", json!("another")),
        "! cannot change subscription desk-one-bu1-subscription (bu1)\n      `topic` can never be changed; give it another name in the environment file, or delete it by hand\n    ~ topic: another -> projects/desk-one/topics/desk-one-bu1-topic",
    );
    check(
        ONE,
        "subscription desk-one-bu1-subscription",
        set("/topic", json!("_deleted-topic_")),
        "- delete and create again subscription desk-one-bu1-subscription (bu1)\n      its topic was deleted, and a subscription cannot be attached to another one\n    ~ topic: _deleted-topic_ -> projects/desk-one/topics/desk-one-bu1-topic\n+ grant permissions on subscription desk-one-bu1-subscription (bu1): 3",
    );
    check(
        ONE,
        "topic desk-one-bu1-topic",
        set("/labels/deskgrid-env", json!("other")),
        "! somebody else's: topic desk-one-bu1-topic (bu1)\n      its labels are business=bu1, deskgrid-env=other, managed-by=deskgrid; --adopt takes it over, or give ours another name in the environment file",
    );
    check(
        ONE,
        "service account e-bu1-engine@desk-one.iam.gserviceaccount.com",
        set("/description", json!("managed-by=deskgrid deskgrid-env=e2: engine of bu1")),
        "! somebody else's: service account e-bu1-engine@desk-one.iam.gserviceaccount.com (bu1)\n      its description is \"managed-by=deskgrid deskgrid-env=e2: engine of bu1\"; --adopt takes it over, or give ours another name in the environment file",
    );
    check(
        ONE,
        "bucket desk-one-bucket",
        |live| *live = Live::Denied("403".to_owned()),
        "! cannot change bucket desk-one-bucket\n      you may not read it; bucket names are shared by all of Google Cloud, so it may be somebody else's: set another `bucket` in the environment file",
    );
}

#[test]
fn what_others_make_is_only_asked_for() {
    let verified = ONE.replace("[businesses.bu1]", "manage.pubsub = \"verify\"\n[businesses.bu1]");
    check(
        &verified,
        "subscription desk-one-bu1-subscription",
        set("/ackDeadlineSeconds", json!(10)),
        "! missing: subscription desk-one-bu1-subscription (bu1)\n      the environment file says that somebody else makes it; ask them for this:\n    ~ ackDeadlineSeconds: 10 -> 60",
    );
}

#[test]
fn a_cluster_is_waited_for_made_again_or_in_the_way() {
    let id = "cluster desk-one-cluster";
    let status = |status: &'static str| {
        move |live: &mut Live| match live {
            Live::Present(live) => {
                live["status"] = json!(status);
                live["conditions"] = json!([{"message": "no such machines in europe-west1-b"}]);
            }
            other => panic!("{other:?}"),
        }
    };
    check(ONE, id, status("PROVISIONING"), "~ wait for cluster desk-one-cluster");
    let pools = ["system", "engines"].map(|name| format!("+ create node pool {name}")).join("\n");
    check(ONE, id, status("STOPPING"), &format!("+ create cluster desk-one-cluster\n{pools}"));
    check(ONE, id, |live| *live = Live::Absent, &format!("+ create cluster desk-one-cluster\n{pools}"));
    check(ONE, "node pool engines", status("STOPPING"), "+ create node pool engines");
    check(ONE, "node pool engines", status("PROVISIONING"), "~ wait for node pool engines");
    let verified = ONE.replace("[businesses.bu1]", "manage.cluster = \"verify\"\n[businesses.bu1]");
    check(
        &verified,
        id,
        status("STOPPING"),
        "! missing: cluster desk-one-cluster\n      the environment file says that somebody else makes it; ask them for this:\n    + workloadIdentityConfig.workloadPool: desk-one.svc.id.goog",
    );
    check(
        ONE,
        id,
        status("ERROR"),
        "! cannot change cluster desk-one-cluster\n      Google could not create it: no such machines in europe-west1-b; correct that, delete it with `gcloud container clusters delete desk-one-cluster --location europe-west1`, and provision again",
    );
    check(
        ONE,
        id,
        set("/networkConfig/datapathProvider", json!("LEGACY_DATAPATH")),
        "! cannot change cluster desk-one-cluster\n      `networkConfig.datapathProvider` can never be changed; give it another name in the environment file, or delete it by hand\n    ~ networkConfig.datapathProvider: LEGACY_DATAPATH -> ADVANCED_DATAPATH",
    );
    check(
        ONE,
        id,
        set("/networkConfig/defaultEnablePrivateNodes", json!(true)),
        "~ change cluster desk-one-cluster\n    ~ networkConfig.defaultEnablePrivateNodes: true -> false",
    );
    check(
        ONE,
        "node pool engines",
        set("/autoscaling/totalMaxNodeCount", json!(3)),
        "~ change node pool engines\n    ~ autoscaling.totalMaxNodeCount: 3 -> 8",
    );
    check(
        ONE,
        "services of the project",
        set("/pubsub.googleapis.com", json!("DISABLED")),
        "~ change services of the project\n    ~ pubsub.googleapis.com: DISABLED -> ENABLED",
    );
}

#[test]
fn what_others_should_have_made_is_named_exactly() {
    for (class, id, field, shown) in [
        ("apis", "services of the project", "/pubsub.googleapis.com", "pubsub.googleapis.com: \"x\" -> ENABLED"),
        (
            "cluster",
            "cluster desk-one-cluster",
            "/workloadIdentityConfig/workloadPool",
            "workloadIdentityConfig.workloadPool: \"x\" -> desk-one.svc.id.goog",
        ),
        ("registry", "registry desk-one-images", "/format", "format: \"x\" -> DOCKER"),
    ] {
        let text = ONE.replace("[businesses.bu1]", &format!("manage.{class} = \"verify\"\n[businesses.bu1]"));
        let note = "the environment file says that somebody else makes it; ask them for this:";
        let shown = shown.replace("\"x\"", "x");
        let expected = format!("! missing: {id}\n      {note}\n    ~ {shown}");
        check(&text, id, set(field, json!("x")), &expected);
        check(&text, id, |live| *live = Live::Absent, &{
            let environment = environment(&text);
            let desired = desired(&environment);
            let desired = desired.iter().find(|resource| resource.id.to_string() == id).unwrap();
            let Desired::Fields(fields) = &desired.desired else { panic!("{id} has fields") };
            let lines = created(fields).into_iter().map(|difference| {
                let desired = difference.desired.unwrap();
                format!("\n    + {}: {}", difference.field, desired.as_str().unwrap())
            });
            // What is granted on it goes with it.
            let grants = match class {
                "registry" => {
                    "\n~ change permissions on registry desk-one-images\n    + roles/artifactregistry.reader: serviceAccount:e-nodes@desk-one.iam.gserviceaccount.com\n    + roles/artifactregistry.writer: serviceAccount:e-builder@desk-one.iam.gserviceaccount.com"
                }
                _ => "",
            };
            format!("! missing: {id}\n      {note}{}{grants}", lines.collect::<String>())
        });
    }
}

#[test]
fn more_notifications_than_a_bucket_can_have_are_refused() {
    let text = ONE.replace("[businesses.bu1]", "[businesses.bu1]\nsubmit_on_upload = true");
    let environment = environment(&text);
    for (there, refused) in [(9, false), (10, true)] {
        let observed = Observation { counts: [("desk-one-bucket".to_owned(), there)].into(), ..Observation::default() };
        let plan = plan(&environment, &desired(&environment), &observed, Options::default());
        let blockers: Vec<String> = plan.blockers().map(|change| change.id.to_string()).collect();
        assert_eq!(!blockers.is_empty(), refused, "{there}: {blockers:?}");
        assert!(!refused || show::render(&plan).contains("more than 10 topics"));
    }
}

#[test]
fn what_google_leaves_out_is_no_difference() {
    for (desired, live, same) in [
        (json!({"a": false}), json!({}), true),
        (json!({"a": {"b": false}}), json!({}), true),
        (json!({"a": {}}), json!({}), false),
        (json!({"a": {}}), json!({"a": {}}), true),
        (json!({"a": {}}), json!({"a": {"ttl": "1s"}}), false),
        (json!({"a": 1}), json!({"a": 1, "b": 2}), true),
        (json!({"a": [1, 2]}), json!({"a": [2, 1]}), false),
        (json!({"a": []}), json!({}), true),
        (json!({"a": 0}), json!({}), true),
        (json!({"a": 0}), json!({"a": 2}), false),
        (json!({}), json!({"a": 1}), true),
    ] {
        assert_eq!(field_differences(&desired, &live).is_empty(), same, "{desired} {live}");
    }
}

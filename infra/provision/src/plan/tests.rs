//! Tests of the plan, without any cloud.

use serde_json::json;

use super::*;
use crate::{desired::desired, environment::tests::environment, show};

const ONE: &str = "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n";

/// A cloud that is just as `desired` says.
fn perfect(environment: &Environment) -> Observation {
    let mut observed = Observation::default();
    for resource in desired(environment) {
        let live = match &resource.wanted {
            Wanted::Fields(fields) => fields.clone(),
            Wanted::Grants(grants) => {
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
    let text = show::render(&plan, false);
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
    assert_eq!(show::render(&plan, true), "e in project desk-one: nothing to do, 14 as they should be");
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
    assert_eq!(json["changes"][1]["kind"], "bucket");
    assert_eq!(json["changes"][1]["action"], "create");
    assert_eq!(json["changes"][1]["differences"][0]["field"], "iamConfiguration.publicAccessPrevention");
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
        set("/topic", json!("_deleted-topic_")),
        "! cannot change subscription desk-one-bu1-subscription (bu1)\n      `topic` can never be changed; give it another name in the environment file, or delete it by hand\n    ~ topic: _deleted-topic_ -> projects/desk-one/topics/desk-one-bu1-topic",
    );
    check(
        ONE,
        "topic desk-one-bu1-topic",
        set("/labels/deskgrid-env", json!("other")),
        "! somebody else's: topic desk-one-bu1-topic (bu1)\n      its labels are business=bu1, deskgrid-env=other, managed-by=deskgrid; --adopt takes it over, or give ours another name in the environment file",
    );
    check(
        ONE,
        "service account bu1-engine@desk-one.iam.gserviceaccount.com",
        set("/description", json!("managed-by=deskgrid deskgrid-env=e2: engine of bu1")),
        "! somebody else's: service account bu1-engine@desk-one.iam.gserviceaccount.com (bu1)\n      its description is \"managed-by=deskgrid deskgrid-env=e2: engine of bu1\"; --adopt takes it over, or give ours another name in the environment file",
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
fn what_google_leaves_out_is_no_difference() {
    for (wanted, live, same) in [
        (json!({"a": false}), json!({}), true),
        (json!({"a": {"b": false}}), json!({}), true),
        (json!({"a": {}}), json!({}), false),
        (json!({"a": {}}), json!({"a": {}}), true),
        (json!({"a": {}}), json!({"a": {"ttl": "1s"}}), false),
        (json!({"a": 1}), json!({"a": 1, "b": 2}), true),
        (json!({"a": [1, 2]}), json!({"a": [2, 1]}), false),
        (json!({"a": []}), json!({}), true),
    ] {
        assert_eq!(field_differences(&wanted, &live).is_empty(), same, "{wanted} {live}");
    }
}

//! Tests of carrying a plan out against a small cloud.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::{
    Environment,
    environment::tests::environment,
    fake::Fake,
    plan::{Action, Options},
    resource::Kind,
    run, show,
};

const TWO: &str =
    "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\npriority = true\n[businesses.bu2]\n";
const SUBSCRIPTION: &str = "v1/projects/desk-one/subscriptions/desk-one-bu1-subscription";
const TOPIC: &str = "v1/projects/desk-one/topics/desk-one-bu1-topic";

fn quiet() -> Progress {
    Arc::new(|_| {})
}

async fn provision(environment: &Environment, fake: &Fake) -> anyhow::Result<crate::Report> {
    run(environment, &fake.cloud, Options::default(), &quiet()).await
}

async fn plan(environment: &Environment, fake: &Fake, options: Options) -> Plan {
    crate::look(environment, &fake.cloud, options, &quiet()).await.unwrap()
}

#[tokio::test]
async fn from_nothing_and_then_no_write_at_all() {
    let fake = Fake::start().await;
    let environment = environment(TWO);
    let report = provision(&environment, &fake).await.unwrap();
    let writes = fake.take_writes();
    let pools = report.plan.pending().filter(|change| change.id.kind == Kind::NodePool).count();
    assert_eq!(pools, 2, "they come with their cluster");
    assert_eq!(report.applied.done - pools, writes.len(), "one write per resource: {writes:#?}");
    assert_eq!(fake.with(|world| world.resources[SUBSCRIPTION]["expirationPolicy"].clone()), json!({}));
    let text = fake.state().to_string();
    assert!(text.contains("serviceAccount:desk-one.svc.id.goog[bu1/orchestrator]"), "{text}");

    let plan = plan(&environment, &fake, Options::default()).await;
    assert!(plan.is_empty(), "{}", show::render(&plan, false));
    let report = provision(&environment, &fake).await.unwrap();
    assert_eq!((report.applied.done, fake.take_writes()), (0, vec![]));
}

#[tokio::test]
async fn drift_is_shown_exactly_and_repaired() {
    let fake = Fake::start().await;
    let environment = environment(TWO);
    provision(&environment, &fake).await.unwrap();
    let before = fake.state();
    fake.with(|world| {
        world.resources.get_mut(SUBSCRIPTION).unwrap()["ackDeadlineSeconds"] = json!(10);
        world.resources.get_mut(SUBSCRIPTION).unwrap()["expirationPolicy"] = json!({"ttl": "2678400s"});
        world.resources.get_mut(TOPIC).unwrap()["labels"]["theirs"] = json!("stays");
        world.policies.get_mut(TOPIC).unwrap()["bindings"][0]["members"].as_array_mut().unwrap().remove(0);
    });
    let drift = plan(&environment, &fake, Options::default()).await;
    assert_eq!(
        show::render(&drift, false),
        "~ change subscription desk-one-bu1-subscription (bu1)
    ~ ackDeadlineSeconds: 10 -> 60
    ~ expirationPolicy: {\"ttl\":\"2678400s\"} -> {}
~ change permissions on topic desk-one-bu1-topic (bu1)
    + roles/pubsub.publisher: serviceAccount:bu1-client@desk-one.iam.gserviceaccount.com
e in project desk-one: 2 to change, 39 as they should be"
    );
    fake.take_writes();
    provision(&environment, &fake).await.unwrap();
    let mut writes = fake.take_writes();
    writes.sort();
    assert_eq!(writes, [format!("PATCH {SUBSCRIPTION}"), format!("POST {TOPIC}:setIamPolicy")]);
    fake.with(|world| {
        world.resources.get_mut(TOPIC).unwrap()["labels"].as_object_mut().unwrap().remove("theirs").unwrap()
    });
    assert_eq!(fake.state(), before);
}

#[tokio::test]
async fn what_is_not_ours_stops_the_plan_until_adopted() {
    let fake = Fake::start().await;
    let environment = environment(TWO);
    fake.with(|world| {
        let theirs = json!({"name": "projects/desk-one/topics/desk-one-bu1-topic", "labels": {"team": "other"}});
        world.resources.insert(TOPIC.to_owned(), theirs)
    });
    let error = provision(&environment, &fake).await.unwrap_err().to_string();
    assert!(
        error.contains("! somebody else's: topic desk-one-bu1-topic (bu1)\n      its labels are team=other"),
        "{error}"
    );
    assert_eq!(fake.take_writes(), Vec::<String>::new());

    let options = Options { adopt: true, ..Options::default() };
    let adopting = plan(&environment, &fake, options).await;
    assert!(show::render(&adopting, false).contains("~ take over topic desk-one-bu1-topic"));
    run(&environment, &fake.cloud, options, &quiet()).await.unwrap();
    let labels = fake.with(|world| world.resources[TOPIC]["labels"].clone());
    assert_eq!(labels, json!({"team": "other", "managed-by": "deskgrid", "deskgrid-env": "e", "business": "bu1"}));
    assert!(plan(&environment, &fake, Options::default()).await.is_empty());
}

#[tokio::test]
async fn new_accounts_conflicts_and_outages_are_waited_for() {
    let fake = Fake::start().await;
    fake.with(|world| (world.lag, world.conflicts, world.unavailable) = (3, 4, 2));
    let environment = environment(TWO);
    provision(&environment, &fake).await.unwrap();
    assert!(plan(&environment, &fake, Options::default()).await.is_empty());
}

#[tokio::test]
async fn a_deleted_role_comes_back_and_ghosts_of_accounts_go() {
    let fake = Fake::start().await;
    let environment = environment(TWO);
    provision(&environment, &fake).await.unwrap();
    let before = fake.state();
    let ghost = "deleted:serviceAccount:bu1-client@desk-one.iam.gserviceaccount.com?uid=1";
    fake.with(|world| {
        world.resources.get_mut("v1/projects/desk-one/roles/deskgridObjectLister").unwrap()["deleted"] = json!(true);
        let members = &mut world.policies.get_mut(TOPIC).unwrap()["bindings"][0]["members"];
        members.as_array_mut().unwrap().push(json!(ghost));
    });
    let text = show::render(&plan(&environment, &fake, Options::default()).await, false);
    assert!(text.contains("- deleted: true") && text.contains(&format!("- roles/pubsub.publisher: {ghost}")), "{text}");
    provision(&environment, &fake).await.unwrap();
    assert_eq!(fake.state(), before);
}

#[tokio::test]
async fn what_left_the_file_is_named_and_kept_unless_pruned() {
    let fake = Fake::start().await;
    provision(&environment(TWO), &fake).await.unwrap();
    let one = environment(&TWO.replace("[businesses.bu2]\n", ""));
    let extra = plan(&one, &fake, Options::default()).await;
    assert_eq!(extra.changes.iter().filter(|change| change.action == Action::Extra).count(), 6);
    assert!(show::summary(&extra).contains("6 not in the environment file"));
    let options = Options { prune: true, ..Options::default() };
    run(&one, &fake.cloud, options, &quiet()).await.unwrap();
    assert_eq!(fake.with(|world| world.resources.keys().filter(|path| path.contains("bu2")).count()), 0);
}

/// The writer is stopped at every request, before it arrives and after it was carried out; the next run ends in the
/// same world as an undisturbed one.
#[tokio::test]
async fn stopped_at_any_request_the_next_run_converges() {
    let environment = environment(&TWO.replace("[businesses.bu2]\n", ""));
    let fake = Fake::start().await;
    provision(&environment, &fake).await.unwrap();
    let (undisturbed, requests) = (fake.state(), fake.with(|world| world.log.len()));
    assert!(requests > 40);
    for lose_answer in [false, true] {
        for last in 1..requests {
            let fake = Fake::start().await;
            fake.with(|world| (world.die_after, world.lose_answer) = (Some(last), lose_answer));
            assert!(provision(&environment, &fake).await.is_err(), "{last}");
            fake.with(|world| (world.die_after, world.lag) = (None, 1));
            provision(&environment, &fake).await.unwrap();
            assert_eq!(fake.state(), undisturbed, "stopped after request {last}, answer lost: {lose_answer}");
        }
    }
}

const CLUSTER: &str = "v1/projects/desk-one/locations/europe-west1/clusters/desk-one-cluster";

#[tokio::test]
async fn a_cluster_that_a_killed_run_began_is_waited_for() {
    let fake = Fake::start().await;
    let environment = environment(TWO);
    provision(&environment, &fake).await.unwrap();
    let before = fake.state();
    fake.with(|world| world.resources.get_mut(CLUSTER).unwrap()["status"] = json!("PROVISIONING"));
    let found = plan(&environment, &fake, Options::default()).await;
    assert!(show::render(&found, false).starts_with("~ wait for cluster desk-one-cluster\n"));
    fake.with(|world| world.resources.get_mut(CLUSTER).unwrap()["status"] = json!("RUNNING"));
    fake.take_writes();
    apply(&found, &fake.cloud.google, &quiet()).await;
    assert_eq!((fake.take_writes(), fake.state()), (vec![], before));
}

#[tokio::test]
async fn each_change_of_a_cluster_is_an_operation_of_its_own() {
    let fake = Fake::start().await;
    let environment = environment(TWO);
    provision(&environment, &fake).await.unwrap();
    let before = fake.state();
    fake.with(|world| {
        let cluster = world.resources.get_mut(CLUSTER).unwrap();
        cluster["releaseChannel"] = json!({"channel": "RAPID"});
        cluster["controlPlaneEndpointsConfig"]["dnsEndpointConfig"] = json!({});
        cluster["resourceLabels"]["deskgrid-env"] = json!("e");
        let pool = world.resources.get_mut(&format!("{CLUSTER}/nodePools/engines")).unwrap();
        pool["config"]["machineType"] = json!("e2-micro");
        pool["autoscaling"] = json!({});
    });
    fake.take_writes();
    provision(&environment, &fake).await.unwrap();
    let mut writes = fake.take_writes();
    writes.sort();
    assert_eq!(
        writes,
        [
            format!("POST {CLUSTER}/nodePools/engines:setAutoscaling"),
            format!("PUT {CLUSTER}"),
            format!("PUT {CLUSTER}"),
            format!("PUT {CLUSTER}/nodePools/engines"),
        ]
    );
    assert_eq!(fake.state(), before);
}

#[tokio::test]
async fn notifications_come_go_and_lose_their_doubles() {
    let fake = Fake::start().await;
    let plain = environment(TWO);
    provision(&plain, &fake).await.unwrap();
    let before = fake.state();
    let told = environment(&TWO.replace("[businesses.bu2]", "[businesses.bu2]\nsubmit_on_upload = true"));
    provision(&told, &fake).await.unwrap();
    let configs = || {
        fake.with(|world| {
            let paths = world.resources.keys().filter(|path| path.contains("notificationConfigs"));
            paths.cloned().collect::<Vec<_>>()
        })
    };
    let after = fake.state();
    assert_eq!(configs().len(), 1);
    assert!(after.to_string().contains("serviceAccount:service-7@gs-project-accounts"), "{after}");
    assert!(plan(&told, &fake, Options::default()).await.is_empty());

    fake.with(|world| {
        let path = world.resources.keys().find(|path| path.contains("notificationConfigs")).unwrap().clone();
        let mut double = world.resources[&path].clone();
        double["id"] = json!("77");
        world.resources.insert(format!("{}/77", path.rsplit_once('/').unwrap().0), double);
    });
    let text = show::render(&plan(&told, &fake, Options::default()).await, false);
    assert!(text.contains("~ change notification to desk-one-bu2-topic (bu2)\n    ~ others: "), "{text}");
    provision(&told, &fake).await.unwrap();
    assert_eq!((configs().len(), fake.state()), (1, after));

    let options = crate::removal::Options::default();
    let removal = crate::look_to_remove(&told, Some(&plain), &fake.cloud, options, &quiet()).await.unwrap();
    crate::carry_out(removal, &fake.cloud, &quiet()).await.unwrap();
    assert_eq!((configs().len(), fake.state()), (0, before));
}

#[tokio::test]
async fn after_a_failure_only_what_depends_on_it_is_left_out() {
    let fake = Fake::start().await;
    let environment = environment(TWO);
    let plan = plan(&environment, &fake, Options::default()).await;
    let failing = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&failing);
    let progress: Progress = Arc::new(move |event| {
        if let Event::Failed { id, .. } = event {
            log.lock().unwrap().push(id.to_string());
        }
    });
    // Somebody else makes the topic between the plan and its execution.
    fake.with(|world| world.resources.insert(TOPIC.to_owned(), json!({"labels": {"team": "other"}})));
    let applied = apply(&plan, &fake.cloud.google, &progress).await;
    assert_eq!(*failing.lock().unwrap(), ["topic desk-one-bu1-topic"]);
    assert!(applied.failures[0].error.contains("its labels are team=other"));
    let skipped: Vec<String> = applied.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(
        skipped,
        [
            "subscription desk-one-bu1-subscription",
            "subscription desk-one-bu1-priority-subscription",
            "permissions on topic desk-one-bu1-topic",
            "permissions on subscription desk-one-bu1-priority-subscription",
            "permissions on subscription desk-one-bu1-subscription",
        ]
    );
    let theirs: Value = fake.with(|world| world.resources[TOPIC]["labels"].clone());
    assert_eq!(theirs, json!({"team": "other"}));
}

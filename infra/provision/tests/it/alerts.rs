//! Alert policies and the dashboard, whose lists and names differ from those of other kinds.

use localcloud::google::Google;
use provision::{
    Cloud, Environment,
    google::{Api, Method, Request},
    plan::{Action, Options, Plan},
    resource::Kind,
};
use serde_json::{Value, json};

use crate::fixture::{self, ONE, PROJECT, TWO, client, cloud, environment, silent};

/// A cloud with the environment of one business, and clients of it.
async fn provisioned(environment: &Environment) -> (Google, Cloud) {
    let google = fixture::google(|_| {}).await;
    let cloud = cloud(client(&google));
    provision::run(environment, &cloud, Options::default(), &silent()).await.unwrap();
    (google, cloud)
}

async fn policies(cloud: &Cloud) -> Vec<Value> {
    let path = format!("v3/projects/{PROJECT}/alertPolicies");
    cloud.google.list(&Request::get(Api::Monitoring, path).query("pageSize", "1"), "alertPolicies").await.unwrap()
}

fn post(policy: &Value) -> Request {
    let mut body = policy.clone();
    let fields = body.as_object_mut().unwrap();
    fields.retain(|key, _| !["name", "creationRecord", "mutationRecord"].contains(&key.as_str()));
    body["conditions"][0].as_object_mut().unwrap().remove("name");
    Request::new(Api::Monitoring, Method::Post, format!("v3/projects/{PROJECT}/alertPolicies")).body(body)
}

/// What a plan would do to alerts and dashboards.
fn changes(plan: &Plan) -> Vec<(String, &Action, Vec<&str>)> {
    let of_monitoring = |kind| matches!(kind, Kind::Alert | Kind::Dashboard);
    let changes =
        plan.changes.iter().filter(|change| of_monitoring(change.id.kind) && change.action != Action::Nothing);
    changes
        .map(|change| {
            let fields = change.differences.iter().map(|difference| difference.field.as_str()).collect();
            (change.id.to_string(), &change.action, fields)
        })
        .collect()
}

async fn plan(environment: &Environment, cloud: &Cloud, options: Options) -> Plan {
    provision::make_plan(environment, cloud, options, &silent()).await.unwrap()
}

#[tokio::test]
async fn a_changed_threshold_is_shown_and_put_right_and_the_condition_keeps_its_name() {
    let one = environment(ONE);
    let (google, cloud) = provisioned(&one).await;
    assert!(plan(&one, &cloud, Options::default()).await.is_empty());
    let before = policies(&cloud).await;
    assert_eq!(before.len(), 2);
    let is_waiting = |policy: &&Value| policy["userLabels"]["deskgrid-alert"] == "oldest-message";
    let waiting = before.iter().find(is_waiting).unwrap();
    let mut condition = waiting["conditions"][0].clone();
    condition["conditionThreshold"]["thresholdValue"] = json!(7);
    let path = format!("v3/{}", waiting["name"].as_str().unwrap());
    let patch = Request::new(Api::Monitoring, Method::Patch, path).query("updateMask", "conditions,user_labels");
    // A label of somebody else stays.
    let mut labels = waiting["userLabels"].clone();
    labels["theirs"] = json!("1");
    let body = json!({"conditions": [condition], "userLabels": labels});
    cloud.google.send(&patch.body(body)).await.unwrap();

    let changed = plan(&one, &cloud, Options::default()).await;
    let threshold = vec!["conditions.0.conditionThreshold.thresholdValue"];
    assert_eq!(changes(&changed), [("alert e-bu1-oldest-message".to_owned(), &Action::Update, threshold)]);
    provision::carry_out(changed, &cloud, &silent()).await.unwrap();
    let after = policies(&cloud).await;
    let waiting_after = after.iter().find(is_waiting).unwrap();
    assert_eq!(waiting_after["conditions"], waiting["conditions"]);
    assert_eq!(waiting_after["userLabels"], labels);
    google.stop().await;
}

#[tokio::test]
async fn a_copy_of_a_policy_is_deleted_also_when_it_is_on_another_page() {
    let one = environment(ONE);
    let (google, cloud) = provisioned(&one).await;
    let before = policies(&cloud).await;
    cloud.google.send(&post(&before[0])).await.unwrap();
    let changed = plan(&one, &cloud, Options::default()).await;
    assert_eq!(changes(&changed).iter().map(|(_, _, fields)| fields.clone()).collect::<Vec<_>>(), [["others"]]);
    provision::carry_out(changed, &cloud, &silent()).await.unwrap();
    assert_eq!(policies(&cloud).await.len(), before.len());
    google.stop().await;
}

#[tokio::test]
async fn without_the_section_they_are_extra_and_pruned_and_a_foreign_dashboard_stops_the_plan() {
    let both = environment(&[ONE, TWO].concat());
    let (google, cloud) = provisioned(&both).await;
    let without = environment(
        &[ONE.split_once("[businesses").map(|(_, rest)| format!("[businesses{rest}")).unwrap(), TWO.to_owned()]
            .concat(),
    );
    let shown = plan(&without, &cloud, Options::default()).await;
    assert!(changes(&shown).iter().all(|(_, action, _)| **action == Action::Extra));
    let businesses = shown.changes.iter().filter(|change| change.id.kind == Kind::Alert);
    let businesses: Vec<&str> = businesses.filter_map(|change| change.business.as_deref()).collect();
    assert_eq!(businesses, ["bu1", "bu1", "bu2", "bu2"]);
    provision::run(&without, &cloud, Options { prune: true, ..Options::default() }, &silent()).await.unwrap();
    assert_eq!(policies(&cloud).await.len(), 0);
    let theirs = json!({"displayName": "Theirs", "name": format!("projects/{PROJECT}/dashboards/deskgrid-e")});
    let path = format!("v1/projects/{PROJECT}/dashboards");
    cloud.google.send(&Request::new(Api::Monitoring, Method::Post, path).body(theirs)).await.unwrap();
    let stopped = plan(&both, &cloud, Options::default()).await;
    let blocked: Vec<String> = stopped.blockers().map(|change| change.id.to_string()).collect();
    assert_eq!(blocked, ["dashboard deskgrid-e"]);
    google.stop().await;
}

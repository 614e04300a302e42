//! Plans and how they are carried out: what is written, what of a drift is shown and repaired, and what is left out
//! after a failure.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use localcloud::google::Google;
use provision::{
    Cloud, Environment, Failure, Report,
    apply::{self, Event, Progress},
    data,
    google::{Api, Client, Method, Request, Retry},
    plan::{Action, Options, Plan},
    removal,
    resource::{Id, Kind},
    show,
};
use serde_json::{Value, json};

use crate::fixture::{self, Writes, assert_same, client, cloud, environment, recording, silent, world};

const TWO: &str = "[businesses.bu1]\npriority = true\n[businesses.bu2]\n";
const SUBSCRIPTION: &str = "v1/projects/desk-one/subscriptions/desk-one-bu1-subscription";
const TOPIC: &str = "v1/projects/desk-one/topics/desk-one-bu1-topic";
const BUCKET: &str = "storage/v1/b/desk-one-bucket";
const CLUSTER: &str = "projects/desk-one/locations/europe-west1/clusters/desk-one-cluster";
const NOTIFICATIONS: &str = "storage/v1/b/desk-one-bucket/notificationConfigs";

/// A laptop cloud, a client that records its writes, and another one for what somebody does by hand.
struct Fixture {
    google: Google,
    cloud: Cloud,
    writes: Writes,
    hand: Client,
}

impl Fixture {
    async fn start() -> Self {
        let google = fixture::google(|options| options.enforce_apis = false).await;
        let (client, writes) = recording(client(&google));
        let hand = fixture::client(&google);
        Self { google, cloud: cloud(client), writes, hand }
    }

    async fn provisioned(environment: &Environment) -> Self {
        let fixture = Self::start().await;
        fixture.provision(environment).await.unwrap();
        fixture.writes.take();
        fixture
    }

    async fn provision(&self, environment: &Environment) -> anyhow::Result<Report> {
        provision::run(environment, &self.cloud, Options::default(), &silent()).await
    }

    async fn plan(&self, environment: &Environment) -> Plan {
        provision::make_plan(environment, &self.cloud, Options::default(), &silent()).await.unwrap()
    }

    async fn get(&self, api: Api, path: &str) -> Value {
        self.send(Request::get(api, path)).await
    }

    async fn send(&self, request: Request) -> Value {
        self.hand.send(&request).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn label_topic(&self, labels: Value) {
        let body = json!({"topic": {"labels": labels}, "updateMask": "labels"});
        self.send(Request::new(Api::Pubsub, Method::Patch, TOPIC).body(body)).await;
    }

    /// Somebody else's topic of the name that ours has.
    async fn foreign_topic(&self) {
        let body = json!({"labels": {"team": "other"}});
        self.send(Request::new(Api::Pubsub, Method::Put, TOPIC).body(body)).await;
    }
}

#[tokio::test]
async fn a_run_from_nothing_writes_once_per_resource_and_the_next_run_writes_nothing() {
    let environment = environment(TWO);
    let fixture = Fixture::start().await;
    let report = fixture.provision(&environment).await.unwrap();
    let writes = fixture.writes.take();
    let pools = report.plan.pending().filter(|change| change.id.kind == Kind::NodePool).count();
    assert_eq!(pools, 2, "they come with their cluster");
    assert_eq!(report.applied.done - pools, writes.len(), "one write per resource: {writes:#?}");
    assert_eq!(fixture.get(Api::Pubsub, SUBSCRIPTION).await["expirationPolicy"], json!({}));
    let text = world(&fixture.google).to_string();
    assert!(text.contains("serviceAccount:desk-one.svc.id.goog[bu1/orchestrator]"), "{text}");

    let plan = fixture.plan(&environment).await;
    assert!(plan.is_empty(), "{}", show::render(&plan));
    let report = fixture.provision(&environment).await.unwrap();
    assert_eq!((report.applied.done, fixture.writes.take()), (0, vec![]));
    fixture.google.stop().await;
}

#[tokio::test]
async fn drift_is_shown_exactly_and_repaired() {
    let environment = environment(TWO);
    let fixture = Fixture::provisioned(&environment).await;
    let before = world(&fixture.google);
    let subscription = json!({"ackDeadlineSeconds": 10, "expirationPolicy": {"ttl": "2678400s"}});
    let body = json!({"subscription": subscription, "updateMask": "ackDeadlineSeconds,expirationPolicy"});
    fixture.send(Request::new(Api::Pubsub, Method::Patch, SUBSCRIPTION).body(body)).await;
    let labels = fixture.get(Api::Pubsub, TOPIC).await["labels"].clone();
    let mut more = labels.clone();
    more["theirs"] = json!("stays");
    fixture.label_topic(more.clone()).await;
    let mut policy = fixture.get(Api::Pubsub, &format!("{TOPIC}:getIamPolicy")).await;
    let client = "serviceAccount:e-bu1-client@desk-one.iam.gserviceaccount.com";
    let publishers =
        policy["bindings"].as_array_mut().unwrap().iter_mut().find(|it| it["role"] == "roles/pubsub.publisher");
    publishers.unwrap()["members"].as_array_mut().unwrap().retain(|member| member != client);
    let body = json!({"policy": policy});
    fixture.send(Request::new(Api::Pubsub, Method::Post, format!("{TOPIC}:setIamPolicy")).body(body)).await;

    let drift = fixture.plan(&environment).await;
    assert_eq!(
        show::render(&drift),
        "~ change subscription desk-one-bu1-subscription (bu1)
    ~ ackDeadlineSeconds: 10 -> 60
    ~ expirationPolicy: {\"ttl\":\"2678400s\"} -> {}
~ change permissions on topic desk-one-bu1-topic (bu1)
    + roles/pubsub.publisher: serviceAccount:e-bu1-client@desk-one.iam.gserviceaccount.com
e in project desk-one: 2 to change, 39 as they should be"
    );
    fixture.provision(&environment).await.unwrap();
    let mut writes = fixture.writes.take();
    writes.sort();
    assert_eq!(writes, [format!("PATCH {SUBSCRIPTION}"), format!("POST {TOPIC}:setIamPolicy")]);
    assert_eq!(fixture.get(Api::Pubsub, TOPIC).await["labels"], more, "labels of others stay");
    fixture.label_topic(labels).await;
    assert_same(&world(&fixture.google), &before, "repaired");
    fixture.google.stop().await;
}

#[tokio::test]
async fn what_is_not_ours_stops_the_plan_until_adopted() {
    let environment = environment(TWO);
    let fixture = Fixture::start().await;
    fixture.foreign_topic().await;
    let error = fixture.provision(&environment).await.unwrap_err().to_string();
    let blocker = "! somebody else's: topic desk-one-bu1-topic (bu1)\n      its labels are team=other";
    assert!(error.contains(blocker), "{error}");
    assert_eq!(fixture.writes.take(), Vec::<String>::new());

    let options = Options { adopt: true, ..Options::default() };
    let adopting = provision::make_plan(&environment, &fixture.cloud, options, &silent()).await.unwrap();
    assert!(show::render(&adopting).contains("~ take over topic desk-one-bu1-topic"));
    provision::carry_out(adopting, &fixture.cloud, &silent()).await.unwrap();
    let labels = json!({"team": "other", "managed-by": "deskgrid", "deskgrid-env": "e", "business": "bu1"});
    assert_eq!(fixture.get(Api::Pubsub, TOPIC).await["labels"], labels);
    assert!(fixture.plan(&environment).await.is_empty());
    fixture.google.stop().await;
}

#[tokio::test]
async fn a_deleted_role_comes_back_and_ghosts_of_accounts_go() {
    let environment = environment(TWO);
    let fixture = Fixture::provisioned(&environment).await;
    let role = "v1/projects/desk-one/roles/deskgridObjectLister";
    let account = "v1/projects/desk-one/serviceAccounts/e-bu1-client@desk-one.iam.gserviceaccount.com";
    for path in [role, account] {
        fixture.send(Request::new(Api::Iam, Method::Delete, path)).await;
    }
    let text = show::render(&fixture.plan(&environment).await);
    let ghost = "- roles/pubsub.publisher: deleted:serviceAccount:e-bu1-client@desk-one.iam.gserviceaccount.com?uid=";
    assert!(text.contains("- deleted: true") && text.contains(ghost), "{text}");
    fixture.provision(&environment).await.unwrap();
    let plan = fixture.plan(&environment).await;
    assert!(plan.is_empty(), "{}", show::render(&plan));
    assert!(fixture.get(Api::Iam, role).await["deleted"].is_null());
    let policy = fixture.get(Api::Pubsub, &format!("{TOPIC}:getIamPolicy")).await.to_string();
    assert!(policy.contains("\"serviceAccount:e-bu1-client@") && !policy.contains("deleted:"), "{policy}");
    fixture.google.stop().await;
}

#[tokio::test]
async fn what_left_the_file_is_named_and_kept_unless_pruned() {
    let fixture = Fixture::provisioned(&environment(TWO)).await;
    let one = environment(&TWO.replace("[businesses.bu2]\n", ""));
    let extra = |plan: &Plan| plan.changes.iter().filter(|change| change.action == Action::Extra).count();
    let found = fixture.plan(&one).await;
    // Topics, subscription, accounts, and the permissions of the accounts on the bucket.
    assert_eq!(extra(&found), 7);
    assert!(show::summary(&found).contains("7 not in the environment file"));
    let options = Options { prune: true, ..Options::default() };
    provision::run(&one, &fixture.cloud, options, &silent()).await.unwrap();
    assert_eq!(extra(&fixture.plan(&one).await), 0);
    let left = world(&fixture.google);
    for part in [&left["pubsub"], &left["identity"]["accounts"]["live"]] {
        assert!(!part.to_string().contains("bu2"), "{part}");
    }
    let kept = fixture.get(Api::Storage, &format!("{BUCKET}/iam")).await.to_string();
    assert!(kept.contains("serviceAccount:e-bu1-client@") && !kept.contains("bu2"), "{kept}");
    fixture.google.stop().await;
}

#[tokio::test]
async fn what_others_look_after_is_not_pruned() {
    let fixture = Fixture::provisioned(&environment(TWO)).await;
    let one = format!("[manage]\npubsub = \"verify\"\n{}", TWO.replace("[businesses.bu2]\n", ""));
    let one = environment(&one);
    let options = Options { prune: true, ..Options::default() };
    let report = provision::run(&one, &fixture.cloud, options, &silent()).await.unwrap();
    let of = |action: Action| -> Vec<Kind> {
        report.plan.changes.iter().filter(|change| change.action == action).map(|change| change.id.kind).collect()
    };
    assert_eq!(of(Action::Extra), [Kind::Topic, Kind::Topic, Kind::Subscription]);
    assert_eq!(of(Action::Delete), [Kind::ServiceAccount; 3]);
    let left = world(&fixture.google);
    assert!(left["pubsub"].to_string().contains("desk-one-bu2-topic"), "{}", left["pubsub"]);
    assert!(!left["identity"]["accounts"]["live"].to_string().contains("bu2"));
    fixture.google.stop().await;
}

/// Twenty businesses that the monitor serves: as many conditions as IAM takes for one account and role.
fn twenty(prefix: &str) -> String {
    let names: Vec<String> = (0..20).map(|number| format!("{prefix}{number:02}")).collect();
    let tables: String = names.iter().map(|name| format!("[businesses.{name}]\n")).collect();
    format!("[web]\nenabled = true\nbusinesses = {names:?}\n{tables}")
}

#[tokio::test]
async fn grants_of_pruned_businesses_make_room_for_others() {
    let fixture = Fixture::provisioned(&environment(&twenty("old"))).await;
    let new = environment(&twenty("new"));
    // As an earlier version pruned: accounts, topics and subscriptions go, and the grants stay.
    let extra = fixture.plan(&new).await.changes.into_iter().filter(|change| change.action == Action::Extra);
    for change in extra.filter(|change| !change.id.is_policy()) {
        for request in change.id.deletes(&Value::Null) {
            fixture.hand.send(&request).await.unwrap();
        }
    }
    let blocked = show::render(&fixture.plan(&new).await);
    assert!(
        blocked.contains("under 40 conditions") && blocked.contains("`cargo xtask provision --prune`"),
        "{blocked}"
    );
    let prune = Options { prune: true, ..Options::default() };
    let plan = provision::make_plan(&new, &fixture.cloud, prune, &silent()).await.unwrap();
    let shown = show::render(&plan);
    let taken = "if old07 input common control: serviceAccount:e-web-monitor@";
    assert!(shown.contains("~ change permissions on bucket desk-one-bucket") && shown.contains(taken), "{shown}");
    provision::carry_out(plan, &fixture.cloud, &silent()).await.unwrap();
    let policy = fixture.get(Api::Storage, &format!("{BUCKET}/iam?optionsRequestedPolicyVersion=3")).await.to_string();
    assert!(!policy.contains("old") && policy.contains("new07"), "{policy}");
    let after = provision::make_plan(&new, &fixture.cloud, prune, &silent()).await.unwrap();
    assert!(after.is_empty(), "{}", show::render(&after));
    fixture.google.stop().await;
}

#[tokio::test]
async fn a_subscription_without_its_topic_is_created_again_once_it_is_empty() {
    let environment = environment(TWO);
    let fixture = Fixture::provisioned(&environment).await;
    let publish = Request::new(Api::Pubsub, Method::Post, format!("{TOPIC}:publish"));
    let message = json!({"messages": [{"data": "eA==", "attributes": {"deskgrid": "1"}}]});
    fixture.hand.send(&publish.clone().body(message)).await.unwrap();
    fixture.hand.send(&Request::new(Api::Pubsub, Method::Delete, TOPIC)).await.unwrap();
    assert_eq!(fixture.get(Api::Pubsub, SUBSCRIPTION).await["topic"], "_deleted-topic_");

    let plan = fixture.plan(&environment).await;
    let shown = show::render(&plan);
    let replaced =
        "- delete and create again subscription desk-one-bu1-subscription (bu1)\n      its topic was deleted";
    assert!(shown.contains(replaced) && shown.contains("+ create topic desk-one-bu1-topic"), "{shown}");
    assert!(plan.blockers().next().is_none());
    // A client that gives an answer the time that it takes.
    let retry = Retry { longest: Duration::from_millis(500), ..Retry::default() };
    let patient = cloud(client(&fixture.google).retrying(retry));
    let refused = data::check_messages(&patient, &plan, false).await.unwrap_err();
    let failure: &Failure = refused.downcast_ref().unwrap();
    assert_eq!(failure.code, "pending");
    assert!(failure.why.starts_with("1 message in desk-one-bu1-subscription was not delivered"), "{failure}");

    let pull = json!({"maxMessages": 10});
    let pull = Request::new(Api::Pubsub, Method::Post, format!("{SUBSCRIPTION}:pull")).body(pull);
    let id = fixture.hand.send(&pull).await.unwrap()["receivedMessages"][0]["ackId"].clone();
    let acknowledge = Request::new(Api::Pubsub, Method::Post, format!("{SUBSCRIPTION}:acknowledge"));
    fixture.hand.send(&acknowledge.body(json!({"ackIds": [id]}))).await.unwrap();
    data::check_messages(&patient, &plan, false).await.unwrap();
    provision::carry_out(plan, &fixture.cloud, &silent()).await.unwrap();
    assert!(fixture.plan(&environment).await.is_empty());
    fixture.hand.send(&publish.body(json!({"messages": [{"data": "eA=="}]}))).await.unwrap();
    let arrived = fixture.hand.send(&pull).await.unwrap();
    assert_eq!(arrived["receivedMessages"].as_array().map(Vec::len), Some(1), "{arrived}");
    fixture.google.stop().await;
}

#[tokio::test]
async fn each_change_of_a_cluster_is_an_operation_of_its_own() {
    let environment = environment(TWO);
    let fixture = Fixture::provisioned(&environment).await;
    let before = world(&fixture.google);
    let (cluster, pool) =
        (Id::new(Kind::Cluster, CLUSTER), Id::new(Kind::NodePool, format!("{CLUSTER}/nodePools/engines")));
    let changed_by_hand = [
        (&cluster, "releaseChannel", json!({"releaseChannel": {"channel": "RAPID"}})),
        (
            &cluster,
            "controlPlaneEndpointsConfig",
            json!({"controlPlaneEndpointsConfig": {"dnsEndpointConfig": {"allowExternalTraffic": false}}}),
        ),
        (&pool, "config.machineType", json!({"config": {"machineType": "e2-micro"}})),
        (&pool, "autoscaling", json!({"autoscaling": {"enabled": true, "totalMaxNodeCount": 3}})),
    ];
    for (id, field, fields) in changed_by_hand {
        let live = fixture.send(id.read(&Value::Null)).await;
        for request in id.updates(&fields, &live, &[field.to_owned()]) {
            fixture.send(request).await;
        }
    }
    fixture.provision(&environment).await.unwrap();
    let mut writes = fixture.writes.take();
    writes.sort();
    assert_eq!(
        writes,
        [
            format!("POST v1/{CLUSTER}/nodePools/engines:setAutoscaling"),
            format!("PUT v1/{CLUSTER}"),
            format!("PUT v1/{CLUSTER}"),
            format!("PUT v1/{CLUSTER}/nodePools/engines"),
        ]
    );
    assert_same(&world(&fixture.google), &before, "repaired");
    fixture.google.stop().await;
}

#[tokio::test]
async fn notifications_come_go_and_lose_their_doubles() {
    let plain = environment(TWO);
    let fixture = Fixture::provisioned(&plain).await;
    let before = world(&fixture.google);
    let notifying = environment(&TWO.replace("[businesses.bu2]", "[businesses.bu2]\nsubmit_on_upload = true"));
    fixture.provision(&notifying).await.unwrap();
    let configurations = async || {
        let list = fixture.get(Api::Storage, NOTIFICATIONS).await;
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let after = world(&fixture.google);
    assert_eq!(configurations().await.len(), 1);
    assert!(after.to_string().contains("@gs-project-accounts.iam.gserviceaccount.com"), "{after}");
    assert!(fixture.plan(&notifying).await.is_empty());

    let mut double = configurations().await.remove(0);
    for key in ["id", "etag", "kind", "selfLink"] {
        double.as_object_mut().unwrap().remove(key);
    }
    fixture.send(Request::new(Api::Storage, Method::Post, NOTIFICATIONS).body(double)).await;
    assert_eq!(configurations().await.len(), 2);
    let text = show::render(&fixture.plan(&notifying).await);
    assert!(text.contains("~ change notification to desk-one-bu2-topic (bu2)\n    ~ others: "), "{text}");
    fixture.provision(&notifying).await.unwrap();
    assert_eq!(configurations().await.len(), 1);
    assert_same(&world(&fixture.google), &after, "without its double");

    let options = removal::Options::default();
    let removal = provision::plan_removal(&notifying, Some(&plain), &fixture.cloud, options, &silent()).await.unwrap();
    provision::carry_out(removal, &fixture.cloud, &silent()).await.unwrap();
    assert_eq!(configurations().await.len(), 0);
    assert_same(&world(&fixture.google), &before, "without notifications");
    fixture.google.stop().await;
}

#[tokio::test]
async fn after_a_failure_only_what_depends_on_it_is_left_out() {
    let fixture = Fixture::start().await;
    let plan = fixture.plan(&environment(TWO)).await;
    let failing: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&failing);
    let progress: Progress = Arc::new(move |event| {
        if let Event::Failed { id, .. } = event {
            log.lock().unwrap().push(id.to_string());
        }
    });
    // Somebody else makes the topic between the plan and its execution.
    fixture.foreign_topic().await;
    let applied = apply::apply(&plan, &fixture.cloud.google, &progress).await;
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
    assert_eq!(fixture.get(Api::Pubsub, TOPIC).await["labels"], json!({"team": "other"}));
    fixture.google.stop().await;
}

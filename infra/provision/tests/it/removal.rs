//! What goes and what stays when a business or a whole environment is removed.

use localcloud::{
    faults::{Fault, Faults, When},
    google::Google,
};
use provision::{
    Cloud, Environment, data,
    failure::Failure,
    google::{Api, Method, Request},
    plan::{self, Plan},
    policy,
    removal::Options,
    show,
};
use serde_json::{Value, json};

use crate::fixture::{self, assert_same, client, cloud, environment, silent, world};

const ONE: &str = "[businesses.bu1]\n";
const TWO: &str = "[businesses.bu1]\n[businesses.bu2]\n";
const TOPIC: &str = "v1/projects/desk-one/topics/desk-one-bu1-topic";
const EVERYTHING: Options = Options { data: true, identities: true };

/// A laptop cloud that was provisioned with this environment.
async fn provisioned(environment: &Environment) -> (Google, Cloud) {
    let google = fixture::google(|options| options.enforce_apis = false).await;
    let cloud = cloud(client(&google));
    provision(environment, &cloud).await;
    (google, cloud)
}

async fn provision(environment: &Environment, cloud: &Cloud) {
    provision::run(environment, cloud, plan::Options::default(), &silent()).await.unwrap();
}

async fn remove(before: &Environment, after: Option<&Environment>, cloud: &Cloud, options: Options) -> Plan {
    let plan = provision::plan_removal(before, after, cloud, options, &silent()).await.unwrap();
    provision::carry_out(plan.clone(), cloud, &silent()).await.unwrap();
    plan
}

async fn policy_of(cloud: &Cloud, request: Request) -> Vec<String> {
    let policy = cloud.google.send(&request).await.unwrap();
    policy::grants(&policy).into_iter().map(|grant| grant.member).collect()
}

/// What the cloud holds, without accounts that were deleted, which IAM keeps for a while.
fn state(google: &Google) -> Value {
    let mut state = world(google);
    let identity = &mut state["identity"];
    let deleted = |account: &Value| account["deleted"] == true;
    let all = identity["accounts"]["by_uid"].as_object_mut().unwrap();
    let gone: Vec<String> =
        all.iter().filter(|(_, account)| deleted(account)).map(|(email, _)| email.clone()).collect();
    all.retain(|_, account| !deleted(account));
    let policies = identity["policies"].as_object_mut().unwrap();
    policies.retain(|of, _| !gone.iter().any(|email| of.ends_with(email.as_str())));
    state
}

/// The names of what is left.
fn left(google: &Google) -> Vec<String> {
    let state = state(google);
    let lists = [&state["pubsub"]["topics"], &state["pubsub"]["subscriptions"], &state["storage"]["buckets"]];
    let names = lists.into_iter().flat_map(|list| list.as_array().unwrap()).map(|item| &item["name"]);
    let mut left: Vec<String> = names.map(|name| name.as_str().unwrap().to_owned()).collect();
    let maps = [
        &state["container"]["clusters"],
        &state["registry"]["repositories"],
        &state["identity"]["accounts"]["live"],
        &state["identity"]["roles"]["custom"],
    ];
    let items = maps.into_iter().flat_map(|map| map.as_object().unwrap());
    left.extend(items.filter(|(_, item)| item["deleted"] != true).map(|(name, _)| name.clone()));
    left
}

#[tokio::test]
async fn a_removed_business_leaves_the_others_as_they_were() {
    let (one, two) = (environment(ONE), environment(TWO));
    let (google, cloud) = provisioned(&one).await;
    let before = state(&google);
    provision(&two, &cloud).await;
    let plan = remove(&two, Some(&one), &cloud, EVERYTHING).await;
    assert!(plan.changes.iter().all(|change| change.business.as_deref() != Some("bu1")));
    let text = show::render(&plan);
    assert!(text.contains("- revoke permissions on bucket desk-one-bucket\n    - projects/desk-one/roles"), "{text}");
    // What is left is the shared bucket's lifecycle, which the next run of the smaller environment puts right.
    provision(&one, &cloud).await;
    assert_same(&state(&google), &before, "without bu2");
    google.stop().await;
}

#[tokio::test]
async fn by_default_compute_goes_and_data_and_identities_stay() {
    let two = environment(TWO);
    let (google, cloud) = provisioned(&two).await;
    let plan = remove(&two, None, &cloud, Options::default()).await;
    assert!(show::summary(&plan).contains("7 to delete, 9 to revoke, 14 to keep"), "{}", show::render(&plan));
    let left = left(&google);
    let is_kept = |name: &String| {
        name.contains('@')
            || name.starts_with("deskgridObject")
            || name == "desk-one-bucket"
            || name.ends_with("/desk-one-images")
    };
    assert!(left.len() == 14 && left.iter().all(is_kept), "{left:?}");
    let project = Request::new(Api::CloudResourceManager, Method::Post, "v1/projects/desk-one:getIamPolicy");
    let members = policy_of(&cloud, project.body(json!({"options": {"requestedPolicyVersion": 3}}))).await;
    assert_eq!(members, ["user:operator@example.com"], "nothing is granted on the project any more");
    let again = provision::plan_removal(&two, None, &cloud, Options::default(), &silent()).await.unwrap();
    assert_eq!(again.pending().count(), 0);
    google.stop().await;
}

#[tokio::test]
async fn everything_goes_when_asked_but_nothing_of_others() {
    let two = environment(TWO);
    let (google, cloud) = provisioned(&two).await;
    let body = json!({"topic": {"labels": {"managed-by": "other"}}, "updateMask": "labels"});
    cloud.google.send(&Request::new(Api::Pubsub, Method::Patch, TOPIC).body(body)).await.unwrap();
    let plan = remove(&two, None, &cloud, EVERYTHING).await;
    let kept = "= keep topic desk-one-bu1-topic (bu1)\n      it is not ours: its labels are";
    assert!(show::render(&plan).contains(kept));
    assert_eq!(left(&google), ["projects/desk-one/topics/desk-one-bu1-topic"]);
    let policy = Request::get(Api::Pubsub, format!("{TOPIC}:getIamPolicy"));
    assert_eq!(policy_of(&cloud, policy).await, Vec::<String>::new());
    google.stop().await;
}

#[tokio::test]
async fn a_role_that_another_environment_has_too_stays() {
    let two = environment(TWO);
    let (google, cloud) = provisioned(&two).await;
    // Somebody else's environment in the same project, seen by an account of its own.
    let theirs = json!({"description": "managed-by=deskgrid deskgrid-env=their-desk: nodes"});
    let account = Request::new(Api::Iam, Method::Post, "v1/projects/desk-one/serviceAccounts")
        .body(json!({"accountId": "other-nodes", "serviceAccount": theirs}));
    cloud.google.send(&account).await.unwrap();
    let plan = remove(&two, None, &cloud, EVERYTHING).await;
    let text = show::render(&plan);
    assert!(text.contains("= keep role deskgridObjectLister"), "{text}");
    assert!(text.contains("the environment their-desk of this project would lose it"), "{text}");
    assert_eq!(
        left(&google),
        ["other-nodes@desk-one.iam.gserviceaccount.com", "deskgridObjectLister", "deskgridObjectMarker"]
    );
    let again = provision::plan_removal(&two, None, &cloud, EVERYTHING, &silent()).await.unwrap();
    assert_eq!(again.pending().count(), 0);
    google.stop().await;
}

#[tokio::test]
async fn messages_that_nobody_may_read_are_not_taken_for_none() {
    let environment = environment(ONE);
    let faults = Faults::default();
    let shared = faults.clone();
    let google = fixture::google(move |options| {
        options.faults = shared;
        options.enforce_apis = false;
    })
    .await;
    faults.add("POST", ":pull", When::Always, Fault::Answer(403));
    let cloud = cloud(client(&google));
    let business = &environment.businesses[0];
    let count = || data::held_messages(&cloud, &environment.project, business);
    assert_eq!(count().await.unwrap(), 0, "there is no subscription");
    provision(&environment, &cloud).await;
    let error = count().await.unwrap_err();
    let failure: &Failure = error.downcast_ref().unwrap();
    assert_eq!((failure.code, &failure.on), ("pending", &business.subscription));
    assert!(failure.next.contains("roles/pubsub.subscriber"), "{failure}");
    google.stop().await;
}

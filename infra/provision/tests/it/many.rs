//! Fifty businesses: as many waves as for three, a plan that fits on a screen or two, and limits met before Google
//! does.

use std::sync::{Arc, Mutex};

use provision::{
    google::{Api, Call, Method, Request},
    plan, show,
};
use serde_json::json;

use crate::{
    fixture::{self, ONE, TWO, client, cloud, environment, silent},
    waves::{Span, WAVES, spans, waves},
};

const COUNT: usize = 50;

fn file(more: &str) -> String {
    let businesses: String = (1..=COUNT).map(|number| format!("[businesses.desk{number}]\n")).collect();
    format!("{more}{businesses}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_businesses_are_provisioned_side_by_side_and_shown_in_a_line_each() {
    let served: Vec<String> = (1..=20).map(|number| format!("\"desk{number}\"")).collect();
    let environment = environment(&file(&format!("[web]\nbusinesses = [{}]\n", served.join(", "))));
    let google = fixture::google(|_| {}).await;
    let cloud = cloud(client(&google));

    let plan = provision::make_plan(&environment, &cloud, plan::Options::default(), &silent()).await.unwrap();
    let shown = show::render(&plan);
    println!("{shown}");
    let lines = shown.lines().count();
    assert!(lines < COUNT + 40, "{lines} lines");
    let line = shown.lines().find(|line| line.contains(" desk7:")).unwrap();
    assert_eq!(line, "+ create desk7: 2 topics, 1 subscription, 3 service accounts, 14 grants");
    // Everything is still in the plan itself.
    let of_one = |change: &&plan::Change| change.business.as_deref() == Some("desk7");
    assert!(plan.changes.iter().filter(of_one).count() > 8);

    // The projects' quota of accounts is not enough for so many, unless it was raised: said, and gone on.
    let findings = provision::preflight::check(&environment, &cloud, Some(&plan)).await;
    let quota = findings.iter().find(|found| found.what == "quota: service accounts").unwrap();
    assert!(!quota.fine && !quota.needed && quota.seen.contains("154 are to be created"), "{quota:?}");
    assert!(quota.fix.as_ref().unwrap().contains("Service Account Count"));
    provision::preflight::pass(&environment, &findings).unwrap();

    let report = provision::run(&environment, &cloud, plan::Options::default(), &silent()).await.unwrap();
    assert!(report.applied.done > 10 * COUNT, "{}", report.applied.done);
    let again = provision::make_plan(&environment, &cloud, plan::Options::default(), &silent()).await.unwrap();
    assert!(again.is_empty());
    google.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_businesses_take_no_more_waves_than_three() {
    use std::time::Duration;

    use localcloud::faults::{Fault, Faults, When};

    let faults = Faults::default();
    let told = faults.clone();
    let google = fixture::google(move |options| options.faults = told).await;
    // Long enough for a wave of hundreds on a machine that has much else to do.
    faults.add("", "", When::Always, Fault::Delay(Duration::from_millis(500)));
    let seen: Arc<Mutex<Vec<Span>>> = Arc::default();
    let calls = seen.clone();
    let observed = client(&google).observed(Arc::new(move |call: &Call<'_>| calls.lock().unwrap().push(spans(call))));
    let environment = environment(&file("[web]\nenabled = false\n"));
    provision::run(&environment, &cloud(observed), plan::Options::default(), &silent()).await.unwrap();
    let mut calls = std::mem::take(&mut *seen.lock().unwrap());
    let count = calls.len();
    let chain = waves(&mut calls);
    println!("provision of {COUNT} businesses: {count} calls in {} waves\n  {}", chain.len(), chain.join("\n  "));
    // The reads of one look are more than are in flight at once, and so are the changes that wait for nothing.
    assert!(chain.len() <= WAVES + 24, "{chain:#?}");
    assert!(count > 20 * chain.len(), "{count} calls in {} waves", chain.len());
    google.stop().await;
}

#[tokio::test]
async fn what_iam_would_refuse_is_refused_before_anything_is_written() {
    let google = fixture::google(|_| {}).await;
    let cloud = cloud(client(&google));
    let (one, both) = (environment(ONE), environment(&[ONE, TWO].concat()));
    provision::run(&one, &cloud, plan::Options::default(), &silent()).await.unwrap();
    // Others have filled the policy of the bucket nearly up.
    let path = format!("storage/v1/b/{}/iam", one.bucket);
    let read = Request::get(Api::Storage, &path).query("optionsRequestedPolicyVersion", "3");
    let mut policy = cloud.google.send(&read).await.unwrap();
    let members: Vec<String> = (0..1470).map(|number| format!("user:u{number}@bank.example")).collect();
    let theirs = json!({"role": "roles/storage.objectViewer", "members": members});
    policy["bindings"].as_array_mut().unwrap().push(theirs);
    cloud.google.send(&Request::new(Api::Storage, Method::Put, &path).body(policy)).await.unwrap();

    let before = fixture::world(&google);
    let plan = provision::plan_addition(&one, &both, &cloud, plan::Options::default(), &silent()).await.unwrap();
    let blockers: Vec<String> = plan.blockers().map(|change| serde_json::to_string(change).unwrap()).collect();
    assert_eq!(blockers.len(), 1, "{blockers:#?}");
    assert!(blockers[0].contains("principals in its bindings, of 1500 at most"), "{}", blockers[0]);
    assert!(blockers[0].contains("give some businesses a `bucket` of their own"), "{}", blockers[0]);
    assert!(provision::carry_out(plan, &cloud, &silent()).await.is_err());
    fixture::assert_same(&fixture::world(&google), &before, "a plan that is blocked");
    google.stop().await;
}

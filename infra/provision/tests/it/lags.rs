//! The verbs on a cloud where everything that can be late is late, and where others are at work: they end in the same
//! world all the same, also when they are stopped on the way.

use std::time::Duration;

use futures::StreamExt as _;
use localcloud::{
    faults::{Fault, Faults, When},
    google::{Google, Options},
    identity::lags::Lags,
};
use provision::google::{Api, Method, Request};
use serde_json::json;

use crate::{
    fixture::{self, Verb, assert_same, client, cloud, world},
    interruptions::Case,
    sample::is_long,
};

/// How late things are: many times the pause between two looks of the tests' clients.
const LATE: Duration = Duration::from_millis(40);
/// No run of a verb takes this long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// One way in which a cloud is inconvenient.
struct Weather {
    name: &'static str,
    tell: fn(&mut Options),
    fault: fn(&Faults),
}

const CALM: fn(&mut Options) = |_| {};
const NO_FAULT: fn(&Faults) = |_| {};

const WEATHER: [Weather; 12] = [
    Weather { name: "new accounts are invisible", tell: |it| it.lags.accounts = LATE, fault: NO_FAULT },
    Weather { name: "grants take effect late", tell: |it| it.lags.grants = LATE, fault: NO_FAULT },
    Weather { name: "enabled services are refused for a while", tell: |it| it.lags.services = LATE, fault: NO_FAULT },
    Weather { name: "operations are slow", tell: |it| it.operations_take = LATE * 3, fault: NO_FAULT },
    Weather { name: "others write the same policies", tell: CALM, fault: conflicts },
    Weather { name: "too many requests", tell: CALM, fault: |faults| answer(faults, 3, 429) },
    Weather { name: "servers fail", tell: CALM, fault: failures },
    Weather { name: "the project is brand-new", tell: CALM, fault: brand_new },
    Weather { name: "other services are switched", tell: CALM, fault: switching },
    Weather { name: "operations are not known at once", tell: |it| it.operations_take = LATE, fault: unknown },
    Weather { name: "quotas for each minute are used up", tell: CALM, fault: quotas },
    Weather { name: "all at once", tell: storm, fault: all },
];

fn storm(options: &mut Options) {
    options.lags = Lags { accounts: LATE, grants: LATE, services: LATE, keys: LATE };
    options.operations_take = LATE;
}

fn answer(faults: &Faults, every: usize, code: u16) {
    faults.add("", "", When::Every(every), Fault::Answer(code));
}

fn conflicts(faults: &Faults) {
    faults.add("POST", ":setIamPolicy", When::Every(2), Fault::Answer(409));
    faults.add("PUT", "/iam", When::Every(2), Fault::Answer(412));
}

fn failures(faults: &Faults) {
    answer(faults, 4, 503);
    answer(faults, 7, 500);
    faults.add("", "", When::Every(9), Fault::DropBefore);
    faults.add("", "", When::Every(11), Fault::DropAfter);
}

fn brand_new(faults: &Faults) {
    let again = r#"{"error": {"code": 400, "status": "FAILED_PRECONDITION",
        "message": "Cloud Pub/Sub did not have the necessary permissions configured yet. Please retry this operation."}}"#;
    faults.add("PUT", "/topics/", When::Every(2), Fault::Say(400, again));
    faults.add("PUT", "/subscriptions/", When::Every(2), Fault::Say(400, again));
    let busy = r#"{"error": {"code": 409, "message": "busy", "errors": [{"reason": "operationInProgress"}]}}"#;
    faults.add("", "/storage/v1/b", When::Every(3), Fault::Say(409, busy));
}

fn switching(faults: &Faults) {
    let switched = r#"{"error": {"code": 400, "status": "FAILED_PRECONDITION",
        "message": "Another activation or deactivation is in progress for the following container(s)."}}"#;
    faults.add("POST", "nable", When::Between(1, 2), Fault::Say(400, switched));
    let failed = r#"{"name": "operations/1", "done": true, "error": {"code": 9, "message": "Failed: 160009"}}"#;
    faults.add("GET", "/v1/operations/", When::Between(1, 2), Fault::Say(200, failed));
}

fn unknown(faults: &Faults) {
    faults.add("GET", "/operations/", When::Every(2), Fault::Answer(404));
}

fn quotas(faults: &Faults) {
    let minute = r#"{"error": {"code": 403, "status": "PERMISSION_DENIED", "message":
        "Quota exceeded for quota metric 'Write requests' and limit 'Write requests per minute' of service 'x'."}}"#;
    faults.add("", "/v1/", When::Every(3), Fault::Say(403, minute));
    let operations = r#"{"error": {"code": 403, "message": "x", "status": "PERMISSION_DENIED",
        "details": [{"reason": "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED"}]}}"#;
    faults.add("POST", "/clusters", When::Between(1, 2), Fault::Say(403, operations));
}

fn all(faults: &Faults) {
    conflicts(faults);
    answer(faults, 13, 429);
    answer(faults, 11, 503);
    faults.add("", "", When::Every(17), Fault::DropBefore);
    faults.add("", "", When::Every(19), Fault::DropAfter);
}

/// Somebody else's operation on the cluster, which changes nothing and is in the way.
async fn somebody_upgrades(google: &Google) {
    let path = format!("v1/projects/{}/locations/europe-west1/clusters/{}-cluster", fixture::PROJECT, fixture::PROJECT);
    let other = client(google);
    let Some(live) = other.send_optional(&Request::get(Api::Container, &path)).await.unwrap() else { return };
    let update = json!({"update": {"desiredReleaseChannel": live["releaseChannel"]}});
    other.send(&Request::new(Api::Container, Method::Put, &path).body(update)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_waits_for_what_is_late() {
    for verb in Verb::ALL {
        let case = Case::of(verb).await;
        // In a sample, each weather for one verb, and all of it at once for each.
        let some = WEATHER.iter().enumerate().filter(|(index, weather)| {
            is_long() || index % Verb::ALL.len() == verb as usize || weather.name == "all at once"
        });
        let runs = some.map(|(_, weather)| async {
            let (google, faults) = case.begin(weather.tell).await;
            (weather.fault)(&faults);
            let named = format!("{verb:?} while {}", weather.name);
            let ended = tokio::time::timeout(LIMIT, verb.run(&cloud(client(&google)))).await;
            ended.unwrap_or_else(|_| panic!("{named} hangs")).unwrap_or_else(|error| panic!("{named}: {error:#}"));
            faults.clear();
            assert_same(&world(&google), &case.end, &named);
            google.stop().await;
        });
        futures::stream::iter(runs).buffer_unordered(4).collect::<Vec<()>>().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_stopped_on_the_way_goes_on_when_everything_is_late() {
    // A part of the requests, another one for each verb; all of them are stopped at in calm weather.
    let step = if is_long() { 6 } else { 40 };
    let mut stopped = 0;
    for verb in Verb::ALL {
        let case = Case::of(verb).await;
        let some = case.points.iter().enumerate().filter(|(index, _)| index % step == verb as usize);
        let runs = some.flat_map(|(_, point)| [Fault::SilentBefore, Fault::SilentAfter].map(|fault| (point, fault)));
        let met: Vec<bool> = futures::stream::iter(runs)
            .map(|(point, fault)| case.interrupt(point, fault, storm))
            .buffer_unordered(4)
            .collect()
            .await;
        stopped += met.into_iter().filter(|met| *met).count();
    }
    println!("stopped {stopped} times with every lag");
    assert!(stopped > if is_long() { 60 } else { 8 }, "{stopped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_operation_on_the_cluster_is_waited_for() {
    // A teardown, which deletes the cluster.
    let case = Case::of(Verb::Teardown).await;
    let (google, _) = case.begin(|options| options.operations_take = LATE * 5).await;
    somebody_upgrades(&google).await;
    Verb::Teardown.run(&cloud(client(&google))).await.unwrap();
    assert_same(&world(&google), &case.end, "a teardown during an upgrade");
    google.stop().await;

    // A provision that has to repair the cluster.
    let case = Case::of(Verb::AddBusiness).await;
    let (google, _) = case.begin(|options| options.operations_take = LATE * 5).await;
    let before = world(&google);
    let path = format!(
        "v1/projects/{project}/locations/europe-west1/clusters/{project}-cluster/nodePools/engines",
        project = fixture::PROJECT
    );
    let drift = Request::new(Api::Container, Method::Post, format!("{path}:setAutoscaling"))
        .body(json!({"autoscaling": {"enabled": true, "maxNodeCount": 99}}));
    // The drift itself is an operation that is still under way.
    client(&google).send(&drift).await.unwrap();
    tokio::time::sleep(LATE * 6).await;
    somebody_upgrades(&google).await;
    Verb::Provision.run(&cloud(client(&google))).await.unwrap();
    assert_same(&world(&google), &before, "a provision during an upgrade");
    google.stop().await;
}

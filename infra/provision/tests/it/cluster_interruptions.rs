//! The verbs that reach the cluster too, stopped at every request that the others do not send: those to Kubernetes,
//! those about keys and about the lock. Run again, the world is as if nothing had been.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use localcloud::faults::{Fault, When};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    desk::{Desk, Snapshot, Verb},
    fixture::assert_same,
    interruptions::{Point, assert_nothing_labelled, points},
    sample::{is_long, sample, stops},
};

/// In a sample, one in so many requests of a kind that was stopped at already.
const STEP: usize = 50;
/// Worlds at once.
const AT_ONCE: usize = 4;
/// No run of a verb takes this long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

struct Case {
    verb: Verb,
    start: Snapshot,
    end: Value,
    points: BTreeSet<Point>,
}

impl Case {
    /// The case of a verb, which all tests share.
    async fn of(verb: Verb) -> &'static Self {
        static CASES: [OnceCell<Case>; Verb::ALL.len()] = [const { OnceCell::const_new() }; Verb::ALL.len()];
        CASES[verb as usize].get_or_init(|| Self::make(verb)).await
    }

    async fn make(verb: Verb) -> Self {
        let desk = Desk::start(None).await;
        verb.prepare(&desk).await;
        let start = desk.snapshot();
        desk.faults.record();
        verb.run(&desk, &desk.cloud().await).await.unwrap();
        let points = points(desk.requests());
        let end = desk.world();
        desk.stop().await;
        Self { verb, start, end, points }
    }

    /// Stops the verb at a point, and runs it again. Tells whether the point was met.
    async fn interrupt(&self, point: &Point, fault: Fault) -> bool {
        let desk = Desk::start(Some(&self.start)).await;
        let named = format!("{:?}, {fault:?} at {point}", self.verb);
        let stop =
            desk.faults.add(&point.method, &point.path, When::Between(point.occurrence, point.occurrence), fault);
        let killed = desk.cloud().await;
        let met = tokio::select! {
            biased;
            () = desk.faults.meets(stop) => true,
            ended = self.verb.run(&desk, &killed) => {
                ended.unwrap_or_else(|error| panic!("{named}: failed without having been stopped: {error:#}"));
                false
            }
            () = tokio::time::sleep(LIMIT) => panic!("{named}: hangs before"),
        };
        // With the process its connections go.
        drop(killed);
        desk.faults.clear();
        let again = desk.cloud().await;
        tokio::time::timeout(LIMIT, self.verb.run(&desk, &again))
            .await
            .unwrap_or_else(|_| panic!("{named}: run again, it hangs"))
            .unwrap_or_else(|error| panic!("{named}: {error:#}"));
        assert_same(&desk.world(), &self.end, &named);
        if self.verb == Verb::Deploy && fault == Fault::SilentAfter {
            Verb::Teardown.run(&desk, &again).await.unwrap_or_else(|error| panic!("{named}, then: {error:#}"));
            assert_empty(&desk.world(), &named);
        }
        desk.stop().await;
        met
    }
}

/// Neither Google nor the cluster has anything that says it is ours.
fn assert_empty(world: &Value, when: &str) {
    assert_nothing_labelled(&world["google"], when);
    let cluster = world["cluster"].to_string();
    assert!(!cluster.contains("deskgrid"), "{when}: something is left in the cluster: {cluster}");
}

/// Whether only the tests of this file stop at a request.
fn is_of_here(point: &Point) -> bool {
    let Point { path, .. } = point;
    path.starts_with("/api") || path.contains("/keys") || path.contains("lock.json") || path.starts_with("/upload/")
}

/// Requests of one kind in a sample: the same method of the same part of an API. A case takes a second here.
fn kind(point: &Point) -> String {
    let part = point.path.trim_start_matches('/').split('/').next().unwrap_or_default();
    format!("{} {part}", point.method)
}

async fn interrupted_everywhere(verb: Verb) {
    let begun = Instant::now();
    let case = Case::of(verb).await;
    if verb == Verb::Teardown {
        assert_empty(&case.end, "undisturbed");
    }
    let points: Vec<&Point> = case.points.iter().filter(|point| is_of_here(point)).collect();
    assert!(points.iter().filter(|point| point.path.starts_with("/api")).count() > 8, "{points:#?}");
    let met: Vec<(bool, &Point)> = futures::stream::iter(stops(points.iter().copied(), STEP, kind))
        .map(|(point, fault)| async move { (case.interrupt(point, fault).await, point) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let missed: Vec<String> = met.iter().filter(|(met, _)| !met).map(|(_, point)| point.to_string()).collect();
    println!(
        "{verb:?}: stopped {} times, of {} requests, in {:.1} s, {} of them not sent again",
        met.len(),
        points.len(),
        begun.elapsed().as_secs_f64(),
        missed.len(),
    );
    // Only what is asked again and again until it is so can be asked once less; and a rollout may be over before the
    // watch of its pods begins.
    let may_be_less = |point: &String| point.starts_with("GET") && (!point.ends_with("(1)") || point.contains("/pods"));
    assert!(missed.iter().all(may_be_less), "{missed:#?}");
}

/// The connection breaks when a write was carried out. What goes to Google the verb sends again by itself; a write to
/// the cluster may end it, and run again it goes on. Nothing is made twice.
async fn without_an_answer(verb: Verb) {
    let case = Case::of(verb).await;
    let writes = case.points.iter().filter(|point| is_of_here(point) && point.is_write());
    let writes = sample(writes, STEP, |point| kind(point));
    assert!(writes.len() > if is_long() { 3 } else { 1 }, "{writes:#?}");
    let runs = writes.iter().map(|point| async move {
        let desk = Desk::start(Some(&case.start)).await;
        let named = format!("{verb:?} without the answer to {point}");
        let when = When::Between(point.occurrence, point.occurrence);
        let lost = desk.faults.add(&point.method, &point.path, when, Fault::DropAfter);
        let run = async || tokio::time::timeout(LIMIT, verb.run(&desk, &desk.cloud().await)).await;
        let ended = run().await.unwrap_or_else(|_| panic!("{named} hangs"));
        assert_eq!(desk.faults.met(lost), 1, "{named}");
        if let Err(error) = ended {
            assert!(point.path.starts_with("/api"), "{named}: {error:#}");
            let again = run().await.unwrap_or_else(|_| panic!("{named}, and again: it hangs"));
            again.unwrap_or_else(|error| panic!("{named}, and again: {error:#}"));
        }
        assert_same(&desk.world(), &case.end, &named);
        desk.stop().await;
    });
    println!("{verb:?}: {} writes without an answer", writes.len());
    futures::stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_any_write_leaves_no_key_and_no_object_too_many() {
    for verb in Verb::ALL {
        // What it writes to the cluster, a deploy writes too.
        if is_long() || verb != Verb::AddBusiness {
            without_an_answer(verb).await;
        }
    }
}

/// A deploy ends only when IAM shows the keys that it made: a second one makes none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_iam_shows_late_are_made_once() {
    let late = Duration::from_millis(500);
    let desk = Desk::start_on(None, |options| options.lags.keys = late).await;
    Verb::Deploy.prepare(&desk).await;
    let begun = Instant::now();
    for _ in 0..2 {
        Verb::Deploy.run(&desk, &desk.cloud().await).await.unwrap();
        assert!(begun.elapsed() > late, "the keys were not waited for");
    }
    let world = desk.world();
    let accounts = world["google"]["identity"]["accounts"]["by_uid"].as_object().unwrap();
    let keys: Vec<usize> = accounts.values().filter_map(|account| account["keys"].as_array().map(Vec::len)).collect();
    let having: Vec<usize> = keys.into_iter().filter(|keys| *keys > 0).collect();
    assert_eq!(having, [1, 1, 1], "the orchestrator, the engine and the monitor have one key each");
    desk.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploy_stopped_at_any_request_converges_and_can_be_torn_down() {
    interrupted_everywhere(Verb::Deploy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn add_business_stopped_in_the_cluster_converges() {
    interrupted_everywhere(Verb::AddBusiness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotate_keys_stopped_at_any_request_leaves_one_key_for_each_account() {
    interrupted_everywhere(Verb::RotateKeys).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remove_business_stopped_in_the_cluster_converges() {
    interrupted_everywhere(Verb::RemoveBusiness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teardown_stopped_in_the_cluster_leaves_nothing() {
    interrupted_everywhere(Verb::Teardown).await;
}

//! Every verb is stopped at every request it sends, before the request is carried out and after, and run again: the
//! world is the same as if it had never been stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use localcloud::{
    faults::{Fault, Faults, When},
    google::Options,
};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::{
    drift::drift,
    fixture::{self, Saved, Verb, assert_same, client, cloud, world},
    sample::{is_long, sample, stops},
};

/// In a sample, one in so many requests of a kind that was stopped at already.
const STEP: usize = 25;
/// Worlds at once.
const AT_ONCE: usize = 4;
/// No run of a verb takes this long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A request of a verb: the how-manieth of its method and path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) occurrence: usize,
}

impl Point {
    pub(crate) fn is_write(&self) -> bool {
        self.method != "GET" && !self.path.ends_with(":getIamPolicy$")
    }

    /// Its method and path without names: `PUT projects/*/topics/*`.
    pub(crate) fn kind(&self) -> String {
        let is_version = |part: &&str| part.starts_with('v') && part[1..].starts_with(|it: char| it.is_ascii_digit());
        let parts: Vec<&str> = self.path.trim_matches('/').trim_end_matches('$').split('/').collect();
        let version = parts.iter().position(is_version).map_or(0, |at| at + 1);
        let shape = parts[version..].iter().enumerate().map(|(index, part)| match (index % 2, part.split_once(':')) {
            (0, _) => (*part).to_owned(),
            (_, Some((_, verb))) => format!("*:{verb}"),
            (_, None) => "*".to_owned(),
        });
        format!("{} {}", self.method, shape.collect::<Vec<_>>().join("/"))
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({})", self.method, self.path, self.occurrence)
    }
}

/// What a verb needs to begin with, and how it ends undisturbed.
pub(crate) struct Case {
    pub(crate) verb: Verb,
    start: Saved,
    pub(crate) end: Value,
    pub(crate) points: BTreeSet<Point>,
}

/// The path of a point: names that are drawn anew each time are cut off, and the rest is a part of it.
fn place(path: &str) -> String {
    let drawn = ["/operations/", "/notificationConfigs/", "/keys/", "/alertPolicies/"];
    match drawn.iter().find_map(|part| path.find(part).map(|at| at + part.len())) {
        Some(end) => path[..end].to_owned(),
        None => format!("{path}$"),
    }
}

/// The points that requests are, each once for each time it came.
pub(crate) fn points(requests: Vec<(String, String)>) -> BTreeSet<Point> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let place = |(method, path): (String, String)| {
        let path = place(&path);
        let count = counts.entry((method.clone(), path.clone())).or_default();
        *count += 1;
        Point { method, path, occurrence: *count }
    };
    requests.into_iter().map(place).collect()
}

impl Case {
    /// The case of a verb, which all tests share.
    pub(crate) async fn of(verb: Verb) -> &'static Self {
        static CASES: [OnceCell<Case>; Verb::ALL.len()] = [const { OnceCell::const_new() }; Verb::ALL.len()];
        CASES[verb as usize].get_or_init(|| Self::make(verb)).await
    }

    async fn make(verb: Verb) -> Self {
        let faults = Faults::default();
        let told = faults.clone();
        let google = fixture::google(move |options| options.faults = told).await;
        verb.prepare(&google).await;
        let start = Saved::of(&google);
        faults.record();
        verb.run(&cloud(client(&google))).await.unwrap();
        let points = points(faults.take_record());
        let end = world(&google);
        google.stop().await;
        Self { verb, start, end, points }
    }

    /// A cloud as it is before the verb.
    pub(crate) async fn begin(&self, tell: impl FnOnce(&mut Options)) -> (localcloud::google::Google, Faults) {
        let faults = Faults::default();
        let told = faults.clone();
        let google = fixture::google(move |options| {
            options.faults = told;
            tell(options);
        })
        .await;
        self.start.load_into(&google);
        (google, faults)
    }

    /// Stops the verb at a point, and runs it again. Tells whether the point was met: a poll more or less is no
    /// difference to the verb.
    pub(crate) async fn interrupt(&self, point: &Point, fault: Fault, tell: impl FnOnce(&mut Options)) -> bool {
        let (google, faults) = self.begin(tell).await;
        let when = When::Between(point.occurrence, point.occurrence);
        let stop = faults.add(&point.method, &point.path, when, fault);
        let killed = cloud(client(&google));
        let met = tokio::select! {
            biased;
            () = faults.meets(stop) => true,
            ended = self.verb.run(&killed) => {
                ended.unwrap_or_else(|error| panic!("{:?} failed without having been stopped at {point}: {error:#}", self.verb));
                false
            }
            () = tokio::time::sleep(LIMIT) => panic!("{:?} hangs before {point}", self.verb),
        };
        // With the process its connections go.
        drop(killed);
        faults.clear();
        let again = tokio::time::timeout(LIMIT, self.verb.run(&cloud(client(&google)))).await;
        let named = format!("{:?}, {fault:?} at {point}", self.verb);
        again
            .unwrap_or_else(|_| panic!("{named}: run again, it hangs"))
            .unwrap_or_else(|error| panic!("{named}: {error:#}"));
        assert_same(&world(&google), &self.end, &named);
        // What a teardown leaves is the same then; that it does leave nothing is watched for each verb that makes.
        if self.verb == Verb::Provision && met && (is_long() || fault == Fault::SilentAfter) {
            Verb::Teardown
                .run(&cloud(client(&google)))
                .await
                .unwrap_or_else(|error| panic!("{named}, then: {error:#}"));
            assert_nothing_labelled(&world(&google), &named);
        }
        google.stop().await;
        met
    }
}

/// Nothing in the world says that it is ours.
pub(crate) fn assert_nothing_labelled(world: &Value, when: &str) {
    for part in ["pubsub", "storage", "container", "registry", "monitoring"] {
        let text = world[part].to_string();
        assert!(!text.contains("deskgrid"), "{when}: something of {part} is left: {text}");
    }
    let accounts = world["identity"]["accounts"]["live"].to_string();
    assert_eq!(accounts, "{}", "{when}: accounts are left");
}

async fn interrupted_everywhere(verb: Verb) {
    interrupted(verb, |_| true).await;
}

/// Stops a verb at those of its requests that `desired` says.
async fn interrupted(verb: Verb, desired: impl Fn(&Point) -> bool) {
    let begun = Instant::now();
    let case = Case::of(verb).await;
    let points: Vec<&Point> = case.points.iter().filter(|point| desired(point)).collect();
    assert!(points.len() > 15, "{points:#?}");
    // The lock is a part of it.
    assert!(
        points.iter().filter(|point| point.path.contains("lock.json") || point.path.contains("/upload/")).count() > 1
    );
    let met: Vec<(bool, &Point)> = futures::stream::iter(stops(points.iter().copied(), STEP, Point::kind))
        .map(|(point, fault)| async move { (case.interrupt(point, fault, |_| {}).await, point) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let missed: Vec<String> = met.iter().filter(|(met, _)| !met).map(|(_, point)| point.to_string()).collect();
    println!(
        "{verb:?}: stopped {} times, of {} requests, in {:.1} s",
        met.len(),
        points.len(),
        begun.elapsed().as_secs_f64()
    );
    // Only what is asked again and again until it is done can be asked once less.
    assert!(missed.iter().all(|point| point.contains("/operations")), "{missed:#?}");
}

/// The connection breaks when a request was carried out, and the verb goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_any_write_makes_nothing_twice() {
    for verb in Verb::ALL {
        let case = Case::of(verb).await;
        let points = sample(case.points.iter().filter(|point| point.is_write()), STEP, |point| point.kind());
        assert!(points.len() > 3, "{points:#?}");
        let runs = points.into_iter().map(|point| async move {
            let (google, faults) = case.begin(|_| {}).await;
            let when = When::Between(point.occurrence, point.occurrence);
            let lost = faults.add(&point.method, &point.path, when, Fault::DropAfter);
            let named = format!("{verb:?} without the answer to {point}");
            let ended = tokio::time::timeout(LIMIT, verb.run(&cloud(client(&google)))).await;
            ended.unwrap_or_else(|_| panic!("{named} hangs")).unwrap_or_else(|error| panic!("{named}: {error:#}"));
            assert_eq!(faults.met(lost), 1, "{named}");
            assert_same(&world(&google), &case.end, &named);
            google.stop().await;
        });
        futures::stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hand_changed_is_put_right_also_when_that_is_stopped_at_any_write() {
    // As it was before anybody changed it.
    let google = fixture::google(|_| {}).await;
    Verb::Provision.run(&cloud(client(&google))).await.unwrap();
    fixture::put(&google, "bu1/output/s/j/1-0").await;
    let before = world(&google);
    drift(&google).await;
    Verb::Repair.run(&cloud(client(&google))).await.unwrap();
    assert_same(&world(&google), &before, "put right");
    google.stop().await;
    interrupted(Verb::Repair, Point::is_write).await;
}

/// What was just made is not everywhere yet: it is looked at again until it is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_just_made_and_is_not_seen_yet_is_looked_at_again() {
    for verb in [Verb::Provision, Verb::AddBusiness] {
        let case = Case::of(verb).await;
        // Of each resource the first two reads are the two looks before anything is made.
        let reads = case.points.iter().filter(|point| !point.is_write() && point.occurrence > 2);
        // Services are there whether or not they are enabled, and are looked at in between.
        let others = ["lock.json", "services:batchGet"];
        let reads = reads.filter(|point| others.iter().all(|part| !point.path.contains(part)));
        let reads = sample(reads, STEP, |point| point.kind());
        assert!(!reads.is_empty());
        let runs = reads.iter().map(|point| async move {
            let (google, faults) = case.begin(|_| {}).await;
            let when = When::Between(point.occurrence, point.occurrence + 1);
            let unseen = faults.add(&point.method, &point.path, when, Fault::Answer(404));
            let named = format!("{verb:?} with a 404 to {point}");
            let ended = tokio::time::timeout(LIMIT, verb.run(&cloud(client(&google)))).await;
            ended.unwrap_or_else(|_| panic!("{named} hangs")).unwrap_or_else(|error| panic!("{named}: {error:#}"));
            assert!(faults.met(unseen) > 0, "{named}");
            assert_same(&world(&google), &case.end, &named);
            google.stop().await;
        });
        println!("{verb:?}: {} reads not seen at first", reads.len());
        futures::stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provision_stopped_at_any_request_converges_and_can_be_torn_down() {
    interrupted_everywhere(Verb::Provision).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn add_business_stopped_at_any_request_converges() {
    interrupted_everywhere(Verb::AddBusiness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remove_business_stopped_at_any_request_converges() {
    interrupted_everywhere(Verb::RemoveBusiness).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teardown_stopped_at_any_request_leaves_nothing() {
    let case = Case::of(Verb::Teardown).await;
    assert_nothing_labelled(&case.end, "undisturbed");
    interrupted_everywhere(Verb::Teardown).await;
}

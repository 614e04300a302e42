//! Two operators at once: one works, the other is told and waits; a lock whose holder died is taken over.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use provision::{
    Report,
    apply::Progress,
    environment::Environment,
    failure::Failure,
    google::{Api, Method, Request},
    lock::{Acquired, Event, Holder, LEASE, Lock, OBJECT, Record, Settings},
    locked, plan,
};
use serde_json::json;

use crate::world::{World, eventually};

const BUCKET: &str = "test-desk-bucket";
const TOPIC: &str = "v1/projects/test-desk/topics/test-desk-bu1-topic";

/// What an operator was told.
type Messages = Arc<Mutex<Vec<String>>>;

fn operator(world: &World, who: &str, wait: Duration) -> (Settings, Messages) {
    let messages: Messages = Arc::default();
    let seen = messages.clone();
    let clock = world.cloud.clock.clone();
    let holder = Holder { who: who.to_owned(), host: "h".to_owned(), process: 1, space: None };
    let mut settings = Settings::new(
        holder,
        "provision",
        wait,
        Arc::new(move |event| {
            let line = match event {
                Event::Waiting(record) => format!("waits for {}", record.map_or("?", |record| &record.holder.who)),
                Event::TakenOver(record, _) => {
                    format!("takes over from {}", record.map_or("?", |record| &record.holder.who))
                }
                Event::Without => "without".to_owned(),
                Event::Kept(why) => format!("kept: {why}"),
            };
            seen.lock().unwrap().push(line);
        }),
    );
    settings.now = Arc::new(move || clock.now());
    settings.poll_every = Duration::from_millis(20);
    settings.renew_every = Duration::from_millis(50);
    (settings, messages)
}

fn silent() -> Progress {
    Arc::new(|_| {})
}

async fn taken(world: &World, settings: &Settings) -> Lock {
    match Lock::acquire(&world.clients.google, BUCKET, "test", settings).await.unwrap() {
        Acquired::Held(lock) => *lock,
        Acquired::NoBucket => panic!("there is a bucket"),
    }
}

async fn look(world: &World, environment: &Environment) -> anyhow::Result<plan::Plan> {
    provision::make_plan(environment, &world.clients, plan::Options::default(), &silent()).await
}

async fn provision(world: &World, environment: &Environment, settings: &Settings) -> anyhow::Result<Report> {
    let agreed = look(world, environment).await?;
    let again = async || look(world, environment).await;
    locked::carry_out_locked(environment, &world.clients, agreed, settings, &silent(), again).await
}

async fn record(world: &World) -> Option<Record> {
    let (_, bytes) = world.store.read(BUCKET, OBJECT, None).await.unwrap()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

async fn change_topic(world: &World, labels: serde_json::Value) {
    let body = json!({"topic": {"labels": labels}, "updateMask": "labels"});
    world.clients.google.send(&Request::new(Api::Pubsub, Method::Patch, TOPIC).body(body)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_operator_waits_and_takes_over_from_one_who_died() {
    let world = World::start(&["bu1"], "").await;
    let hour = Duration::from_secs(3600);
    let ((ann, _), (bob, messages)) = (operator(&world, "ann", hour), operator(&world, "bob", hour));
    change_topic(&world, json!({"managed-by": "deskgrid", "deskgrid-env": "test"})).await;

    // Ann's is renewed while she works, and says what she does.
    let hers = taken(&world, &ann).await;
    hers.step("makes 3 changes");
    let first = record(&world).await.unwrap();
    world.cloud.clock.advance(Duration::from_secs(20));
    assert!(hers.renew().await.unwrap());
    let renewed = record(&world).await.unwrap();
    assert!(renewed.expires > first.expires && renewed.since == first.since && renewed.step == "makes 3 changes");

    // Who does not want to wait is told at once, and nothing is changed.
    let error = provision(&world, &world.environment, &operator(&world, "eve", Duration::ZERO).0).await.unwrap_err();
    let failure = error.downcast_ref::<Failure>().unwrap();
    assert_eq!(failure.code, "locked");
    assert!(failure.why.contains("ann on h (process 1) has it for `provision` since 2"), "{}", failure.why);
    assert!(failure.why.ends_with("and makes 3 changes"), "{}", failure.why);
    assert_eq!(look(&world, &world.environment).await.unwrap().pending().count(), 1);

    // Bob waits. Ann is gone; a lease later he takes over, and his work is done.
    let works = provision(&world, &world.environment, &bob);
    let ends = async {
        eventually("bob waits", async || messages.lock().unwrap().as_slice() == ["waits for ann"]).await;
        assert_eq!(record(&world).await.unwrap().holder.who, "ann");
        world.cloud.clock.advance(LEASE);
    };
    let (report, ()) = tokio::join!(works, ends);
    assert_eq!(report.unwrap().applied.done, 1);
    assert_eq!(*messages.lock().unwrap(), ["waits for ann", "takes over from ann"]);
    assert!(look(&world, &world.environment).await.unwrap().is_empty());
    assert_eq!(record(&world).await, None, "it was given back");

    // She was not dead, only asleep: her lock is lost, and what she does stops where it is.
    let error = hers.hold(std::future::pending::<anyhow::Result<()>>()).await.unwrap_err();
    assert_eq!(error.downcast_ref::<Failure>().unwrap().code, "lock-lost");

    // Without changes there is no lock, not even while somebody has it.
    let _hers = taken(&world, &ann).await;
    let report = provision(&world, &world.environment, &operator(&world, "eve", Duration::ZERO).0).await.unwrap();
    assert_eq!(report.applied.done, 0);
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_released_although_a_renewal_is_on_its_way() {
    let world = World::start(&["bu1"], "").await;
    let (mut ann, messages) = operator(&world, "ann", Duration::ZERO);
    ann.renew_every = Duration::ZERO;
    for round in 0..50 {
        let hers = taken(&world, &ann).await;
        // The work ends at any moment of a renewal.
        let work = async {
            tokio::time::sleep(Duration::from_micros(round * 100)).await;
            Ok(())
        };
        hers.hold(work).await.unwrap();
        hers.release().await;
        assert_eq!(record(&world).await, None, "round {round}");
    }
    assert_eq!(*messages.lock().unwrap(), Vec::<String>::new());
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_was_agreed_to_is_done() {
    let world = World::start(&["bu1"], "").await;
    let hour = Duration::from_secs(3600);
    let (ann, _) = operator(&world, "ann", hour);
    let (bob, messages) = operator(&world, "bob", hour);
    change_topic(&world, json!({"managed-by": "deskgrid", "deskgrid-env": "test"})).await;
    let hers = taken(&world, &ann).await;
    let works = provision(&world, &world.environment, &bob);
    let meanwhile = async {
        eventually("bob waits", async || !messages.lock().unwrap().is_empty()).await;
        // Ann puts right what he was about to, and something new is wrong.
        let report = provision::run(&world.environment, &world.clients, plan::Options::default(), &silent()).await;
        assert_eq!(report.unwrap().applied.done, 1);
        let subscription = "v1/projects/test-desk/subscriptions/test-desk-bu1-subscription";
        let body = json!({"subscription": {"ackDeadlineSeconds": 30}, "updateMask": "ackDeadlineSeconds"});
        let change = Request::new(Api::Pubsub, Method::Patch, subscription).body(body);
        world.clients.google.send(&change).await.unwrap();
        hers.release().await;
    };
    let (report, ()) = tokio::join!(works, meanwhile);
    let error = report.unwrap_err();
    let failure = error.downcast_ref::<Failure>().unwrap();
    assert_eq!(failure.code, "plan-moved");
    assert_eq!(
        failure.why,
        "subscription test-desk-bu1-subscription: not in the plan, and now `update` (ackDeadlineSeconds 30 -> 60)"
    );
    assert_eq!(look(&world, &world.environment).await.unwrap().pending().count(), 1, "he changed nothing");
    assert_eq!(record(&world).await, None);
    world.cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_begin_from_nothing_both_end_with_everything_made_once() {
    let world = World::start(&["bu1"], "").await;
    // Another environment of the same project, of which nothing is there.
    let text = "project = \"test-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\nbucket = \"fresh-bucket\"\n\
                [cluster]\nname = \"fresh\"\n[build]\nregistry = \"fresh\"\n[manage]\niam = \"off\"\n\
                [security]\nnode_account = \"test-nodes@test-desk.iam.gserviceaccount.com\"\n[businesses.bu7]\n";
    let fresh = provision::environment::parse("fresh", "fresh.toml", text, &Default::default()).unwrap();
    let hour = Duration::from_secs(3600);
    let ((ann, to_ann), (bob, to_bob)) = (operator(&world, "ann", hour), operator(&world, "bob", hour));
    let writes: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = writes.clone();
    let google = world.clients.google.clone().observed(Arc::new(move |call| {
        if call.request.is_write() && (200..300).contains(&call.code) {
            seen.lock().unwrap().push(call.request.to_string());
        }
    }));
    let cloud = provision::Cloud { google, ..world.clients.clone() };
    let both = async |settings: &Settings| {
        let look = async || provision::make_plan(&fresh, &cloud, plan::Options::default(), &silent()).await;
        let agreed = look().await?;
        locked::carry_out_locked(&fresh, &cloud, agreed, settings, &silent(), look).await
    };
    let (one, two) = tokio::join!(both(&ann), both(&bob));
    one.unwrap();
    two.unwrap();
    assert!(look(&world, &fresh).await.unwrap().is_empty());
    let messages = [to_ann.lock().unwrap().clone(), to_bob.lock().unwrap().clone()].concat();
    assert!(messages.len() == 1 && messages[0].starts_with("waits for "), "one waited for the other: {messages:?}");
    let writes = writes.lock().unwrap().clone();
    let of = |part: &str| writes.iter().filter(|line| line.contains(part)).count();
    assert_eq!(of("/clusters"), 1, "{writes:#?}");
    assert_eq!(of("PUT v1/projects/test-desk/topics/test-desk-bu7-topic"), 1, "{writes:#?}");
    assert_eq!(of("POST storage/v1/b"), 1, "the bucket was made once, before all else: {writes:#?}");
    // The other one may have the lock in it before this one knows that it is created.
    let mut others = writes.iter().filter(|line| !line.starts_with("POST upload/"));
    assert_eq!(others.next().map(String::as_str), Some("POST storage/v1/b"));
    world.cloud.stop().await;
}

//! Execution in a pool, with two engines that make the decisions of real ones.

use std::time::Duration;

use contract::{
    identity::INLINE_GENERATION,
    labels,
    outcome::State as Ended,
    pool_report::{InPool, Place, Report},
};
use orchestrator::{Hooks, Step};
use pool::proto::{FromEngine, Hello, from_engine::Frame};
use rcgen::KeyPair;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    crash_at,
    fixture::{Fixture, Process, Setting, State, hold_at},
};

/// The steps of work that is computed in a pool.
const STEPS: [Step; 11] = [
    Step::Received,
    Step::RefusedWritten,
    Step::EventPublished,
    Step::LayoutWritten,
    Step::RangesPublished,
    Step::BeforeCreate,
    Step::Finished,
    Step::OutcomeWritten,
    Step::InputDeleted,
    Step::BeforeAck,
    Step::AfterAck,
];

fn pool(hooks: Hooks) -> Setting {
    Setting { hooks, has_pool: true, ..Setting::default() }
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_repeats_nothing() {
    for step in STEPS {
        crash_at(step, false, true);
    }
}

#[test]
fn a_crash_at_any_step_beside_another_replica_loses_nothing_and_repeats_nothing() {
    for step in STEPS {
        crash_at(step, true, true);
    }
}

#[test]
fn small_work_costs_few_writes() {
    let fixture = Fixture::with_pool();
    let before = fixture.state().written.len();
    let inline = fixture.publish(b"engine payload", &[]);
    let single = fixture.submit("single", "good", None, 1);
    let pack = fixture.submit("pack", "good", Some(6), 1);
    let process = Process::start(&fixture, pool(Hooks::none()));
    fixture.wait_until_done();
    fixture.check_succeeded([&single, &pack]);
    let state = fixture.state();
    let mut written: Vec<String> = state.written[before..].to_vec();
    written.sort();
    let ranges = [0, 2, 4].map(|first| pack.of_range(first).outcome());
    let layout = contract::object::layout("bu1", "s1", "pack", pack.identity.generation);
    let inline = format!("bu1/outcome/inline/{inline}/{INLINE_GENERATION}-0.json");
    let mut expected = [&ranges[..], &[single.outcome(), layout, inline]].concat();
    // The fixture wrote the inputs.
    expected.extend([single.identity.object.clone(), pack.identity.object.clone()]);
    expected.sort();
    assert_eq!(written, expected);
    assert_eq!(state.jobs.len(), 0, "no work has a Job of its own");
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn an_inline_payload_that_fails_can_be_retried() {
    let fixture = Fixture::with_pool();
    let id = fixture.publish(b"bad payload", &[]);
    let process = Process::start(&fixture, pool(Hooks::none()));
    fixture.wait_until_done();
    let outcomes = fixture.outcomes();
    let outcome = outcomes.values().find(|outcome| outcome.work.as_ref().is_some_and(|work| work.job == id)).unwrap();
    assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Failed, "malformed-input"));
    let identity = outcome.identity().unwrap().clone();
    let state = fixture.state();
    let input = &state.objects[&identity.object];
    assert_eq!((input.generation, &*input.contents), (identity.generation, &b"bad payload"[..]));
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn a_record_that_cannot_be_read_is_a_failure_of_its_item() {
    let fixture = Fixture::with_pool();
    fixture.expect_warnings(&["failed to read the record of an item"]);
    let id = fixture.publish(b"unreadable", &[]);
    let process = Process::start(&fixture, pool(Hooks::none()));
    fixture.wait_until_done();
    let outcomes = fixture.outcomes();
    let outcome = outcomes.values().find(|outcome| outcome.work.as_ref().is_some_and(|work| work.job == id)).unwrap();
    assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Failed, "engine-error"));
    process.terminate().unwrap();
}

#[test]
fn a_missing_subscription_is_reported_and_retried() {
    let fixture = Fixture::with_pool();
    fixture.expect_warnings(&["failed to receive messages", "not ready"]);
    fixture.change(|state| state.subscription_fails = Some(tonic::Status::not_found("no such subscription")));
    let work = fixture.submit("j", "good", None, 1);
    let process = Process::start(&fixture, pool(Hooks::none()));
    process.wait_for("/readyz", |answer| answer.contains("no such subscription"));
    fixture.change(|state| state.subscription_fails = None);
    fixture.wait("an outcome", |state| state.objects.contains_key(&work.outcome()));
    process.wait_for("/readyz", |answer| answer.starts_with("HTTP/1.1 200"));
    process.terminate().unwrap();
}

#[test]
fn a_retry_computes_what_failed_and_more_memory_needs_a_job() {
    let fixture = Fixture::with_pool();
    let work = fixture.submit("mixed", "mixed", Some(4), 1);
    let process = Process::start(&fixture, pool(Hooks::none()));
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Failed, "malformed-input")]);
    let mut retry = work.clone();
    retry.identity.attempt = 1;
    fixture.publish_work(&retry);
    fixture.wait_until_done();
    fixture.check_succeeded([&retry]);
    let mut large = fixture.submit_to("s1", "large", "good", 0, |_| {});
    large.resources.memory = Some("2Gi".into());
    fixture.publish_work(&large);
    fixture.wait_until_done();
    fixture.check_succeeded([&large]);
    assert!(fixture.state().jobs.contains_key(&large.identity.job_name()));
    process.terminate().unwrap();
}

#[test]
fn a_cancel_and_a_pause_reach_the_pool() {
    let fixture = Fixture::with_pool();
    fixture.decide("s1", Some(json!({"paused": true})));
    let work = fixture.submit("paused", "good", Some(4), 1);
    let process = Process::start(&fixture, pool(Hooks::none()));
    fixture.wait_until_done();
    assert_eq!((fixture.outcomes().len(), fixture.count("parked")), (0, 1));
    fixture.cancel("s1");
    fixture.wait("it is cancelled", |state| state.objects.keys().all(|name| !name.contains("/parked/")));
    let outcomes = fixture.outcomes();
    assert!(outcomes.values().all(|outcome| outcome.state == Ended::Cancelled), "{outcomes:?}");
    assert!(fixture.state().objects.contains_key(&work.identity.object));
    process.terminate().unwrap();
}

#[test]
fn it_is_reported_where_each_item_is() {
    let fixture = Fixture::with_pool();
    let work = fixture.submit("long", "stays", Some(6), 1);
    let process = Process::start(&fixture, pool(Hooks::none()));
    let report = |state: &State| {
        let text = state.reports.values().next()?.as_str()?;
        serde_json::from_str::<Report>(text).ok()
    };
    let generation = work.identity.generation;
    fixture.wait("every item is with an engine", |state| {
        report(state).is_some_and(|report| {
            let pool = InPool::new(&[report], "s1", "long", generation);
            pool.is_some_and(|pool| (pool.waiting, pool.engines.values().sum()) == (0, 6))
        })
    });
    let report = report(&fixture.state()).unwrap();
    let mut pods: Vec<&str> = report.engines.iter().map(|engine| engine.pod.as_str()).collect();
    pods.sort_unstable();
    assert_eq!(pods, ["pool-0-0", "pool-1-0"]);
    assert_eq!(report.engines.iter().map(|engine| engine.items).sum::<usize>(), 6);
    for index in 0..6 {
        let place = report.place("s1", "long", generation, index);
        assert!(matches!(place, Some(Place::Engine(_))), "{index}: {place:?}");
    }
    assert_eq!(report.place("s1", "long", generation, 6), None);
    process.kill();
}

#[test]
fn only_the_pods_of_engines_can_open_a_stream() {
    let fixture = Fixture::with_pool();
    fixture.expect_warnings(&["refused a stream"]);
    let process = Process::start(&fixture, pool(Hooks::none()));
    process.wait_for("/readyz", |text| text.contains("200 OK"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let port = process.pool_port.unwrap();
    let open = |token: String, uid: &str| {
        let (frames, receiver) = mpsc::unbounded_channel();
        let hello = Hello { pod: "pool-1-0".into(), uid: uid.into(), ..Hello::default() };
        frames.send(FromEngine { frame: Some(Frame::Hello(hello)) }).unwrap();
        let opened = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), fixture.pool.connect(port, &token, receiver)).await.unwrap()
        });
        opened.map(drop).map_err(|status| status.code())
    };
    let token = |pod, audience, key| fixture.pool.token(pod, audience, key);
    let other_key = KeyPair::generate().unwrap();
    let (audience, uid) = (labels::POOL_AUDIENCE, "uid-of-pool-1-0");
    let refused = Err(tonic::Code::Unauthenticated);
    assert_eq!(open(token("pool-1-0", audience, None), uid), Ok(()));
    assert_eq!(open(String::new(), uid), refused);
    assert_eq!(open(token("pool-1-0", "https://kubernetes.default.svc", None), uid), refused, "another audience");
    assert_eq!(open(token("pool-1-0", audience, Some(&other_key)), uid), refused, "another key");
    assert_eq!(open(token("pool-9-0", audience, None), "uid-of-pool-9-0"), refused, "its pod is gone");
    assert_eq!(open(token("pool-0-0", audience, None), uid), Err(tonic::Code::PermissionDenied), "of another pod");
    process.terminate().unwrap();
}

#[test]
fn a_message_that_comes_again_while_it_is_computed_starts_nothing() {
    let fixture = Fixture::with_pool();
    let (hooks, held) = hold_at(Step::Finished);
    let work = fixture.submit("once", "good", None, 3);
    let process = Process::start(&fixture, pool(hooks));
    held.recv_timeout(Duration::from_secs(30)).unwrap();
    process.wait_for("/metrics", |text| text.contains("orchestrator_messages_received_total 3"));
    assert!(fixture.outcomes().is_empty());
    let clients = fixture.clients();
    process.kill();
    fixture.expire_leases(clients);
    let process = Process::start(&fixture, pool(Hooks::none()));
    fixture.wait_until_done();
    fixture.check_succeeded([&work]);
    process.terminate().unwrap();
}

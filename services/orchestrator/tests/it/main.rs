//! The orchestrator in a small world of its own: whatever is killed, denied or delivered twice, every identity gets
//! exactly one outcome.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod batch_controls;
mod batches;
mod cancelled;
mod controls;
mod decisions;
mod google;
mod kubernetes;
mod limits;
mod options;
mod redelivered;
mod sweeps;
mod world;

use std::time::Duration;

use contract::outcome::State as Ended;
use orchestrator::Step;
use world::{Process, Setting, World, hold_at};

const STEPS: [Step; 12] = [
    Step::Received,
    Step::InlineWritten,
    Step::RefusedWritten,
    Step::EventPublished,
    Step::BeforeCreate,
    Step::Created,
    Step::BeforeAck,
    Step::AfterAck,
    Step::Finished,
    Step::OutcomeWritten,
    Step::InputDeleted,
    Step::FinalizerRemoved,
];

/// Kills an orchestrator at `step`, with another one beside it or not, and starts it again.
fn crash_at(step: Step, beside: bool) {
    let world = World::new();
    let good = world.submit("good.json", "good", None, 3);
    let split = world.submit("split", "good", Some(3), 1);
    let bad = world.submit("a/bad.json", "bad", None, 1);
    let inline = world.publish(b"engine payload 1", &[]);
    let refused = world.publish(br#"{"bucket":"other","object":"bu1/input/s/j"}"#, &[("deskgrid", "1")]);

    let (hooks, held) = hold_at(step);
    let first = Process::start(&world, Setting { hooks, ..Setting::default() });
    held.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("nothing came to {step:?}"));
    let clients = world.clients();
    let second = beside.then(|| Process::start(&world, Setting::default()));
    first.kill();
    world.bury(clients);
    let third = Process::start(&world, Setting::default());
    world.wait_until_done();

    world.check(&[
        (&good, Ended::Succeeded, "completed"),
        (&split, Ended::Succeeded, "completed"),
        (&bad, Ended::Failed, "malformed-input"),
    ]);
    let outcomes = world.outcomes();
    assert_eq!(outcomes.len(), 5, "{step:?}: {:?}", outcomes.keys());
    assert_eq!(outcomes[&format!("bu1/outcome/refused/{refused}.json")].reason.code, "wrong-bucket");
    let inline = outcomes.values().find(|o| o.work.as_ref().is_some_and(|work| work.job == inline)).unwrap();
    assert_eq!(inline.state, Ended::Succeeded);
    let left: Vec<String> = world.look().objects.keys().filter(|name| name.contains("/input/")).cloned().collect();
    assert_eq!(left, ["bu1/input/s1/a/bad.json"], "{step:?}");
    for process in second.into_iter().chain([third]) {
        process.terminate().unwrap();
    }
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_repeats_nothing() {
    for step in STEPS {
        crash_at(step, false);
    }
}

#[test]
fn a_crash_at_any_step_beside_another_replica_loses_nothing_and_repeats_nothing() {
    for step in STEPS {
        crash_at(step, true);
    }
}

#[test]
fn a_message_that_comes_back_when_everything_is_over_changes_nothing() {
    let world = World::new();
    let good = world.submit("good", "good", None, 1);
    let inline = world.publish(b"payload", &[]);
    let process = Process::start(&world, Setting::default());
    world.wait_until_done();
    world.change(|state| {
        for name in state.jobs.keys().cloned().collect::<Vec<_>>() {
            state.delete(&name);
        }
        let (data, attributes) = good.encode();
        state.publish(&data, attributes.clone());
        // Without its generation.
        let data = br#"{"bucket":"p-bucket","object":"bu1/input/s1/good"}"#;
        state.publish(data, attributes);
    });
    world.wait_until_done();
    world.check(&[(&good, Ended::Succeeded, "completed")]);
    let state = world.look();
    assert!(state.creations.values().all(|count| *count == 1), "{:?}", state.creations);
    assert_eq!(state.creations.len(), 2, "the Job and the inline one, {inline}");
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn jobs_deleted_by_hand_are_cancelled_and_stay_so() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = world.submit_many("j", 5, 1);
    let process = Process::start(&world, Setting::default());
    world.wait("all Jobs", |state| state.jobs.len() == 5);
    world.change(|state| {
        for name in state.jobs.keys().cloned().collect::<Vec<_>>() {
            state.delete(&name);
        }
        for work in &works {
            let (data, attributes) = work.encode();
            state.publish(&data, attributes);
        }
    });
    world.wait_until_done();
    assert!(world.look().jobs.is_empty());
    let wanted: Vec<_> = works.iter().map(|work| (work, Ended::Cancelled, "cancelled")).collect();
    world.check(&wanted);
    process.terminate().unwrap();
}

#[test]
fn no_more_jobs_are_active_than_allowed_and_nothing_is_given_back() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = world.submit_many("j", 30, 1);
    let process = Process::start(&world, Setting { max_active_jobs: 4, ..Setting::default() });
    for done in 0.. {
        let all = works.len();
        world.wait("as many Jobs as allowed", |state| {
            state.creations.len() == (4 * (done + 1)).min(all) && state.acked == state.creations.len()
        });
        if 4 * (done + 1) >= all {
            break;
        }
        // The Jobs of now end, and those after them wait again.
        world.change_quietly(|state| state.engines_wait = false);
        world.change(|_| {});
        world.change_quietly(|state| state.engines_wait = true);
    }
    world.change(|state| state.engines_wait = false);
    world.wait_until_done();
    world.check_succeeded(&works);
    let state = world.look();
    assert_eq!((state.most_active, state.nacked), (4, 0));
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn a_full_quota_and_a_busy_server_are_waited_out() {
    let world = World::new();
    let busy = || kubernetes::failure(429, "TooManyRequests", "slow down");
    let quota = || kubernetes::failure(403, "Forbidden", "exceeded quota: q");
    let broken = || kubernetes::failure(500, "InternalError", "etcd");
    // Two creates changed one quota object at the same moment.
    let conflict = || kubernetes::failure(409, "Conflict", "Operation cannot be fulfilled on resourcequotas \"q\"");
    world.change(|state| state.create_fails_once = vec![busy(), quota(), broken(), conflict(), busy()]);
    let works = world.submit_many("j", 5, 1);
    let process = Process::start(&world, Setting::default());
    world.wait_until_done();
    world.check_succeeded(&works);
    assert_eq!(world.look().nacked, 0);
    process.terminate().unwrap();
}

#[test]
fn a_bad_deploy_stops_intake_and_loses_nothing() {
    let world = World::new();
    let words = "the server's words";
    // RBAC, the namespace, a template that is invalid, and admission by webhook and by policy.
    for (code, reason, message) in [
        (403, "Forbidden", words.to_owned()),
        (404, "NotFound", words.to_owned()),
        (422, "Invalid", words.to_owned()),
        (400, "BadRequest", format!("admission webhook \"p\" denied the request: {words}")),
        (429, "TooManyRequests", format!("ValidatingAdmissionPolicy 'p' denied request: {words}")),
    ] {
        world.change(|state| state.create_fails = Some(kubernetes::failure(code, reason, &message)));
        let process = Process::start(&world, Setting::default());
        let job = format!("j{code}");
        let work = world.submit(&job, "good", None, 1);
        let ready = || process.get("/readyz");
        while !ready().contains("the server's words") {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(ready().starts_with("HTTP/1.1 503"), "{}", ready());
        assert!(world.outcomes().values().all(|outcome| outcome.identity() != Some(&work.identity)));
        world.change(|state| state.create_fails = None);
        world.wait_until_done();
        world.check(&[(&work, Ended::Succeeded, "completed")]);
        process.terminate().unwrap();
    }
}

#[test]
fn a_job_that_alone_is_invalid_is_refused() {
    let world = World::new();
    world.change(|state| state.create_fails_once = vec![kubernetes::failure(422, "Invalid", "too long")]);
    let work = world.submit("j", "good", None, 1);
    let process = Process::start(&world, Setting::default());
    world.wait_until_done();
    world.check(&[(&work, Ended::Refused, "invalid-job")]);
    process.terminate().unwrap();
}

#[test]
fn an_input_that_is_not_there_is_an_outcome() {
    let world = World::new();
    world.publish(br#"{"bucket":"p-bucket","object":"bu1/input/s1/gone"}"#, &[("deskgrid", "1")]);
    world.publish(br#"{"bucket":"p-bucket","object":"bu1/input/s1/lost","generation":"7"}"#, &[("deskgrid", "1")]);
    let process = Process::start(&world, Setting::default());
    world.wait_until_done();
    let outcomes = world.outcomes();
    for name in ["bu1/outcome/s1/gone/0-0.json", "bu1/outcome/s1/lost/7-0.json"] {
        let outcome = &outcomes[name];
        assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Failed, "input-missing"), "{name}");
    }
    process.terminate().unwrap();
}

#[test]
fn old_inputs_that_nobody_knows_of_are_published_again() {
    let world = World::new();
    let work = world.submit("lost", "good", Some(2), 0);
    let metadata = work.metadata();
    world.change(|state| {
        let input = state.objects.get_mut(&work.identity.object).unwrap();
        input.metadata = metadata;
    });
    let process = Process::start(&world, Setting { ahead: Duration::from_secs(4000), ..Setting::default() });
    world.wait("an outcome", |state| state.objects.contains_key(&work.outcome()));
    world.wait_until_done();
    world.check(&[(&work, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

#[test]
fn a_subscription_that_is_missing_is_said_and_waited_for() {
    let world = World::new();
    world.change(|state| state.subscription_fails = Some(tonic::Status::not_found("no such subscription")));
    let work = world.submit("j", "good", None, 1);
    let process = Process::start(&world, Setting::default());
    while !process.get("/readyz").contains("no such subscription") {
        std::thread::sleep(Duration::from_millis(5));
    }
    world.change(|state| state.subscription_fails = None);
    world.wait("an outcome", |state| state.objects.contains_key(&work.outcome()));
    while !process.get("/readyz").starts_with("HTTP/1.1 200") {
        std::thread::sleep(Duration::from_millis(5));
    }
    let metrics = process.get("/metrics");
    for line in ["orchestrator_jobs_created_total 1", "orchestrator_jobs_settled_total{state=\"succeeded\"} 1"] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    process.terminate().unwrap();
}

#[test]
fn a_stop_in_the_middle_of_a_flood_loses_and_repeats_nothing() {
    let world = World::new();
    let works = world.submit_many("j", 300, 1);
    let process = Process::start(&world, Setting::default());
    world.wait("some Jobs", |state| state.creations.len() >= 50);
    process.terminate().unwrap();
    world.bury(world.clients());
    let process = Process::start(&world, Setting::default());
    world.wait_until_done();
    world.check_succeeded(&works);
    assert!(world.look().creations.values().all(|count| *count == 1));
    assert_eq!(world.outcomes().len(), 300);
    process.terminate().unwrap();
}

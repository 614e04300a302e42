//! The orchestrator in its fixture: whatever is killed, denied or delivered twice, every identity gets exactly one
//! outcome.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod bounded;
mod cancelled;
mod controls;
mod decisions;
mod fixture;
mod google;
mod kubernetes;
mod limits;
mod options;
mod packs;
mod pool;
mod redelivered;
mod sweeps;
mod upgrade;

use std::time::Duration;

use contract::outcome::State as Ended;
use fixture::{Fixture, Process, Setting, hold_at};
use orchestrator::{Hooks, Step};

const STEPS: [Step; 14] = [
    Step::Received,
    Step::InlineWritten,
    Step::RefusedWritten,
    Step::EventPublished,
    Step::LayoutWritten,
    Step::RangesPublished,
    Step::BeforeCreate,
    Step::Created,
    Step::BeforeAck,
    Step::AfterAck,
    Step::Finished,
    Step::OutcomeWritten,
    Step::InputDeleted,
    Step::FinalizerRemoved,
];

/// Kills an orchestrator at `step`, with another one beside it or not, and starts a new one.
fn crash_at(step: Step, beside: bool, has_pool: bool) {
    let fixture = if has_pool { Fixture::with_pool() } else { Fixture::new() };
    let setting = |hooks| Setting { hooks, has_pool, ..Setting::default() };
    fixture.expect_warnings(&["refused the message"]);
    let good = fixture.submit("good.json", "good", None, 3);
    let split = fixture.submit("split", "good", Some(3), 1);
    let bad = fixture.submit("a/bad.json", "bad", None, 1);
    let inline = fixture.publish(b"engine payload 1", &[]);
    let refused = fixture.publish(br#"{"bucket":"other","object":"bu1/input/s/j"}"#, &[("deskgrid", "1")]);

    let (hooks, held) = hold_at(step);
    let first = Process::start(&fixture, setting(hooks));
    held.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{step:?} was never reached"));
    let clients = fixture.clients();
    let second = beside.then(|| Process::start(&fixture, setting(Hooks::none())));
    first.kill();
    fixture.expire_leases(clients);
    let third = Process::start(&fixture, setting(Hooks::none()));
    fixture.wait_until_done();

    fixture.check(&[
        (&good, Ended::Succeeded, "completed"),
        (&split, Ended::Succeeded, "completed"),
        (&bad, Ended::Failed, "malformed-input"),
    ]);
    let outcomes = fixture.outcomes();
    assert_eq!(outcomes.len(), 6, "{step:?}: {:?}", outcomes.keys());
    assert_eq!(outcomes[&format!("bu1/outcome/refused/{refused}.json")].reason.code, "wrong-bucket");
    let inline = outcomes.values().find(|o| o.work.as_ref().is_some_and(|work| work.job == inline)).unwrap();
    assert_eq!(inline.state, Ended::Succeeded);
    let left: Vec<String> = fixture.state().objects.keys().filter(|name| name.contains("/input/")).cloned().collect();
    assert_eq!(left, ["bu1/input/s1/a/bad.json"], "{step:?}");
    for process in second.into_iter().chain([third]) {
        process.terminate().unwrap();
    }
}

#[test]
fn a_crash_at_any_step_loses_nothing_and_repeats_nothing() {
    for step in STEPS {
        crash_at(step, false, false);
    }
}

#[test]
fn a_crash_at_any_step_beside_another_replica_loses_nothing_and_repeats_nothing() {
    for step in STEPS {
        crash_at(step, true, false);
    }
}

#[test]
fn a_redelivery_after_the_end_changes_nothing() {
    let fixture = Fixture::new();
    let good = fixture.submit("good", "good", None, 1);
    let inline = fixture.publish(b"payload", &[]);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.change(|state| {
        for name in state.jobs.keys().cloned().collect::<Vec<_>>() {
            state.delete(&name);
        }
        let (data, attributes) = good.encode();
        state.publish(&data, attributes.clone());
        // Without its generation.
        let data = br#"{"bucket":"p-bucket","object":"bu1/input/s1/good"}"#;
        state.publish(data, attributes);
    });
    fixture.wait_until_done();
    fixture.check(&[(&good, Ended::Succeeded, "completed")]);
    let state = fixture.state();
    assert!(state.creations.values().all(|count| *count == 1), "{:?}", state.creations);
    assert_eq!(state.creations.len(), 2, "the Job and the inline one, {inline}");
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn jobs_deleted_by_hand_are_cancelled_and_stay_so() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", 5, 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait("all Jobs", |state| state.jobs.len() == 5);
    fixture.change(|state| {
        for name in state.jobs.keys().cloned().collect::<Vec<_>>() {
            state.delete(&name);
        }
        for work in &works {
            let (data, attributes) = work.encode();
            state.publish(&data, attributes);
        }
    });
    fixture.wait_until_done();
    assert!(fixture.state().jobs.is_empty());
    let expected: Vec<_> = works.iter().map(|work| (work, Ended::Cancelled, "cancelled")).collect();
    fixture.check(&expected);
    process.terminate().unwrap();
}

#[test]
fn no_more_jobs_are_active_than_allowed_and_nothing_is_nacked() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", 30, 1);
    let process = Process::start(&fixture, Setting { max_active_jobs: 4, ..Setting::default() });
    for done in 0.. {
        let all = works.len();
        fixture.wait("as many Jobs as allowed", |state| {
            state.creations.len() == (4 * (done + 1)).min(all) && state.acked == state.creations.len()
        });
        if 4 * (done + 1) >= all {
            break;
        }
        // The current Jobs end, and the next ones wait.
        fixture.change_quietly(|state| state.engines_wait = false);
        fixture.change(|_| {});
        fixture.change_quietly(|state| state.engines_wait = true);
    }
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    let state = fixture.state();
    assert_eq!((state.max_active, state.nacked), (4, 0));
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn a_full_quota_and_a_busy_server_are_retried() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["failed to admit the message"]);
    let busy = || kubernetes::failure(429, "TooManyRequests", "slow down");
    let quota = || kubernetes::failure(403, "Forbidden", "exceeded quota: q");
    let broken = || kubernetes::failure(500, "InternalError", "etcd");
    // Two creates changed one quota object at the same moment.
    let conflict = || kubernetes::failure(409, "Conflict", "Operation cannot be fulfilled on resourcequotas \"q\"");
    fixture.change(|state| state.create_fails_once = vec![busy(), quota(), broken(), conflict(), busy()]);
    let works = fixture.submit_many("j", 5, 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    assert_eq!(fixture.state().nacked, 0);
    process.terminate().unwrap();
}

#[test]
fn a_bad_deploy_stops_intake_and_loses_nothing() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["intake stops", "intake stays stopped", "not ready"]);
    let words = "the server's words";
    // RBAC, the namespace, a template that is invalid, and admission by webhook and by policy.
    for (code, reason, message) in [
        (403, "Forbidden", words.to_owned()),
        (404, "NotFound", words.to_owned()),
        (422, "Invalid", words.to_owned()),
        (400, "BadRequest", format!("admission webhook \"p\" denied the request: {words}")),
        (429, "TooManyRequests", format!("ValidatingAdmissionPolicy 'p' denied request: {words}")),
    ] {
        fixture.change(|state| state.create_fails = Some(kubernetes::failure(code, reason, &message)));
        let process = Process::start(&fixture, Setting::default());
        let job = format!("j{code}");
        let work = fixture.submit(&job, "good", None, 1);
        process
            .wait_for("/readyz", |answer| answer.starts_with("HTTP/1.1 503") && answer.contains("the server's words"));
        assert!(fixture.outcomes().values().all(|outcome| outcome.identity() != Some(&work.identity)));
        fixture.change(|state| state.create_fails = None);
        fixture.wait_until_done();
        fixture.check(&[(&work, Ended::Succeeded, "completed")]);
        process.terminate().unwrap();
    }
}

#[test]
fn a_job_that_alone_is_invalid_is_refused() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["cannot become a Job"]);
    fixture.change(|state| state.create_fails_once = vec![kubernetes::failure(422, "Invalid", "too long")]);
    let work = fixture.submit("j", "good", None, 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Refused, "invalid-job")]);
    process.terminate().unwrap();
}

#[test]
fn a_missing_input_is_an_outcome() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["cannot become a Job"]);
    fixture.publish(br#"{"bucket":"p-bucket","object":"bu1/input/s1/gone"}"#, &[("deskgrid", "1")]);
    fixture.publish(br#"{"bucket":"p-bucket","object":"bu1/input/s1/lost","generation":"7"}"#, &[("deskgrid", "1")]);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    let outcomes = fixture.outcomes();
    for name in ["bu1/outcome/s1/gone/0-0.json", "bu1/outcome/s1/lost/7-0.json"] {
        let outcome = &outcomes[name];
        assert_eq!((outcome.state, outcome.reason.code.as_str()), (Ended::Failed, "input-missing"), "{name}");
    }
    process.terminate().unwrap();
}

#[test]
fn a_result_that_was_written_before_the_last_kill_has_succeeded() {
    let fixture = Fixture::new();
    let works = [fixture.submit("j", "late", None, 1), fixture.submit("split", "late", Some(3), 1)];
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    process.terminate().unwrap();
}

#[test]
fn old_inputs_without_job_and_outcome_are_requeued() {
    let fixture = Fixture::new();
    let work = fixture.submit("lost", "good", Some(2), 0);
    let process = Process::start(&fixture, Setting { ahead: Duration::from_secs(4000), ..Setting::default() });
    fixture.wait("an outcome", |state| state.objects.contains_key(&work.of_range(0).outcome()));
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

#[test]
fn a_missing_subscription_is_reported_and_retried() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["failed to receive messages", "not ready"]);
    fixture.change(|state| state.subscription_fails = Some(tonic::Status::not_found("no such subscription")));
    let work = fixture.submit("j", "good", None, 1);
    let process = Process::start(&fixture, Setting::default());
    process.wait_for("/readyz", |answer| answer.contains("no such subscription"));
    fixture.change(|state| state.subscription_fails = None);
    fixture.wait("an outcome", |state| state.objects.contains_key(&work.outcome()));
    process.wait_for("/readyz", |answer| answer.starts_with("HTTP/1.1 200"));
    let metrics = process.get("/metrics");
    for line in ["orchestrator_jobs_created_total 1", "orchestrator_jobs_settled_total{state=\"succeeded\"} 1"] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    process.terminate().unwrap();
}

#[test]
fn a_stop_in_the_middle_of_a_flood_loses_and_repeats_nothing() {
    let fixture = Fixture::new();
    let works = fixture.submit_many("j", 300, 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait("some Jobs", |state| state.creations.len() >= 50);
    process.terminate().unwrap();
    fixture.expire_leases(fixture.clients());
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    assert!(fixture.state().creations.values().all(|count| *count == 1));
    assert_eq!(fixture.outcomes().len(), 300);
    process.terminate().unwrap();
}

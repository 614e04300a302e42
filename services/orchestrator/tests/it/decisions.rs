//! Decisions among others that cannot be carried out or take long, and events whose writer died.

use std::{sync::Arc, time::Duration};

use contract::outcome::State as Ended;
use orchestrator::{Hooks, Step};
use serde_json::json;

use crate::{
    fixture::{Fixture, Process, Setting, State, hold_at},
    kubernetes,
};

fn parked(state: &State) -> usize {
    state.objects.keys().filter(|name| name.starts_with("bu1/parked/")).count()
}

#[test]
fn a_job_that_cannot_be_read_blocks_no_other_decision() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["failed to apply the decisions", "not ready"]);
    fixture.decide("c", Some(json!({"paused": true})));
    fixture.change(|state| state.engines_wait = true);
    let works = ["b", "c"].map(|session| fixture.submit_to(session, "j", "good", 1, |_| {}));
    let [cancelled, released] = &works;
    let process = Process::start(&fixture, Setting::default());
    fixture.wait("one runs, one is parked", |state| state.jobs.len() == 1 && parked(state) == 1);
    fixture.cancel("a");
    fixture.cancel("b");
    fixture.decide("c", None);
    fixture.wait("the other is cancelled", |state| state.objects.contains_key(&cancelled.outcome()));
    fixture.wait("the third runs", |state| state.jobs.contains_key(&released.identity.job_name()));
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    fixture.check(&[(cancelled, Ended::Cancelled, "cancelled"), (released, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

#[test]
fn a_cancel_does_not_wait_for_the_release_of_parked_messages() {
    let fixture = Fixture::new();
    fixture.decide("s1", Some(json!({"paused": true})));
    fixture.change(|state| state.engines_wait = true);
    let running = fixture.submit_to("s2", "running", "good", 1, |_| {});
    let works: Vec<_> = (0..400).map(|index| fixture.submit(&format!("j{index:03}"), "good", None, 1)).collect();
    // The number of messages that may be released.
    let allowed = Arc::new(tokio::sync::Semaphore::new(0));
    let hooks = {
        let allowed = allowed.clone();
        Hooks::new(move |at| {
            let (allowed, released) = (allowed.clone(), at.step == Step::Released);
            Box::pin(async move {
                if released {
                    allowed.acquire().await.unwrap().forget();
                }
            })
        })
    };
    let process = Process::start(&fixture, Setting { hooks, ..Setting::default() });
    fixture.wait("one runs, the others are parked", |state| state.jobs.len() == 1 && parked(state) == works.len());
    fixture.decide("s1", None);
    fixture.wait("the first is published", |state| state.creations.len() > 1);
    fixture.cancel("s2");
    allowed.add_permits(300);
    fixture.wait("the cancel", |state| state.objects.contains_key(&running.outcome()));
    assert!(parked(&fixture.state()) >= works.len() - 300, "not all are released");
    allowed.add_permits(10_000);
    fixture.change(|state| state.engines_wait = false);
    fixture.wait("nothing is parked any more", |state| parked(state) == 0);
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    fixture.check(&[(&running, Ended::Cancelled, "cancelled")]);
    process.terminate().unwrap();
}

#[test]
fn the_next_process_publishes_the_event_of_work_without_a_job() {
    let gone = |fixture: &Fixture| {
        fixture.publish(br#"{"bucket":"p-bucket","object":"bu1/input/s1/j"}"#, &[("deskgrid", "1")]);
    };
    let invalid = |fixture: &Fixture| {
        fixture.change(|state| state.create_fails_once = vec![kubernetes::failure(422, "Invalid", "too long")]);
        fixture.submit("j", "good", None, 1);
    };
    for code in ["input-missing", "invalid-job"] {
        let fixture = Fixture::new();
        fixture.expect_warnings(&["cannot become a Job"]);
        match code {
            "invalid-job" => invalid(&fixture),
            _ => gone(&fixture),
        }
        let (hooks, held) = hold_at(Step::RefusedWritten);
        let process = Process::start(&fixture, Setting { hooks, ..Setting::default() });
        held.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{code} is not written"));
        let clients = fixture.clients();
        process.kill();
        fixture.expire_leases(clients);
        assert_eq!(fixture.state().events.len(), 0, "{code}");
        let process = Process::start(&fixture, Setting::default());
        fixture.wait_until_done();
        let codes: Vec<String> = fixture.outcomes().into_values().map(|outcome| outcome.reason.code).collect();
        assert_eq!(codes, [code]);
        let events = fixture.state().events.clone();
        assert!(events.iter().any(|event| event.get("job").is_some_and(|job| job == "j")), "{code}: {events:?}");
        process.terminate().unwrap();
    }
}

/// Another replica, whose outcome was the first, may have decided otherwise.
#[test]
fn an_event_says_what_the_first_outcome_says() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the message"]);
    fixture.decide("s1", Some(json!({"paused": true})));
    let work = fixture.submit("j", "good", None, 1);
    let refused = fixture.publish(b"{}", &[("deskgrid", "1")]);
    let name = format!("bu1/outcome/refused/{refused}.json");
    let first = |code: &str| contract::Outcome::new("bu1", Ended::Failed, code, "said another replica");
    let write = |state: &mut State, name: &str, outcome: &contract::Outcome| {
        state.write_once(name, serde_json::to_vec(outcome).unwrap().into(), outcome.metadata());
    };
    fixture.change(|state| write(state, &name, &contract::Outcome { message_id: Some(refused.clone()), ..first("a") }));
    let process = Process::start(&fixture, Setting::default());
    fixture.wait("one is parked", |state| parked(state) == 1 && state.messages_left() == 0);
    fixture.change(|state| {
        write(state, &work.outcome(), &contract::Outcome { work: Some(work.clone()), ..first("b") });
    });
    fixture.cancel("s1");
    fixture.wait("both events", |state| parked(state) == 0 && state.events.len() >= 2);
    let said: Vec<_> = fixture.state().events.iter().map(|event| event["reason"].clone()).collect();
    assert_eq!(said, ["a", "b"]);
    process.terminate().unwrap();
}

//! Sessions that are paused, resumed and cancelled, with messages on their way and orchestrators that die.

use std::{sync::Arc, time::Duration};

use contract::{message::Work, outcome::State as Ended};
use orchestrator::Step;
use serde_json::json;

use crate::fixture::{Fixture, Process, Setting, hold_at};

/// At this age the sweep would requeue an input.
const OLD: Duration = Duration::from_secs(4000);

fn paused() -> Option<serde_json::Value> {
    Some(json!({"paused": true}))
}

fn start(fixture: &Arc<Fixture>) -> Process {
    Process::start(fixture, Setting { ahead: OLD, ..Setting::default() })
}

/// Waits until what was decided has been read: a message of a session that must be held is held.
fn marker(fixture: &Fixture, session: &str) -> Work {
    let before = fixture.count("parked");
    let work = fixture.submit_to(session, "marker", "good", 1, |_| {});
    fixture.wait("the marker is parked", |state| {
        state.objects.keys().filter(|name| name.starts_with("bu1/parked/")).count() > before
    });
    work
}

#[test]
fn a_paused_session_waits_with_all_its_options_and_then_runs() {
    let fixture = Fixture::new();
    fixture.decide("s1", paused());
    let split = fixture.submit("split", "good", Some(3), 3);
    let second = fixture.submit_to("s1", "deep/second", "good", 1, |work| {
        work.identity.attempt = 2;
        work.client = Some("alice".into());
        work.common = vec!["market.json".into()];
        work.resources.memory = Some("2Gi".into());
    });
    // Its message was never sent.
    let lost = fixture.submit("lost", "good", None, 0);
    let other = fixture.submit_to("s2", "other", "good", 1, |_| {});
    let process = start(&fixture);
    fixture.wait_until_done();
    fixture.check(&[(&other, Ended::Succeeded, "completed")]);
    assert_eq!(fixture.count("parked"), 2, "one for each identity, however often its message was delivered");
    assert_eq!(fixture.outcomes().len(), 1, "nothing of the paused session ran, and the sweep published nothing of it");
    assert_eq!(fixture.state().creations.len(), 1);

    fixture.decide("s1", None);
    fixture.wait("the last outcome", |state| state.objects.contains_key(&lost.outcome()));
    fixture.wait("nothing is parked any more", |state| !state.objects.keys().any(|name| name.contains("/parked/")));
    fixture.wait_until_done();
    fixture.check(&[
        (&split, Ended::Succeeded, "completed"),
        (&second, Ended::Succeeded, "completed"),
        (&lost, Ended::Succeeded, "completed"),
    ]);
    let outcome = &fixture.outcomes()[&second.outcome()];
    assert_eq!(outcome.work.as_ref(), Some(&second), "every option survived the pause");
    assert!(fixture.state().creations.values().all(|count| *count == 1));
    process.terminate().unwrap();
}

#[test]
fn a_pause_starts_nothing_and_running_jobs_finish() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", 6, 1);
    let process = Process::start(&fixture, Setting { max_active_jobs: 2, ..Setting::default() });
    fixture.wait("two run", |state| state.jobs.len() == 2);
    fixture.decide("s1", paused());
    let reads = fixture.state().control_lists;
    fixture.wait("the decision is read", |state| state.control_lists > reads + 1);
    fixture.change(|state| state.engines_wait = false);
    fixture.wait("the rest is parked", |state| {
        state.objects.keys().filter(|name| name.starts_with("bu1/parked/")).count() == 4
    });
    fixture.wait("the two finished", |state| {
        state.objects.keys().filter(|name| name.starts_with("bu1/outcome/")).count() == 2
    });
    fixture.wait_until_done();
    assert_eq!(fixture.state().creations.len(), 2);
    fixture.decide("s1", None);
    fixture
        .wait("all ended", |state| state.objects.keys().filter(|name| name.starts_with("bu1/outcome/")).count() == 6);
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    process.terminate().unwrap();
}

#[test]
fn a_cancel_in_the_middle_of_a_session_ends_it_once_whatever_comes_again() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", 8, 3);
    let lost = fixture.submit("lost", "good", None, 0);
    let other = fixture.submit_to("s2", "other", "good", 1, |_| {});
    let process = Process::start(&fixture, Setting { max_active_jobs: 3, ahead: OLD, ..Setting::default() });
    let second = Process::start(&fixture, Setting { max_active_jobs: 3, ahead: OLD, ..Setting::default() });
    fixture.wait("some run", |state| state.jobs.len() >= 3);
    fixture.cancel("s1");
    fixture.wait("the one whose message was lost", |state| state.objects.contains_key(&lost.outcome()));
    let all = works.iter().chain([&lost]);
    for work in all.clone() {
        fixture.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
        fixture.publish_work(work);
    }
    // Days later, or from a stuck client.
    for work in all.clone() {
        fixture.publish_work(work);
    }
    fixture.change(|state| state.engines_wait = false);
    fixture.wait("the other session runs", |state| state.objects.contains_key(&other.outcome()));
    fixture.wait_until_done();
    let mut expected: Vec<_> = all.map(|work| (work, Ended::Cancelled, "cancelled")).collect();
    expected.push((&other, Ended::Succeeded, "completed"));
    fixture.check(&expected);
    assert_eq!(fixture.outcomes().len(), 10);

    // Work submitted after the cancel runs: a new input, and a retry of an old one.
    let later = fixture.submit("later", "good", None, 1);
    let mut retry = works[0].clone();
    retry.identity.attempt = 1;
    fixture.publish_work(&retry);
    fixture.wait("the retry", |state| state.objects.contains_key(&retry.outcome()));
    fixture.wait("the new one", |state| state.objects.contains_key(&later.outcome()));
    fixture.wait_until_done();
    fixture.check(&[(&later, Ended::Succeeded, "completed"), (&retry, Ended::Succeeded, "completed")].map(|w| w));
    for process in [process, second] {
        process.terminate().unwrap();
    }
}

#[test]
fn a_cancel_of_one_job_means_it_wherever_it_is_and_nothing_else() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", 6, 2);
    let lost = fixture.submit("lost", "good", None, 0);
    let process = Process::start(&fixture, Setting { max_active_jobs: 2, ahead: OLD, ..Setting::default() });
    fixture.wait("some run", |state| state.jobs.len() >= 2);
    let runs = {
        let jobs = fixture.state().jobs.keys().cloned().collect::<Vec<_>>();
        works.iter().find(|work| jobs.contains(&work.identity.job_name())).expect("one of them runs").clone()
    };
    let waits =
        works.iter().find(|work| !fixture.state().jobs.contains_key(&work.identity.job_name())).unwrap().clone();
    let before = jiff::Timestamp::now().to_string();
    let cancelled = [&runs, &waits, &lost];
    let names: serde_json::Map<_, _> = cancelled.iter().map(|work| (work.job.clone(), json!(before))).collect();
    fixture.decide("s1", Some(json!({"cancelled_jobs": names})));
    fixture.wait("what ran is cancelled", |state| state.objects.contains_key(&runs.outcome()));
    fixture.change(|state| state.engines_wait = false);
    for work in works.iter().chain([&lost]) {
        fixture.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
    }
    fixture.wait_until_done();
    let expected: Vec<_> = works
        .iter()
        .chain([&lost])
        .map(|work| match cancelled.contains(&work) {
            true => (work, Ended::Cancelled, "cancelled"),
            false => (work, Ended::Succeeded, "completed"),
        })
        .collect();
    fixture.check(&expected);
    // Work submitted after it runs.
    let mut retry = runs.clone();
    retry.identity.attempt = 1;
    fixture.publish_work(&retry);
    fixture.wait("the retry", |state| state.objects.contains_key(&retry.outcome()));
    fixture.wait_until_done();
    fixture.check(&[(&retry, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

#[test]
fn a_cancel_reaches_parked_messages() {
    let fixture = Fixture::new();
    fixture.decide("s1", paused());
    let works = fixture.submit_many("j", 4, 2);
    let process = start(&fixture);
    fixture.wait_until_done();
    assert_eq!(fixture.count("parked"), 4);
    let before = jiff::Timestamp::now().to_string();
    fixture.decide("s1", Some(json!({"paused": true, "cancelled_before": before})));
    fixture.wait("nothing is parked any more", |state| !state.objects.keys().any(|name| name.contains("/parked/")));
    fixture.wait_until_done();
    let expected: Vec<_> = works.iter().map(|work| (work, Ended::Cancelled, "cancelled")).collect();
    fixture.check(&expected);
    assert!(fixture.state().creations.is_empty());
    // The session is still paused for later work.
    let later = marker(&fixture, "s1");
    fixture.decide("s1", None);
    fixture.wait("an outcome", |state| state.objects.contains_key(&later.outcome()));
    fixture.wait_until_done();
    fixture.check(&[(&later, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

#[test]
fn a_message_that_is_parked_twice_outlives_its_first_record() {
    let fixture = Fixture::new();
    fixture.decide("s1", paused());
    let work = fixture.submit("j", "good", None, 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    let name = contract::object::parked("bu1", "s1", "j", &work.identity);
    let before = fixture.state().objects[&name].generation;
    // Another replica has read the end of the pause and published it, and deletes the record that it read a moment
    // after this one, which has not, has parked the message once more.
    fixture.publish_work(&work);
    fixture.wait_until_done();
    fixture.change(|state| state.objects.retain(|other, object| *other != name || object.generation != before));
    fixture.decide("s1", None);
    fixture.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

/// Kills an orchestrator at `step` with `control` decided while it is dead, with another one beside it or not.
fn crash_at(step: Step, beside: bool, first: Option<serde_json::Value>, then: impl Fn(&Fixture), ends: Ended) {
    let fixture = Fixture::new();
    fixture.decide("s1", first);
    let works = fixture.submit_many("j", 3, 2);
    let second = beside.then(|| start(&fixture));
    let (hooks, held) = hold_at(step);
    let process = Process::start(&fixture, Setting { hooks, ahead: OLD, ..Setting::default() });
    if step == Step::Released {
        fixture
            .wait("all is parked", |state| state.objects.keys().filter(|name| name.contains("/parked/")).count() == 3);
        then(&fixture);
    }
    // With two of them the other one may be quicker than this one at everything.
    let reached = held.recv_timeout(Duration::from_secs(if beside { 2 } else { 30 })).is_ok();
    assert!(reached || beside, "{step:?} was never reached");
    let clients = fixture.clients();
    process.kill();
    if step != Step::Released {
        then(&fixture);
    }
    if !beside {
        fixture.expire_leases(clients);
    }
    let third = start(&fixture);
    for work in &works {
        fixture.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
    }
    fixture.wait("nothing is parked any more", |state| !state.objects.keys().any(|name| name.contains("/parked/")));
    fixture.wait_until_done();
    let code = if ends == Ended::Succeeded { "completed" } else { "cancelled" };
    let expected: Vec<_> = works.iter().map(|work| (work, ends, code)).collect();
    fixture.check(&expected);
    assert_eq!(fixture.outcomes().len(), 3, "{step:?}");
    for process in second.into_iter().chain([third]) {
        process.terminate().unwrap();
    }
}

#[test]
fn a_crash_around_a_pause_loses_and_repeats_nothing() {
    for beside in [false, true] {
        for step in [Step::Parked, Step::BeforeAck, Step::AfterAck, Step::Released] {
            crash_at(step, beside, paused(), |fixture| fixture.decide("s1", None), Ended::Succeeded);
        }
    }
}

#[test]
fn a_crash_around_a_cancel_of_what_was_paused_loses_and_repeats_nothing() {
    for step in [Step::Parked, Step::BeforeAck, Step::EventPublished] {
        let first = match step {
            // It is cancelled from the start, and dies after its outcome is written.
            Step::EventPublished => None,
            _ => paused(),
        };
        if first.is_none() {
            let fixture = Fixture::new();
            let works = fixture.submit_many("j", 3, 2);
            fixture.cancel("s1");
            let (hooks, held) = hold_at(step);
            let process = Process::start(&fixture, Setting { hooks, ..Setting::default() });
            held.recv_timeout(Duration::from_secs(30)).unwrap();
            let clients = fixture.clients();
            process.kill();
            fixture.expire_leases(clients);
            let process = start(&fixture);
            fixture.wait_until_done();
            let expected: Vec<_> = works.iter().map(|work| (work, Ended::Cancelled, "cancelled")).collect();
            fixture.check(&expected);
            assert_eq!(fixture.outcomes().len(), 3);
            assert!(fixture.state().creations.is_empty());
            process.terminate().unwrap();
        } else {
            crash_at(step, false, first, |fixture| fixture.cancel("s1"), Ended::Cancelled);
        }
    }
}

#[test]
fn the_next_process_cancels_a_job_created_just_before_a_cancel() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let work = fixture.submit("j", "good", None, 1);
    let (hooks, held) = hold_at(Step::Created);
    let process = Process::start(&fixture, Setting { hooks, ..Setting::default() });
    held.recv_timeout(Duration::from_secs(30)).unwrap();
    let clients = fixture.clients();
    process.kill();
    fixture.cancel("s1");
    fixture.expire_leases(clients);
    let process = start(&fixture);
    fixture.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Cancelled, "cancelled")]);
    process.terminate().unwrap();
}

#[test]
fn an_invalid_control_object_pauses_only_its_session() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["its control object is invalid"]);
    fixture.decide("s1", Some(json!({"schema": 99, "paused": false})));
    let held = fixture.submit("held", "good", None, 1);
    let other = fixture.submit_to("s2", "other", "good", 1, |_| {});
    let process = start(&fixture);
    fixture.wait_until_done();
    fixture.check(&[(&other, Ended::Succeeded, "completed")]);
    assert_eq!((fixture.count("parked"), fixture.outcomes().len()), (1, 1));
    fixture.decide("s1", None);
    fixture.wait("its outcome", |state| state.objects.contains_key(&held.outcome()));
    fixture.wait_until_done();
    fixture.check(&[(&held, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

/// A decision that is reported as applied has taken effect in every orchestrator that reads decisions.
#[test]
fn a_decision_is_marked_as_applied_when_nothing_starts_any_more() {
    let fixture = Fixture::new();
    let process = Process::start(&fixture, Setting::default());
    let is_marked = |state: &crate::fixture::State| {
        state
            .objects
            .get("bu1/control/s1.json")
            .is_some_and(|control| control.metadata.contains_key("deskgrid-applied"))
    };
    for paused in [true, false, true] {
        fixture.decide("s1", Some(json!({"paused": paused, "cancelled_before": "2026-01-01T00:00:00Z"})));
        fixture.wait("it is applied", is_marked);
        let work = fixture.submit(&format!("after-{}", fixture.state().written.len()), "good", None, 1);
        fixture.wait_until_done();
        let created = fixture.state().creations.contains_key(&work.identity.job_name());
        assert_eq!(created, !paused, "paused: {paused}");
        fixture.decide("s1", None);
        fixture.wait("it ran", |state| state.objects.contains_key(&work.outcome()));
    }
    process.terminate().unwrap();
}

//! Sessions that are paused and cancelled with dispatch in batches: what waits for slots, what runs, and what is in one
//! batch with others.

use std::sync::Arc;

use contract::{batch, config::Dispatch, message::Work, outcome::State as Ended};
use orchestrator::{Hooks, Step};
use serde_json::json;

use crate::fixture::{Fixture, Process, Setting, State, hold_at};

fn setting(hooks: Hooks) -> Setting {
    Setting { dispatch: Dispatch::Batch, hooks, ..Setting::default() }
}

fn start(fixture: &Arc<Fixture>) -> Process {
    Process::start(fixture, setting(Hooks::none()))
}

fn submit(fixture: &Fixture, name: &str, count: usize) -> Vec<Work> {
    fixture.submit_many(name, count, 2)
}

fn outcomes(state: &State) -> usize {
    state.objects.keys().filter(|name| name.starts_with("bu1/outcome/")).count()
}

fn parked(state: &State) -> usize {
    state.objects.keys().filter(|name| name.starts_with("bu1/parked/")).count()
}

fn check(fixture: &Fixture, works: &[Work], ended: Ended) {
    let code = if ended == Ended::Succeeded { "completed" } else { "cancelled" };
    fixture.check(&works.iter().map(|work| (work, ended, code)).collect::<Vec<_>>());
}

/// A batch that runs until `engines_wait` is false, and messages that wait for its slot.
fn busy(fixture: &Arc<Fixture>) -> (Process, Vec<Work>, Vec<Work>) {
    fixture.change(|state| state.engines_wait = true);
    let first = submit(fixture, "first", 4);
    let process = Process::start(fixture, Setting { max_active_jobs: 1, ..setting(Hooks::none()) });
    fixture.wait("a batch", |state| !state.jobs.is_empty());
    let later = submit(fixture, "later", 6);
    fixture.wait("those that wait are taken", |state| state.untaken() == 0);
    (process, first, later)
}

#[test]
fn a_paused_session_is_parked_and_then_goes_on_in_batches() {
    let fixture = Fixture::new();
    fixture.decide("s1", Some(json!({"paused": true})));
    let works = submit(&fixture, "j", 12);
    let other = fixture.submit_to("s2", "other", "good", 1, |_| {});
    let process = start(&fixture);
    fixture.wait_until_done();
    assert_eq!(
        (fixture.count("parked"), fixture.outcomes().len()),
        (12, 1),
        "once for each, however often it was delivered"
    );
    fixture.decide("s1", None);
    fixture.wait("all ended", |state| outcomes(state) == 13 && parked(state) == 0);
    fixture.wait_until_done();
    check(&fixture, &works, Ended::Succeeded);
    check(&fixture, &[other], Ended::Succeeded);
    process.terminate().unwrap();
}

#[test]
fn a_pause_reaches_messages_that_wait_for_slots_and_not_the_batch_that_runs() {
    let fixture = Fixture::new();
    let (process, first, later) = busy(&fixture);
    fixture.decide("s1", Some(json!({"paused": true})));
    // A marker that is parked shows that the decision was read.
    let mut markers = Vec::new();
    while fixture.count("parked") == 0 {
        let name = format!("marker{}", markers.len());
        markers.push(fixture.submit_to("s1", &name, "good", 1, |_| {}));
        fixture.wait("it is taken", |state| state.untaken() == 0);
        assert!(markers.len() < 10_000, "the decision is never read");
    }
    let all = first.len() + later.len() + markers.len();
    fixture.change(|state| state.engines_wait = false);
    // On a busy machine the first batch may not have all of the first messages.
    fixture.wait("what ran ended and the rest is parked", |state| parked(state) + outcomes(state) == all);
    fixture.wait_until_done();
    let done = fixture.outcomes();
    assert!((1..=4).contains(&done.len()), "{:?}", done.keys());
    assert!(later.iter().all(|work| !done.contains_key(&work.outcome())), "only the running inputs ended");
    fixture.decide("s1", None);
    fixture.wait("all ended", |state| outcomes(state) == all && parked(state) == 0);
    fixture.wait_until_done();
    check(&fixture, &first, Ended::Succeeded);
    check(&fixture, &later, Ended::Succeeded);
    check(&fixture, &markers, Ended::Succeeded);
    process.terminate().unwrap();
}

#[test]
fn a_cancel_reaches_the_batch_that_runs_and_the_messages_that_wait_for_slots() {
    let fixture = Fixture::new();
    let (process, first, later) = busy(&fixture);
    fixture.cancel("s1");
    fixture.wait("all ended", |state| outcomes(state) == 10);
    fixture.wait_until_done();
    check(&fixture, &first, Ended::Cancelled);
    check(&fixture, &later, Ended::Cancelled);
    // Their redeliveries, days later, do not run; new work does.
    for work in first.iter().chain(&later) {
        fixture.publish_work(work);
    }
    fixture.change(|state| state.engines_wait = false);
    let new = submit(&fixture, "new", 3);
    fixture.wait("the new work", |state| new.iter().all(|work| state.objects.contains_key(&work.outcome())));
    fixture.wait_until_done();
    check(&fixture, &first, Ended::Cancelled);
    check(&fixture, &new, Ended::Succeeded);
    assert_eq!(fixture.count("output"), 3, "what was cancelled has no result");
    process.terminate().unwrap();
}

#[test]
fn a_batch_created_before_its_cancel_was_read_is_cancelled() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = submit(&fixture, "j", 5);
    let before = jiff::Timestamp::now().to_string();
    let process = start(&fixture);
    fixture.wait("the batch", |state| state.jobs.keys().any(|name| batch::is_job_name(name)));
    fixture.decide("s1", Some(json!({"cancelled_before": before})));
    fixture.wait("all ended", |state| outcomes(state) == 5);
    fixture.wait_until_done();
    check(&fixture, &works, Ended::Cancelled);
    process.terminate().unwrap();
}

#[test]
fn work_submitted_after_a_cancel_runs_though_it_shared_a_batch() {
    for step in [None, Some(Step::Finished), Some(Step::PublishedAlone), Some(Step::BatchDeleted)] {
        let fixture = Fixture::new();
        fixture.change(|state| state.engines_wait = true);
        let old = submit(&fixture, "old", 5);
        let before = jiff::Timestamp::now().to_string();
        let new = submit(&fixture, "new", 5);
        let (hooks, held) = match step {
            Some(step) => hold_at(step),
            None => (Hooks::none(), std::sync::mpsc::channel().1),
        };
        let mut process = Process::start(&fixture, setting(hooks));
        fixture.wait("the batch", |state| {
            state.messages_left() == 0 && state.jobs.keys().any(|name| batch::is_job_name(name))
        });
        fixture.decide("s1", Some(json!({"cancelled_before": before})));
        if let Some(step) = step {
            // It is killed on the way, too.
            let reached = held.recv_timeout(std::time::Duration::from_secs(60));
            reached.unwrap_or_else(|_| panic!("{step:?} was never reached"));
            let clients = fixture.clients();
            process.kill();
            fixture.expire_leases(clients);
            process = start(&fixture);
        }
        fixture.wait("the old ones ended", |state| old.iter().all(|work| state.objects.contains_key(&work.outcome())));
        fixture.change(|state| state.engines_wait = false);
        fixture.wait("all ended", |state| outcomes(state) == 10);
        fixture.wait_until_done();
        if step.is_some() {
            // What a crash leaves of a batch that never got its Job is deleted when it is old.
            let ahead = std::time::Duration::from_secs(4000);
            let later = Process::start(&fixture, Setting { ahead, ..setting(Hooks::none()) });
            fixture.wait("the sweep of what is left of batches", |state| {
                !state.objects.keys().any(|name| name.contains("/.batch/"))
            });
            later.terminate().unwrap();
        }
        check(&fixture, &old, Ended::Cancelled);
        check(&fixture, &new, Ended::Succeeded);
        assert_eq!(fixture.count("output"), 5, "what was cancelled has no result, at {step:?}");
        process.terminate().unwrap();
    }
}

#[test]
fn a_cancel_of_one_input_of_a_batch_spares_the_others() {
    let fixture = Fixture::new();
    let (process, first, later) = busy(&fixture);
    let now = jiff::Timestamp::now().to_string();
    // One that runs with others in a batch, and one that waits for its slot.
    let cancelled = [first[1].clone(), later[2].clone()];
    let names: serde_json::Map<_, _> = cancelled.iter().map(|work| (work.job.clone(), json!(now.clone()))).collect();
    fixture.decide("s1", Some(json!({"cancelled_jobs": names})));
    fixture.wait("both ended", |state| cancelled.iter().all(|work| state.objects.contains_key(&work.outcome())));
    fixture.change(|state| state.engines_wait = false);
    fixture.wait("all ended", |state| outcomes(state) == 10);
    fixture.wait_until_done();
    check(&fixture, &cancelled, Ended::Cancelled);
    let others: Vec<Work> = first.iter().chain(&later).filter(|work| !cancelled.contains(work)).cloned().collect();
    check(&fixture, &others, Ended::Succeeded);
    assert_eq!(fixture.count("output"), 8, "what was cancelled has no result");
    process.terminate().unwrap();
}

//! Sessions that are paused and cancelled with dispatch in batches: what waits for slots, what runs, and what is in one
//! batch with others.

use std::sync::Arc;

use contract::{batch, config::Dispatch, message::Work, outcome::State as Ended};
use orchestrator::{Hooks, Step};
use serde_json::json;

use crate::world::{Process, Setting, State, World, hold_at};

fn setting(hooks: Hooks) -> Setting {
    Setting { dispatch: Dispatch::Batch, hooks, ..Setting::default() }
}

fn start(world: &Arc<World>) -> Process {
    Process::start(world, setting(Hooks::none()))
}

fn submit(world: &World, name: &str, count: usize) -> Vec<Work> {
    world.submit_many(name, count, 2)
}

fn outcomes(state: &State) -> usize {
    state.objects.keys().filter(|name| name.starts_with("bu1/outcome/")).count()
}

fn parked(state: &State) -> usize {
    state.objects.keys().filter(|name| name.starts_with("bu1/parked/")).count()
}

fn check(world: &World, works: &[Work], ended: Ended) {
    let code = if ended == Ended::Succeeded { "completed" } else { "cancelled" };
    world.check(&works.iter().map(|work| (work, ended, code)).collect::<Vec<_>>());
}

/// A batch that runs until it is let go, and messages that wait for its slot.
fn busy(world: &Arc<World>) -> (Process, Vec<Work>, Vec<Work>) {
    world.change(|state| state.engines_wait = true);
    let first = submit(world, "first", 4);
    let process = Process::start(world, Setting { max_active_jobs: 1, ..setting(Hooks::none()) });
    world.wait("a batch", |state| !state.jobs.is_empty());
    let later = submit(world, "later", 6);
    world.wait("those that wait are taken", |state| state.untaken() == 0);
    (process, first, later)
}

#[test]
fn a_paused_session_is_put_aside_and_then_goes_on_in_batches() {
    let world = World::new();
    world.decide("s1", Some(json!({"paused": true})));
    let works = submit(&world, "j", 12);
    let other = world.submit_to("s2", "other", "good", 1, |_| {});
    let process = start(&world);
    world.wait_until_done();
    assert_eq!((world.count("parked"), world.outcomes().len()), (12, 1), "once for each, however often it came");
    world.decide("s1", None);
    world.wait("all ended", |state| outcomes(state) == 13 && parked(state) == 0);
    world.wait_until_done();
    check(&world, &works, Ended::Succeeded);
    check(&world, &[other], Ended::Succeeded);
    process.terminate().unwrap();
}

#[test]
fn a_pause_reaches_messages_that_wait_for_slots_and_not_the_batch_that_runs() {
    let world = World::new();
    let (process, first, later) = busy(&world);
    world.decide("s1", Some(json!({"paused": true})));
    // One that is put aside at once tells that the decision was read.
    let mut markers = Vec::new();
    while world.count("parked") == 0 {
        let name = format!("marker{}", markers.len());
        markers.push(world.submit_to("s1", &name, "good", 1, |_| {}));
        world.wait("it is taken", |state| state.untaken() == 0);
        assert!(markers.len() < 10_000, "the decision is never read");
    }
    let all = first.len() + later.len() + markers.len();
    world.change(|state| state.engines_wait = false);
    // On a busy machine not all of the first came together.
    world.wait("what ran ended and the rest is put aside", |state| parked(state) + outcomes(state) == all);
    world.wait_until_done();
    let done = world.outcomes();
    assert!((1..=4).contains(&done.len()), "{:?}", done.keys());
    assert!(later.iter().all(|work| !done.contains_key(&work.outcome())), "nothing but what ran came to an end");
    world.decide("s1", None);
    world.wait("all ended", |state| outcomes(state) == all && parked(state) == 0);
    world.wait_until_done();
    check(&world, &first, Ended::Succeeded);
    check(&world, &later, Ended::Succeeded);
    check(&world, &markers, Ended::Succeeded);
    process.terminate().unwrap();
}

#[test]
fn a_cancel_reaches_the_batch_that_runs_and_the_messages_that_wait_for_slots() {
    let world = World::new();
    let (process, first, later) = busy(&world);
    world.cancel("s1");
    world.wait("all ended", |state| outcomes(state) == 10);
    world.wait_until_done();
    check(&world, &first, Ended::Cancelled);
    check(&world, &later, Ended::Cancelled);
    // They come again, days later, and are not run after all; what is asked for anew is.
    for work in first.iter().chain(&later) {
        world.publish_work(work);
    }
    world.change(|state| state.engines_wait = false);
    let anew = submit(&world, "anew", 3);
    world.wait("what is new", |state| anew.iter().all(|work| state.objects.contains_key(&work.outcome())));
    world.wait_until_done();
    check(&world, &first, Ended::Cancelled);
    check(&world, &anew, Ended::Succeeded);
    assert_eq!(world.count("output"), 3, "what was cancelled has no result");
    process.terminate().unwrap();
}

#[test]
fn a_batch_that_was_made_after_a_cancel_nobody_had_read_is_cancelled() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = submit(&world, "j", 5);
    let before = jiff::Timestamp::now().to_string();
    let process = start(&world);
    world.wait("the batch", |state| state.jobs.keys().any(|name| batch::is_job_name(name)));
    world.decide("s1", Some(json!({"cancelled_before": before})));
    world.wait("all ended", |state| outcomes(state) == 5);
    world.wait_until_done();
    check(&world, &works, Ended::Cancelled);
    process.terminate().unwrap();
}

#[test]
fn what_was_submitted_after_a_cancel_goes_on_though_it_shared_a_batch_with_what_came_before() {
    for step in [None, Some(Step::Finished), Some(Step::PublishedAlone), Some(Step::BatchDeleted)] {
        let world = World::new();
        world.change(|state| state.engines_wait = true);
        let old = submit(&world, "old", 5);
        let before = jiff::Timestamp::now().to_string();
        let new = submit(&world, "new", 5);
        let (hooks, held) = match step {
            Some(step) => hold_at(step),
            None => (Hooks::none(), std::sync::mpsc::channel().1),
        };
        let mut process = Process::start(&world, setting(hooks));
        world.wait("the batch", |state| {
            state.messages_left() == 0 && state.jobs.keys().any(|name| batch::is_job_name(name))
        });
        world.decide("s1", Some(json!({"cancelled_before": before})));
        if let Some(step) = step {
            // It is killed on the way, too.
            let reached = held.recv_timeout(std::time::Duration::from_secs(60));
            reached.unwrap_or_else(|_| panic!("nothing came to {step:?}"));
            let clients = world.clients();
            process.kill();
            world.bury(clients);
            process = start(&world);
        }
        world.wait("the old ones ended", |state| old.iter().all(|work| state.objects.contains_key(&work.outcome())));
        world.change(|state| state.engines_wait = false);
        world.wait("all ended", |state| outcomes(state) == 10);
        world.wait_until_done();
        check(&world, &old, Ended::Cancelled);
        check(&world, &new, Ended::Succeeded);
        assert_eq!(world.count("output"), 5, "what was cancelled has no result, at {step:?}");
        process.terminate().unwrap();
    }
}

#[test]
fn a_cancel_of_one_input_of_a_batch_ends_that_one_and_lets_the_others_go_on() {
    let world = World::new();
    let (process, first, later) = busy(&world);
    let now = jiff::Timestamp::now().to_string();
    // One that runs with others in a batch, and one that waits for its slot.
    let cancelled = [first[1].clone(), later[2].clone()];
    let names: serde_json::Map<_, _> = cancelled.iter().map(|work| (work.job.clone(), json!(now.clone()))).collect();
    world.decide("s1", Some(json!({"cancelled_jobs": names})));
    world.wait("both ended", |state| cancelled.iter().all(|work| state.objects.contains_key(&work.outcome())));
    world.change(|state| state.engines_wait = false);
    world.wait("all ended", |state| outcomes(state) == 10);
    world.wait_until_done();
    check(&world, &cancelled, Ended::Cancelled);
    let others: Vec<Work> = first.iter().chain(&later).filter(|work| !cancelled.contains(work)).cloned().collect();
    check(&world, &others, Ended::Succeeded);
    assert_eq!(world.count("output"), 8, "what was cancelled has no result");
    process.terminate().unwrap();
}

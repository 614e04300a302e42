//! Dispatch in batches: whatever is killed, deleted or delivered twice, every input gets exactly one outcome.

use std::time::Duration;

use contract::{batch, config::Dispatch, message::Work, outcome::State as Ended};
use orchestrator::{Hooks, Step};

use crate::world::{Process, Setting, World, hold_at};

/// The points that a session in batches comes to. A message that is no input of a batch goes the way of the others.
const STEPS: [Step; 12] = [
    Step::Received,
    Step::ManifestWritten,
    Step::BeforeCreate,
    Step::Created,
    Step::BeforeAck,
    Step::AfterAck,
    Step::Finished,
    Step::OutcomeWritten,
    Step::InputDeleted,
    Step::PublishedAlone,
    Step::BatchDeleted,
    Step::FinalizerRemoved,
];

fn setting(hooks: Hooks) -> Setting {
    Setting { dispatch: Dispatch::Batch, hooks, ..Setting::default() }
}

fn submit(world: &World, count: usize, times: usize) -> Vec<Work> {
    world.submit_many("j", count, times)
}

/// Kills an orchestrator at `step`, with another one beside it or not, and starts it again.
fn crash_at(step: Step, beside: bool) {
    let world = World::new();
    let good = submit(&world, 12, 2);
    let split = world.submit("split", "good", Some(3), 1);
    let bad = world.submit("a/bad.json", "bad", None, 1);
    let kills = world.submit("kills", "kill", None, 1);

    let (hooks, held) = hold_at(step);
    let first = Process::start(&world, setting(hooks));
    held.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("nothing came to {step:?}"));
    let clients = world.clients();
    let second = beside.then(|| Process::start(&world, setting(Hooks::none())));
    first.kill();
    world.bury(clients);
    let third = Process::start(&world, setting(Hooks::none()));
    world.wait_until_done();
    // What a crash leaves of a batch that never got its Job is swept up when it is old.
    let later = Process::start(&world, Setting { ahead: Duration::from_secs(4000), ..setting(Hooks::none()) });
    let swept = |name: &String| !name.contains("/.batch/");
    world.wait("the sweep of what is left of batches", |state| state.objects.keys().all(swept));
    world.wait_until_done();

    let mut wanted: Vec<_> = good.iter().map(|work| (work, Ended::Succeeded, "completed")).collect();
    wanted.extend([
        (&split, Ended::Succeeded, "completed"),
        (&bad, Ended::Failed, "malformed-input"),
        (&kills, Ended::Failed, "kills-pods"),
    ]);
    world.check(&wanted);
    assert_eq!(world.outcomes().len(), wanted.len(), "{step:?}");
    for process in second.into_iter().chain([third, later]) {
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
fn what_waits_together_is_one_job_and_duplicates_are_one_input() {
    let world = World::new();
    let works = submit(&world, 300, 2);
    let process = Process::start(&world, setting(Hooks::none()));
    world.wait_until_done();
    world.check_succeeded(&works);
    let state = world.look();
    assert!(state.creations.len() < 30, "{} Jobs for 300 inputs", state.creations.len());
    assert_eq!(state.nacked, 0);
    drop(state);
    let outcomes = world.outcomes();
    assert!(outcomes.values().any(|outcome| batch::is_job_name(outcome.kubernetes_job.as_deref().unwrap())));
    process.terminate().unwrap();
}

#[test]
fn a_batch_that_is_deleted_halfway_has_succeeded_with_what_is_done_and_the_rest_is_cancelled() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = submit(&world, 20, 1);
    let process = Process::start(&world, setting(Hooks::none()));
    world.wait("the Jobs", |state| state.messages_left() == 0);
    let jobs: Vec<String> = world.look().jobs.keys().cloned().collect();
    world.change(|state| {
        state.engines_wait = false;
        state.batches_stop_halfway = true;
    });
    // What one pod has reported is settled while the other runs.
    world.wait("the outcomes of one half", |state| {
        state.objects.keys().filter(|name| name.contains("/outcome/")).count() >= 10
    });
    world.change(|state| {
        state.engines_wait = true;
        jobs.iter().for_each(|name| state.delete(name));
    });
    world.wait("all outcomes", |state| {
        state.objects.keys().filter(|name| name.contains("/outcome/")).count() == works.len()
    });
    // It comes once more, and is not run after all.
    world.change(|state| {
        for work in &works {
            let (data, attributes) = work.encode();
            state.publish(&data, attributes);
        }
    });
    world.wait_until_done();
    let outcomes = world.outcomes();
    let (done, rest): (Vec<_>, Vec<_>) =
        works.iter().partition(|work| world.look().objects.contains_key(&work.output(None)));
    assert!(done.len() >= 10 && rest.len() <= 10, "{} of {}", done.len(), outcomes.len());
    let wanted: Vec<_> = done
        .into_iter()
        .map(|work| (work, Ended::Succeeded, "completed"))
        .chain(rest.into_iter().map(|work| (work, Ended::Cancelled, "cancelled")))
        .collect();
    world.check(&wanted);
    assert_eq!(outcomes.len(), 20);
    process.terminate().unwrap();
}

#[test]
fn an_input_in_a_batch_and_in_a_job_of_its_own_has_one_outcome() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = submit(&world, 10, 1);
    // One process in each way, and every message comes to both.
    let together = Process::start(&world, setting(Hooks::none()));
    world.wait("the batch", |state| state.messages_left() == 0);
    together.terminate().unwrap();
    let lone: Vec<String> = world.look().jobs.keys().filter(|name| !batch::is_job_name(name)).cloned().collect();
    world.change(|state| {
        for work in &works {
            let (data, attributes) = work.encode();
            state.publish(&data, attributes);
        }
    });
    let each = Process::start(&world, Setting::default());
    world.wait("a Job for each", |state| state.creations.len() > 10);
    // The batch is deleted, and the others end well: what was cancelled first stays cancelled, and has no result.
    world.change(|state| {
        for name in state.jobs.keys().filter(|name| batch::is_job_name(name)).cloned().collect::<Vec<_>>() {
            state.delete(&name);
        }
    });
    let outcomes = works.len() - lone.len();
    world.wait("outcomes", |state| state.objects.keys().filter(|name| name.contains("/outcome/")).count() == outcomes);
    world.change(|state| state.engines_wait = false);
    world.wait_until_done();
    // One that waited alone has the same Job in both ways.
    let ended = |work: &Work| match lone.contains(&work.identity.job_name()) {
        true => (Ended::Succeeded, "completed"),
        false => (Ended::Cancelled, "cancelled"),
    };
    let wanted: Vec<_> = works.iter().map(|work| (work, ended(work).0, ended(work).1)).collect();
    world.check(&wanted);
    let results = world.look().objects.keys().filter(|name| name.contains("/output/")).count();
    assert_eq!(results, lone.len(), "what was cancelled has no result");
    each.terminate().unwrap();
}

#[test]
fn messages_wait_for_slots_and_none_is_given_back() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let first = submit(&world, 3, 1);
    let process = Process::start(&world, Setting { max_active_jobs: 1, ..setting(Hooks::none()) });
    world.wait("a Job", |state| !state.jobs.is_empty());
    let later = world.submit_many("later", 50, 1);
    world.change(|state| state.engines_wait = false);
    world.wait_until_done();
    world.check_succeeded(first.iter().chain(&later));
    let state = world.look();
    assert_eq!((state.most_active, state.nacked), (1, 0));
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn a_stop_in_the_middle_of_a_flood_loses_and_repeats_nothing() {
    let world = World::new();
    let works = submit(&world, 300, 1);
    let process = Process::start(&world, setting(Hooks::none()));
    world.wait("a batch", |state| !state.creations.is_empty());
    let more = world.submit_many("more", 300, 1);
    world.wait("some outcomes", |state| state.objects.keys().any(|name| name.contains("/outcome/")));
    process.terminate().unwrap();
    world.bury(world.clients());
    let process = Process::start(&world, setting(Hooks::none()));
    world.wait_until_done();
    world.check_succeeded(works.iter().chain(&more));
    assert!(world.look().creations.values().all(|count| *count == 1));
    assert_eq!(world.outcomes().len(), 600);
    process.terminate().unwrap();
}

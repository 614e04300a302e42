//! Dispatch in batches: whatever is killed, deleted or delivered twice, every input gets exactly one outcome.

use std::time::Duration;

use contract::{batch, config::Dispatch, message::Work, outcome::State as Ended};
use orchestrator::{Hooks, Step};

use crate::fixture::{Fixture, Process, Setting, hold_at};

/// The steps that a session in batches reaches. A message that is no input of a batch reaches those of any other.
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

fn submit(fixture: &Fixture, count: usize, times: usize) -> Vec<Work> {
    fixture.submit_many("j", count, times)
}

/// Kills an orchestrator at `step`, with another one beside it or not, and starts a new one.
fn crash_at(step: Step, beside: bool) {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["that no pod of its batch settled", "the manifest of a running batch"]);
    let good = submit(&fixture, 12, 2);
    let split = fixture.submit("split", "good", Some(3), 1);
    let bad = fixture.submit("a/bad.json", "bad", None, 1);
    let kills = fixture.submit("kills", "kill", None, 1);

    let (hooks, held) = hold_at(step);
    let first = Process::start(&fixture, setting(hooks));
    held.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{step:?} was never reached"));
    let clients = fixture.clients();
    let second = beside.then(|| Process::start(&fixture, setting(Hooks::none())));
    first.kill();
    fixture.expire_leases(clients);
    let third = Process::start(&fixture, setting(Hooks::none()));
    fixture.wait_until_done();
    // What a crash leaves of a batch that never got its Job is swept up when it is old.
    let later = Process::start(&fixture, Setting { ahead: Duration::from_secs(4000), ..setting(Hooks::none()) });
    let swept = |name: &String| !name.contains("/.batch/");
    fixture.wait("the sweep of what is left of batches", |state| state.objects.keys().all(swept));
    fixture.wait_until_done();

    let mut expected: Vec<_> = good.iter().map(|work| (work, Ended::Succeeded, "completed")).collect();
    expected.extend([
        (&split, Ended::Succeeded, "completed"),
        (&bad, Ended::Failed, "malformed-input"),
        (&kills, Ended::Failed, "kills-pods"),
    ]);
    fixture.check(&expected);
    assert_eq!(fixture.outcomes().len(), expected.len(), "{step:?}");
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
fn messages_of_a_session_are_one_job_and_duplicates_are_one_input() {
    let fixture = Fixture::new();
    let works = submit(&fixture, 300, 2);
    let process = Process::start(&fixture, setting(Hooks::none()));
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    let state = fixture.state();
    assert!(state.creations.len() < 30, "{} Jobs for 300 inputs", state.creations.len());
    assert_eq!(state.nacked, 0);
    drop(state);
    let outcomes = fixture.outcomes();
    assert!(outcomes.values().any(|outcome| batch::is_job_name(outcome.kubernetes_job.as_deref().unwrap())));
    process.terminate().unwrap();
}

#[test]
fn a_batch_that_is_deleted_halfway_has_succeeded_with_what_is_done_and_the_rest_is_cancelled() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = submit(&fixture, 20, 1);
    let process = Process::start(&fixture, setting(Hooks::none()));
    fixture.wait("the Jobs", |state| state.messages_left() == 0);
    let jobs: Vec<String> = fixture.state().jobs.keys().cloned().collect();
    fixture.change(|state| {
        state.engines_wait = false;
        state.batches_stop_halfway = true;
    });
    // What one pod has reported is settled while the other runs.
    fixture.wait("the outcomes of one half", |state| {
        state.objects.keys().filter(|name| name.contains("/outcome/")).count() >= 10
    });
    fixture.change(|state| {
        state.engines_wait = true;
        jobs.iter().for_each(|name| state.delete(name));
    });
    fixture.wait("all outcomes", |state| {
        state.objects.keys().filter(|name| name.contains("/outcome/")).count() == works.len()
    });
    // A redelivery does not run.
    fixture.change(|state| {
        for work in &works {
            let (data, attributes) = work.encode();
            state.publish(&data, attributes);
        }
    });
    fixture.wait_until_done();
    let outcomes = fixture.outcomes();
    let (done, rest): (Vec<_>, Vec<_>) =
        works.iter().partition(|work| fixture.state().objects.contains_key(&work.output(None)));
    assert!(done.len() >= 10 && rest.len() <= 10, "{} of {}", done.len(), outcomes.len());
    let expected: Vec<_> = done
        .into_iter()
        .map(|work| (work, Ended::Succeeded, "completed"))
        .chain(rest.into_iter().map(|work| (work, Ended::Cancelled, "cancelled")))
        .collect();
    fixture.check(&expected);
    assert_eq!(outcomes.len(), 20);
    process.terminate().unwrap();
}

#[test]
fn an_input_in_a_batch_and_in_a_job_of_its_own_has_one_outcome() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["written after another outcome"]);
    fixture.change(|state| state.engines_wait = true);
    let works = submit(&fixture, 10, 1);
    // One process for each kind of dispatch, and each receives every message.
    let together = Process::start(&fixture, setting(Hooks::none()));
    fixture.wait("the batch", |state| state.messages_left() == 0);
    together.terminate().unwrap();
    let lone: Vec<String> = fixture.state().jobs.keys().filter(|name| !batch::is_job_name(name)).cloned().collect();
    fixture.change(|state| {
        for work in &works {
            let (data, attributes) = work.encode();
            state.publish(&data, attributes);
        }
    });
    let each = Process::start(&fixture, Setting::default());
    fixture.wait("a Job for each", |state| state.creations.len() > 10);
    // The batch is deleted, and the others end well: what was cancelled first stays cancelled, and has no result.
    fixture.change(|state| {
        for name in state.jobs.keys().filter(|name| batch::is_job_name(name)).cloned().collect::<Vec<_>>() {
            state.delete(&name);
        }
    });
    let outcomes = works.len() - lone.len();
    fixture
        .wait("outcomes", |state| state.objects.keys().filter(|name| name.contains("/outcome/")).count() == outcomes);
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    // One that waited alone has the same Job in both ways.
    let ended = |work: &Work| match lone.contains(&work.identity.job_name()) {
        true => (Ended::Succeeded, "completed"),
        false => (Ended::Cancelled, "cancelled"),
    };
    let expected: Vec<_> = works.iter().map(|work| (work, ended(work).0, ended(work).1)).collect();
    fixture.check(&expected);
    let results = fixture.state().objects.keys().filter(|name| name.contains("/output/")).count();
    assert_eq!(results, lone.len(), "what was cancelled has no result");
    each.terminate().unwrap();
}

#[test]
fn messages_wait_for_slots_and_none_is_given_back() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let first = submit(&fixture, 3, 1);
    let process = Process::start(&fixture, Setting { max_active_jobs: 1, ..setting(Hooks::none()) });
    fixture.wait("a Job", |state| !state.jobs.is_empty());
    let later = fixture.submit_many("later", 50, 1);
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    fixture.check_succeeded(first.iter().chain(&later));
    let state = fixture.state();
    assert_eq!((state.max_active, state.nacked), (1, 0));
    drop(state);
    process.terminate().unwrap();
}

#[test]
fn a_stop_in_the_middle_of_a_flood_loses_and_repeats_nothing() {
    let fixture = Fixture::new();
    let works = submit(&fixture, 300, 1);
    let process = Process::start(&fixture, setting(Hooks::none()));
    fixture.wait("a batch", |state| !state.creations.is_empty());
    let more = fixture.submit_many("more", 300, 1);
    fixture.wait("some outcomes", |state| state.objects.keys().any(|name| name.contains("/outcome/")));
    process.terminate().unwrap();
    fixture.expire_leases(fixture.clients());
    let process = Process::start(&fixture, setting(Hooks::none()));
    fixture.wait_until_done();
    fixture.check_succeeded(works.iter().chain(&more));
    assert!(fixture.state().creations.values().all(|count| *count == 1));
    assert_eq!(fixture.outcomes().len(), 600);
    process.terminate().unwrap();
}

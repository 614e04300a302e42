//! Sessions that are paused, resumed and cancelled, with messages on their way and orchestrators that die.

use std::{sync::Arc, time::Duration};

use contract::{message::Work, outcome::State as Ended};
use orchestrator::Step;
use serde_json::json;

use crate::world::{Process, Setting, World, hold_at};

/// From here on an old input would be published again by the sweep.
const OLD: Duration = Duration::from_secs(4000);

fn paused() -> Option<serde_json::Value> {
    Some(json!({"paused": true}))
}

fn start(world: &Arc<World>) -> Process {
    Process::start(world, Setting { ahead: OLD, ..Setting::default() })
}

/// Waits until what was decided has been read: a message of a session that must be held is held.
fn marker(world: &World, session: &str) -> Work {
    let before = world.count("parked");
    let work = world.submit_to(session, "marker", "good", 1, |_| {});
    world.wait("the marker is put aside", |state| {
        state.objects.keys().filter(|name| name.starts_with("bu1/parked/")).count() > before
    });
    work
}

#[test]
fn a_paused_session_waits_with_all_its_options_and_then_goes_on() {
    let world = World::new();
    world.decide("s1", paused());
    let split = world.submit("split", "good", Some(3), 3);
    let second = world.submit_to("s1", "deep/second", "good", 1, |work| {
        work.identity.attempt = 2;
        work.client = Some("alice".into());
        work.common = vec!["market.json".into()];
        work.resources.memory = Some("2Gi".into());
    });
    // Its message was never sent.
    let lost = world.submit("lost", "good", None, 0);
    let other = world.submit_to("s2", "other", "good", 1, |_| {});
    let process = start(&world);
    world.wait_until_done();
    world.check(&[(&other, Ended::Succeeded, "completed")]);
    assert_eq!(world.count("parked"), 2, "one for each identity, however often its message came");
    assert_eq!(world.outcomes().len(), 1, "nothing of the paused session ran, and the sweep published nothing of it");
    assert_eq!(world.look().creations.len(), 1);

    world.decide("s1", None);
    world.wait("the last outcome", |state| state.objects.contains_key(&lost.outcome()));
    world.wait("nothing is put aside any more", |state| !state.objects.keys().any(|name| name.contains("/parked/")));
    world.wait_until_done();
    world.check(&[
        (&split, Ended::Succeeded, "completed"),
        (&second, Ended::Succeeded, "completed"),
        (&lost, Ended::Succeeded, "completed"),
    ]);
    let outcome = &world.outcomes()[&second.outcome()];
    assert_eq!(outcome.work.as_ref(), Some(&second), "every option survived the pause");
    assert!(world.look().creations.values().all(|count| *count == 1));
    process.terminate().unwrap();
}

#[test]
fn a_pause_starts_nothing_new_and_lets_what_runs_finish() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = world.submit_many("j", 6, 1);
    let process = Process::start(&world, Setting { max_active_jobs: 2, ..Setting::default() });
    world.wait("two run", |state| state.jobs.len() == 2);
    world.decide("s1", paused());
    // While no slot is free nothing is taken, so another orchestrator tells when the decision was read.
    let reader = Process::start(&world, Setting::default());
    world.wait("the rest is put aside", |state| {
        state.objects.keys().filter(|name| name.starts_with("bu1/parked/")).count() == 4
    });
    world.change(|state| state.engines_wait = false);
    world.wait("the two finished", |state| {
        state.objects.keys().filter(|name| name.starts_with("bu1/outcome/")).count() == 2
    });
    world.wait_until_done();
    assert_eq!(world.look().creations.len(), 2);
    world.decide("s1", None);
    world.wait("all ended", |state| state.objects.keys().filter(|name| name.starts_with("bu1/outcome/")).count() == 6);
    world.wait_until_done();
    world.check_succeeded(&works);
    for process in [process, reader] {
        process.terminate().unwrap();
    }
}

#[test]
fn a_cancel_in_the_middle_of_a_session_ends_it_once_whatever_comes_again() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = world.submit_many("j", 8, 3);
    let lost = world.submit("lost", "good", None, 0);
    let other = world.submit_to("s2", "other", "good", 1, |_| {});
    let process = Process::start(&world, Setting { max_active_jobs: 3, ahead: OLD, ..Setting::default() });
    let second = Process::start(&world, Setting { max_active_jobs: 3, ahead: OLD, ..Setting::default() });
    world.wait("some run", |state| state.jobs.len() >= 3);
    world.cancel("s1");
    world.wait("the one that nobody knew of", |state| state.objects.contains_key(&lost.outcome()));
    let all = works.iter().chain([&lost]);
    for work in all.clone() {
        world.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
        world.publish_work(work);
    }
    // Days later, or from a stuck client.
    for work in all.clone() {
        world.publish_work(work);
    }
    world.change(|state| state.engines_wait = false);
    world.wait("the other session goes on", |state| state.objects.contains_key(&other.outcome()));
    world.wait_until_done();
    let mut wanted: Vec<_> = all.map(|work| (work, Ended::Cancelled, "cancelled")).collect();
    wanted.push((&other, Ended::Succeeded, "completed"));
    world.check(&wanted);
    assert_eq!(world.outcomes().len(), 10);

    // What is asked for after the cancel runs: a new input, and a retry of an old one.
    let later = world.submit("later", "good", None, 1);
    let mut again = works[0].clone();
    again.identity.attempt = 1;
    world.publish_work(&again);
    world.wait("the retry", |state| state.objects.contains_key(&again.outcome()));
    world.wait("the new one", |state| state.objects.contains_key(&later.outcome()));
    world.wait_until_done();
    world.check(&[(&later, Ended::Succeeded, "completed"), (&again, Ended::Succeeded, "completed")].map(|w| w));
    for process in [process, second] {
        process.terminate().unwrap();
    }
}

#[test]
fn a_cancel_of_one_job_means_it_wherever_it_is_and_nothing_else() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = world.submit_many("j", 6, 2);
    let lost = world.submit("lost", "good", None, 0);
    let process = Process::start(&world, Setting { max_active_jobs: 2, ahead: OLD, ..Setting::default() });
    world.wait("some run", |state| state.jobs.len() >= 2);
    let runs = {
        let jobs = world.look().jobs.keys().cloned().collect::<Vec<_>>();
        works.iter().find(|work| jobs.contains(&work.identity.job_name())).expect("one of them runs").clone()
    };
    let waits = works.iter().find(|work| !world.look().jobs.contains_key(&work.identity.job_name())).unwrap().clone();
    let before = jiff::Timestamp::now().to_string();
    let cancelled = [&runs, &waits, &lost];
    let names: serde_json::Map<_, _> = cancelled.iter().map(|work| (work.job.clone(), json!(before))).collect();
    world.decide("s1", Some(json!({"cancelled_jobs": names})));
    world.wait("what ran is cancelled", |state| state.objects.contains_key(&runs.outcome()));
    world.change(|state| state.engines_wait = false);
    for work in works.iter().chain([&lost]) {
        world.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
    }
    world.wait_until_done();
    let wanted: Vec<_> = works
        .iter()
        .chain([&lost])
        .map(|work| match cancelled.contains(&work) {
            true => (work, Ended::Cancelled, "cancelled"),
            false => (work, Ended::Succeeded, "completed"),
        })
        .collect();
    world.check(&wanted);
    // What is asked for after it runs.
    let mut again = runs.clone();
    again.identity.attempt = 1;
    world.publish_work(&again);
    world.wait("the retry", |state| state.objects.contains_key(&again.outcome()));
    world.wait_until_done();
    world.check(&[(&again, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

#[test]
fn a_cancel_reaches_what_a_pause_holds() {
    let world = World::new();
    world.decide("s1", paused());
    let works = world.submit_many("j", 4, 2);
    let process = start(&world);
    world.wait_until_done();
    assert_eq!(world.count("parked"), 4);
    let before = jiff::Timestamp::now().to_string();
    world.decide("s1", Some(json!({"paused": true, "cancelled_before": before})));
    world.wait("nothing is put aside any more", |state| !state.objects.keys().any(|name| name.contains("/parked/")));
    world.wait_until_done();
    let wanted: Vec<_> = works.iter().map(|work| (work, Ended::Cancelled, "cancelled")).collect();
    world.check(&wanted);
    assert!(world.look().creations.is_empty());
    // It is still paused for what comes after.
    let later = marker(&world, "s1");
    world.decide("s1", None);
    world.wait("an outcome", |state| state.objects.contains_key(&later.outcome()));
    world.wait_until_done();
    world.check(&[(&later, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

#[test]
fn a_message_that_is_put_aside_again_outlives_the_record_that_was_there() {
    let world = World::new();
    world.decide("s1", paused());
    let work = world.submit("j", "good", None, 1);
    let process = Process::start(&world, Setting::default());
    world.wait_until_done();
    let name = contract::object::parked("bu1", "s1", "j", &work.identity);
    let before = world.look().objects[&name].generation;
    // Another replica has read the end of the pause and published it, and deletes the record that it read a moment after
    // this one, which has not, has put the message aside again.
    world.publish_work(&work);
    world.wait_until_done();
    world.change(|state| state.objects.retain(|other, object| *other != name || object.generation != before));
    world.decide("s1", None);
    world.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
    world.wait_until_done();
    world.check(&[(&work, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

/// Kills an orchestrator at `step` with `control` decided while it is dead, with another one beside it or not.
fn crash_at(step: Step, beside: bool, first: Option<serde_json::Value>, then: impl Fn(&World), ends: Ended) {
    let world = World::new();
    world.decide("s1", first);
    let works = world.submit_many("j", 3, 2);
    let second = beside.then(|| start(&world));
    let (hooks, held) = hold_at(step);
    let process = Process::start(&world, Setting { hooks, ahead: OLD, ..Setting::default() });
    if step == Step::Released {
        world.wait("all is put aside", |state| {
            state.objects.keys().filter(|name| name.contains("/parked/")).count() == 3
        });
        then(&world);
    }
    // With two of them the other one may be quicker than this one at everything.
    let reached = held.recv_timeout(Duration::from_secs(if beside { 2 } else { 30 })).is_ok();
    assert!(reached || beside, "nothing came to {step:?}");
    let clients = world.clients();
    process.kill();
    if step != Step::Released {
        then(&world);
    }
    if !beside {
        world.bury(clients);
    }
    let third = start(&world);
    for work in &works {
        world.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
    }
    world.wait("nothing is put aside any more", |state| !state.objects.keys().any(|name| name.contains("/parked/")));
    world.wait_until_done();
    let code = if ends == Ended::Succeeded { "completed" } else { "cancelled" };
    let wanted: Vec<_> = works.iter().map(|work| (work, ends, code)).collect();
    world.check(&wanted);
    assert_eq!(world.outcomes().len(), 3, "{step:?}");
    for process in second.into_iter().chain([third]) {
        process.terminate().unwrap();
    }
}

#[test]
fn a_crash_around_a_pause_loses_and_repeats_nothing() {
    for beside in [false, true] {
        for step in [Step::Parked, Step::BeforeAck, Step::AfterAck, Step::Released] {
            crash_at(step, beside, paused(), |world| world.decide("s1", None), Ended::Succeeded);
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
            let world = World::new();
            let works = world.submit_many("j", 3, 2);
            world.cancel("s1");
            let (hooks, held) = hold_at(step);
            let process = Process::start(&world, Setting { hooks, ..Setting::default() });
            held.recv_timeout(Duration::from_secs(30)).unwrap();
            let clients = world.clients();
            process.kill();
            world.bury(clients);
            let process = start(&world);
            world.wait_until_done();
            let wanted: Vec<_> = works.iter().map(|work| (work, Ended::Cancelled, "cancelled")).collect();
            world.check(&wanted);
            assert_eq!(world.outcomes().len(), 3);
            assert!(world.look().creations.is_empty());
            process.terminate().unwrap();
        } else {
            crash_at(step, false, first, |world| world.cancel("s1"), Ended::Cancelled);
        }
    }
}

#[test]
fn a_job_that_was_created_just_before_a_cancel_is_cancelled_by_whoever_comes_next() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let work = world.submit("j", "good", None, 1);
    let (hooks, held) = hold_at(Step::Created);
    let process = Process::start(&world, Setting { hooks, ..Setting::default() });
    held.recv_timeout(Duration::from_secs(30)).unwrap();
    let clients = world.clients();
    process.kill();
    world.cancel("s1");
    world.bury(clients);
    let process = start(&world);
    world.wait("its outcome", |state| state.objects.contains_key(&work.outcome()));
    world.wait_until_done();
    world.check(&[(&work, Ended::Cancelled, "cancelled")]);
    process.terminate().unwrap();
}

#[test]
fn a_control_object_that_cannot_be_understood_holds_its_session_only() {
    let world = World::new();
    world.decide("s1", Some(json!({"schema": 99, "paused": false})));
    let held = world.submit("held", "good", None, 1);
    let other = world.submit_to("s2", "other", "good", 1, |_| {});
    let process = start(&world);
    world.wait_until_done();
    world.check(&[(&other, Ended::Succeeded, "completed")]);
    assert_eq!((world.count("parked"), world.outcomes().len()), (1, 1));
    world.decide("s1", None);
    world.wait("its outcome", |state| state.objects.contains_key(&held.outcome()));
    world.wait_until_done();
    world.check(&[(&held, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

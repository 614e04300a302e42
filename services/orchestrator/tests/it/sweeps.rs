//! What the sweep finds long after: inputs whose outcomes are gone, inputs that a batch has in hand, and what batches need.

use std::time::Duration;

use contract::{batch, config::Dispatch, outcome::State as Ended};

use crate::world::{Process, Setting, World};

/// From here on an old input would be published again.
const OLD: Duration = Duration::from_secs(4000);
const DAY: Duration = Duration::from_secs(86_400);

fn batches(ahead: Duration) -> Setting {
    Setting { dispatch: Dispatch::Batch, ahead, ..Setting::default() }
}

#[test]
fn what_was_settled_does_not_run_again_when_its_outcome_is_gone() {
    let world = World::new();
    let failed = world.submit("a-failed", "bad", None, 1);
    let process = Process::start(&world, Setting::default());
    world.wait_until_done();
    world.check(&[(&failed, Ended::Failed, "malformed-input")]);
    process.terminate().unwrap();
    // Its Job went after an hour, and its outcome after 90 days.
    world.change(|state| {
        state.objects.remove(&failed.outcome());
        state.delete(&failed.identity.job_name());
    });
    let lost = world.submit("b-lost", "good", None, 0);
    world.change(|state| {
        let input = state.objects.get_mut(&lost.identity.object).unwrap();
        input.created += 89 * DAY;
    });
    let process = Process::start(&world, Setting { ahead: 91 * DAY, ..Setting::default() });
    // The sweep comes to it after the other one.
    world.wait("what was lost lately", |state| state.objects.contains_key(&lost.outcome()));
    world.wait_until_done();
    world.check(&[(&lost, Ended::Succeeded, "completed")]);
    assert_eq!(world.look().creations[&failed.identity.job_name()], 1);
    assert!(!world.outcomes().contains_key(&failed.outcome()));
    process.terminate().unwrap();
}

#[test]
fn what_a_batch_has_in_hand_is_not_published_again() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = world.submit_many("j", 10, 1);
    let lost = world.submit("lost", "good", None, 0);
    let process = Process::start(&world, batches(Duration::ZERO));
    world.wait("the Jobs", |state| state.messages_left() == 0);
    assert!(world.look().jobs.keys().any(|name| batch::is_job_name(name)));
    let before = world.look().creations.len();
    process.terminate().unwrap();
    let process = Process::start(&world, batches(OLD));
    // The sweep comes to it after the others.
    world.wait("what was lost", |state| state.creations.len() > before && state.messages_left() == 0);
    let names: Vec<String> = world.look().creations.keys().cloned().collect();
    assert_eq!(names.len(), before + 1, "{names:?}");
    assert!(names.contains(&lost.identity.job_name()), "alone, since nothing else came again: {names:?}");
    world.change(|state| state.engines_wait = false);
    world.wait_until_done();
    let all = works.iter().chain([&lost]);
    world.check_succeeded(all);
    process.terminate().unwrap();
}

#[test]
fn the_manifest_of_a_batch_that_takes_days_stays_young() {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let works = world.submit_many("j", 5, 1);
    let process = Process::start(&world, batches(Duration::ZERO));
    world.wait("the Jobs", |state| state.messages_left() == 0);
    process.terminate().unwrap();
    let manifests = || {
        let state = world.look();
        let found = state.objects.iter().filter(|(name, _)| name.contains("/common/.batch/"));
        found.map(|(name, object)| (name.clone(), object.clone())).collect::<Vec<_>>()
    };
    let before = manifests();
    assert!(!before.is_empty());
    let process = Process::start(&world, batches(DAY / 2 + OLD));
    for (name, manifest) in &before {
        world.wait("it is written anew", |state| state.objects[name].generation > manifest.generation);
    }
    process.terminate().unwrap();
    let contents = |all: &[(String, crate::world::Object)]| all.iter().map(|one| one.1.contents.clone()).collect();
    let (after, before): (Vec<_>, Vec<_>) = (contents(&manifests()), contents(&before));
    assert_eq!(after, before);
    let process = Process::start(&world, batches(Duration::ZERO));
    world.change(|state| state.engines_wait = false);
    world.wait_until_done();
    world.check_succeeded(&works);
    process.terminate().unwrap();
}

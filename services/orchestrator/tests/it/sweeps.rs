//! The sweep, long after: inputs whose outcomes are gone, inputs of a running batch, and the objects of batches.

use std::time::Duration;

use contract::{batch, config::Dispatch, outcome::State as Ended};

use crate::fixture::{Fixture, Process, Setting};

/// At this age the sweep would requeue an input.
const OLD: Duration = Duration::from_secs(4000);
const DAY: Duration = Duration::from_secs(86_400);

fn batches(ahead: Duration) -> Setting {
    Setting { dispatch: Dispatch::Batch, ahead, ..Setting::default() }
}

#[test]
fn settled_work_does_not_run_twice_when_its_outcome_is_deleted() {
    let fixture = Fixture::new();
    let failed = fixture.submit("a-failed", "bad", None, 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    fixture.check(&[(&failed, Ended::Failed, "malformed-input")]);
    process.terminate().unwrap();
    // Its Job went after an hour, and its outcome after 90 days.
    fixture.change(|state| {
        state.objects.remove(&failed.outcome());
        state.delete(&failed.identity.job_name());
    });
    let lost = fixture.submit("b-lost", "good", None, 0);
    fixture.change(|state| {
        let input = state.objects.get_mut(&lost.identity.object).unwrap();
        input.created += 89 * DAY;
    });
    let process = Process::start(&fixture, Setting { ahead: 91 * DAY, ..Setting::default() });
    // The sweep reads it after the other one.
    fixture.wait("what was lost lately", |state| state.objects.contains_key(&lost.outcome()));
    fixture.wait_until_done();
    fixture.check(&[(&lost, Ended::Succeeded, "completed")]);
    assert_eq!(fixture.state().creations[&failed.identity.job_name()], 1);
    assert!(!fixture.outcomes().contains_key(&failed.outcome()));
    process.terminate().unwrap();
}

#[test]
fn an_old_input_with_bad_options_is_refused() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the upload"]);
    let mut work = fixture.submit("wrong", "good", None, 0);
    let folder = fixture.submit("folder/", "", None, 0);
    fixture.change(|state| {
        let input = state.objects.get_mut(&work.identity.object).unwrap();
        input.metadata = [("deskgrid-tasks", "zz"), ("deskgrid-attempt", "1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
    });
    work.identity.attempt = 1;
    let process = Process::start(&fixture, Setting { ahead: OLD, ..Setting::default() });
    fixture.wait("its event", |state| !state.events.is_empty());
    fixture.check(&[(&work, Ended::Refused, "malformed-option")]);
    assert!(fixture.outcomes().len() == 1 && fixture.state().objects.contains_key(&folder.identity.object));
    process.terminate().unwrap();
}

#[test]
fn the_inputs_of_a_batch_are_not_requeued() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", 10, 1);
    let lost = fixture.submit("lost", "good", None, 0);
    let process = Process::start(&fixture, batches(Duration::ZERO));
    fixture.wait("the Jobs", |state| state.messages_left() == 0);
    assert!(fixture.state().jobs.keys().any(|name| batch::is_job_name(name)));
    let before = fixture.state().creations.len();
    process.terminate().unwrap();
    let process = Process::start(&fixture, batches(OLD));
    // The sweep reads it after the others.
    fixture.wait("what was lost", |state| state.creations.len() > before && state.messages_left() == 0);
    let names: Vec<String> = fixture.state().creations.keys().cloned().collect();
    assert_eq!(names.len(), before + 1, "{names:?}");
    assert!(names.contains(&lost.identity.job_name()), "alone, since no other input was requeued: {names:?}");
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    let all = works.iter().chain([&lost]);
    fixture.check_succeeded(all);
    process.terminate().unwrap();
}

#[test]
fn the_manifest_of_a_batch_that_takes_days_stays_young() {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let works = fixture.submit_many("j", 5, 1);
    let process = Process::start(&fixture, batches(Duration::ZERO));
    fixture.wait("the Jobs", |state| state.messages_left() == 0);
    process.terminate().unwrap();
    let manifests = || {
        let state = fixture.state();
        let found = state.objects.iter().filter(|(name, _)| name.contains("/common/.batch/"));
        found.map(|(name, object)| (name.clone(), object.clone())).collect::<Vec<_>>()
    };
    let before = manifests();
    assert!(!before.is_empty());
    let process = Process::start(&fixture, batches(DAY / 2 + OLD));
    for (name, manifest) in &before {
        fixture.wait("it is rewritten", |state| state.objects[name].generation > manifest.generation);
    }
    process.terminate().unwrap();
    let contents = |all: &[(String, crate::fixture::Object)]| all.iter().map(|one| one.1.contents.clone()).collect();
    let (after, before): (Vec<_>, Vec<_>) = (contents(&manifests()), contents(&before));
    assert_eq!(after, before);
    let process = Process::start(&fixture, batches(Duration::ZERO));
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    fixture.check_succeeded(&works);
    process.terminate().unwrap();
}

//! The sweep, long after: inputs whose outcomes are gone, and those with bad options.

use std::time::Duration;

use contract::outcome::State as Ended;

use crate::fixture::{Fixture, Process, Setting};

/// At this age the sweep would requeue an input.
const OLD: Duration = Duration::from_secs(4000);
const DAY: Duration = Duration::from_secs(86_400);

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

//! The sweep, long after: inputs whose outcomes are gone, that cannot be published or whose options are not known.

use std::time::Duration;

use contract::{message::Work, outcome::State as Ended};
use serde_json::json;

use crate::fixture::{Fixture, Process, Setting};

/// At this age the sweep would requeue an input.
const OLD: Duration = Duration::from_secs(4000);
/// The age of an input that the sweep requeues.
const SWEEP_AGE: Duration = Duration::from_secs(3600);
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

/// More names than Pub/Sub accepts in an attribute.
fn with_long_names(work: &mut Work) {
    work.common = (0..40).map(|index| format!("market-data-of-the-equity-desk-{index:02}.json")).collect();
}

#[test]
fn an_input_that_cannot_be_published_ends_no_sweep_and_repeats_nothing() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the upload"]);
    let before = fixture.submit("a", "good", None, 0);
    let long = fixture.submit_to("s1", "b", "good", 0, with_long_names);
    let after = fixture.submit("c", "good", None, 0);
    let cancelled = fixture.submit_to("s2", "d", "good", 0, with_long_names);
    fixture.cancel("s2");
    fixture.change(|state| state.engines_wait = true);
    let process = Process::start(&fixture, Setting { ahead: OLD, ..Setting::default() });
    fixture.wait("the outcomes", |state| {
        state.objects.contains_key(&long.outcome()) && state.objects.contains_key(&cancelled.outcome())
    });
    // Several sweeps later.
    let next = fixture.submit("e", "good", None, 0);
    // It gets old after those.
    fixture.change(|state| state.objects.get_mut(&next.identity.object).unwrap().created += OLD - SWEEP_AGE);
    fixture.wait("the next sweep", |state| state.creations.contains_key(&next.identity.job_name()));
    let published: Vec<String> = fixture.state().published.iter().map(|message| message["job"].clone()).collect();
    assert_eq!(published.len(), 3, "{published:?}");
    fixture.change(|state| state.engines_wait = false);
    fixture.wait_until_done();
    fixture.check(&[
        (&before, Ended::Succeeded, "completed"),
        (&long, Ended::Refused, "message-too-large"),
        (&after, Ended::Succeeded, "completed"),
        (&cancelled, Ended::Cancelled, "cancelled"),
    ]);
    process.terminate().unwrap();
}

#[test]
fn a_restart_does_not_requeue_a_backlog_once_more() {
    let fixture = Fixture::new();
    let lost = fixture.submit("a", "good", None, 0);
    fixture.change(|state| state.loses_messages = true);
    let marker = contract::object::swept("bu1");
    let process = Process::start(&fixture, Setting { ahead: OLD, ..Setting::default() });
    fixture.wait("the first sweep", |state| state.objects.contains_key(&marker));
    process.kill();
    let generation = fixture.state().objects[&marker].generation;
    assert_eq!(fixture.state().published.len(), 1);
    let process = Process::start(&fixture, Setting { ahead: OLD + SWEEP_AGE, ..Setting::default() });
    fixture.wait("the next sweep", |state| state.objects[&marker].generation != generation);
    assert_eq!(fixture.state().published.len(), 1, "it was requeued an hour ago");
    process.kill();
    fixture.change(|state| state.loses_messages = false);
    let process = Process::start(&fixture, Setting { ahead: OLD + DAY, ..Setting::default() });
    fixture.wait_until_done();
    fixture.check(&[(&lost, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

#[test]
fn a_parked_message_that_cannot_be_published_is_refused_and_holds_no_other() {
    let fixture = Fixture::new();
    fixture.expect_warnings(&["refused the upload"]);
    fixture.decide("s1", Some(json!({"paused": true})));
    let other = fixture.submit("other", "good", None, 1);
    let long = fixture.submit_to("s1", "long", "good", 0, with_long_names);
    // Its options came with a storage notification, which has no such limit.
    fixture.change(|state| {
        let identity = &long.identity;
        let attributes = [
            ("eventType", "OBJECT_FINALIZE"),
            ("payloadFormat", "JSON_API_V1"),
            ("bucketId", "p-bucket"),
            ("objectId", &identity.object),
            ("objectGeneration", &identity.generation.to_string()),
        ];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let data = json!({"size": "4", "metadata": long.metadata()}).to_string();
        state.publish(data.as_bytes(), attributes)
    });
    let process = Process::start(&fixture, Setting::default());
    fixture.wait("both are parked", |state| state.messages_left() == 0);
    assert_eq!(fixture.count("parked"), 2);
    fixture.decide("s1", None);
    fixture.wait("nothing is parked any more", |state| !state.objects.keys().any(|name| name.contains("/parked/")));
    fixture.wait("the other ran", |state| state.objects.contains_key(&other.outcome()));
    fixture.wait_until_done();
    fixture.check(&[(&long, Ended::Refused, "message-too-large"), (&other, Ended::Succeeded, "completed")]);
    process.terminate().unwrap();
}

/// The options were attributes of a message that may still wait.
#[test]
fn an_input_without_known_options_is_requeued_only_when_no_message_is_left() {
    let fixture = Fixture::new();
    let unknown = fixture.submit("a-unknown", "good", None, 0);
    fixture.change(|state| state.objects.get_mut(&unknown.identity.object).unwrap().metadata.clear());
    let lost = fixture.submit("b-lost", "good", Some(2), 0);
    let process = Process::start(&fixture, Setting { ahead: OLD, ..Setting::default() });
    // The sweep reads it after the other one.
    fixture.wait("the other", |state| state.objects.contains_key(&lost.of_range(0).outcome()));
    assert_eq!(fixture.state().published.len(), 1);
    process.terminate().unwrap();
    assert!(!fixture.outcomes().contains_key(&unknown.outcome()));
    let process = Process::start(&fixture, Setting { ahead: 7 * DAY + OLD, ..Setting::default() });
    fixture.wait("its outcome", |state| state.objects.contains_key(&unknown.outcome()));
    fixture.wait_until_done();
    fixture.check_succeeded([&unknown, &lost]);
    process.terminate().unwrap();
}

#[test]
fn an_inline_payload_that_another_replica_finished_does_not_run_again() {
    let fixture = Fixture::new();
    let id = fixture.publish(b"payload", &[]);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait_until_done();
    process.terminate().unwrap();
    // A replica wrote the payload once more, after the input of the success was deleted, and died.
    let object = format!("bu1/input/inline/{id}");
    let lost = fixture.submit("lost", "good", None, 0);
    fixture.change(|state| {
        let mut metadata = lost.metadata();
        metadata.insert("deskgrid-session".into(), "inline".into());
        metadata.insert("deskgrid-job".into(), id.clone());
        state.write_once(&object, "payload".into(), metadata).unwrap();
    });
    let process = Process::start(&fixture, Setting { ahead: OLD, ..Setting::default() });
    fixture.wait("the sweep", |state| state.objects.contains_key(&lost.outcome()));
    fixture.wait("it is deleted", |state| !state.objects.contains_key(&object));
    fixture.wait_until_done();
    assert_eq!(fixture.state().creations.len(), 2, "the payload, and the other input");
    assert_eq!(fixture.outcomes().len(), 2);
    process.terminate().unwrap();
}

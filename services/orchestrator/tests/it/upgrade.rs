//! The first orchestrator after version 1: what that left is settled, and nothing is lost.

use std::collections::BTreeMap;

use contract::{Outcome, outcome::State as Ended, testing::VERSION_1};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Object, Process, Setting, State};

/// The Kubernetes Jobs of version 1 that run.
const BATCH: &str = "batch-c0f2da2d272bb0a3cd64cb5a5a9815cd";
const SPLIT: &str = "job-0cf0a3ec3d620f369fd6d8ab7ff65b16";

/// Loads what version 1 left.
fn load(state: &mut State) {
    let left: Value = serde_json::from_str(VERSION_1).unwrap();
    for (name, object) in left["objects"].as_object().unwrap() {
        let object = Object {
            generation: object["generation"].as_i64().unwrap(),
            contents: object["contents"].as_str().unwrap().to_owned().into(),
            metadata: serde_json::from_value(object["metadata"].clone()).unwrap(),
            created: Timestamp::now(),
        };
        state.objects.insert(name.clone(), object);
    }
    for (name, job) in left["jobs"].as_object().unwrap() {
        state.show(name, job.clone(), "ADDED");
    }
    for message in left["messages"].as_array().unwrap() {
        let attributes = serde_json::from_value(message["attributes"].clone()).unwrap();
        state.publish(message["data"].as_str().unwrap().as_bytes(), attributes);
    }
    // It ended before it acknowledged the message of a split Job that runs.
    let attributes = [("deskgrid", "1"), ("tasks", "3")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let data = br#"{"bucket": "p-bucket", "object": "bu1/input/new/split-running", "generation": "48"}"#;
    state.publish(data, attributes.into());
}

/// What the engines of version 1 do for a Job: they write the result of each task or input.
fn end_job(state: &mut State, name: &str, results: &[&str]) {
    for result in results {
        state.write_once(&format!("bu1/output/new/{result}"), "result".into(), BTreeMap::new()).unwrap();
    }
    let mut job = state.jobs[name].clone();
    job["status"]["conditions"] = json!([{"type": "Complete", "status": "True"}]);
    state.show(name, job, "MODIFIED");
}

#[test]
fn everything_that_version_1_left_ends_in_an_outcome() {
    let fixture = Fixture::new();
    fixture.change(load);
    let process = Process::start(&fixture, Setting::default());
    let left = |name: &str| fixture.state().objects.contains_key(&format!("bu1/{name}"));
    fixture.wait("what waited has ended", |state| {
        let waited = ["waits", "waits-split", "waits.csv", "split-finished", "single-running"];
        let is_left = |name: &&str| state.objects.contains_key(&format!("bu1/input/new/{name}"));
        state.messages_left() == 0 && !waited.iter().any(is_left)
    });
    assert!(left("input/new/split-running"));
    let layouts: Vec<String> =
        fixture.state().objects.keys().filter(|name| name.ends_with("-layout.json")).cloned().collect();
    assert_eq!(layouts, ["bu1/outcome/new/waits-split/79-layout.json", "bu1/outcome/new/waits.csv/82-layout.json"]);

    fixture.change(|state| {
        end_job(state, SPLIT, &["split-running/48-0/0", "split-running/48-0/1", "split-running/48-0/2"]);
        // One of its pods wrote no result.
        end_job(state, BATCH, &["batch-0/52-0"]);
    });
    fixture.wait("the session has ended", |state| !state.objects.keys().any(|name| name.starts_with("bu1/input/new/")));
    fixture.wait_until_done();
    assert!(!left("common/.batch/c0f2da2d272bb0a3cd64cb5a5a9815cd.json"));

    fixture.decide("paused", None);
    fixture.wait("the parked session has ended", |state| {
        !state.objects.keys().any(|name| name.contains("/paused/") && !name.starts_with("bu1/out"))
    });
    fixture.wait_until_done();

    let outcomes = fixture.outcomes();
    let found: Vec<&str> =
        outcomes.keys().filter_map(|name| name.strip_prefix("bu1/outcome/")?.strip_suffix(".json")).collect();
    assert_eq!(
        found,
        [
            "new/batch-0/52-0",
            "new/batch-1/54-0",
            "new/batch-2/56-0",
            "new/batch-3/58-0",
            "new/single-running/68-0",
            "new/split-finished/66-0",
            "new/split-running/48-0",
            "new/waits-split/79-0-0",
            "new/waits-split/79-1-0",
            "new/waits-split/79-2-0",
            "new/waits.csv/82-0-0",
            "new/waits.csv/82-1-0",
            "new/waits/77-0",
            "old/bad.json/3-0",
            "old/batched-0/22-0",
            "old/batched-1/24-0",
            "old/batched-2/26-0",
            "old/single/1-0",
            "old/split-bad/7-0",
            "old/split/5-0",
            "paused/single/39-0",
            "paused/split/41-0-0",
            "paused/split/41-1-0",
            "paused/split/41-2-0",
            "paused/table.csv/43-0-0",
            "paused/table.csv/43-1-0",
        ]
    );
    let is_bad = |outcome: &Outcome| outcome.state != Ended::Succeeded;
    let bad: Vec<&String> = outcomes.iter().filter(|(_, outcome)| is_bad(outcome)).map(|(name, _)| name).collect();
    assert_eq!(
        bad,
        [
            "bu1/outcome/old/bad.json/3-0.json",
            "bu1/outcome/old/batched-2/26-0.json",
            "bu1/outcome/old/split-bad/7-0.json"
        ]
    );
    let inputs: Vec<String> =
        fixture.state().objects.keys().filter(|name| name.starts_with("bu1/input/")).cloned().collect();
    assert_eq!(inputs, ["bu1/input/old/bad.json", "bu1/input/old/batched-2", "bu1/input/old/split-bad"]);
    // The tasks of a table are items of as many rows.
    let table = outcomes["bu1/outcome/paused/table.csv/43-0-0.json"].work.clone().unwrap().pack.unwrap();
    assert_eq!((table.items, table.rows_per_item), (2, 2));
    process.terminate().unwrap();
}

//! Jobs that are deleted while their pods run: cancelled work has no result.

use std::sync::Arc;

use bytes::Bytes;
use contract::{message::Work, outcome::State as Ended};
use serde_json::json;

use crate::fixture::{Fixture, Process, Setting};

/// A Job that was deleted while its pod runs, after the orchestrator deleted the pod.
fn stopping() -> (Arc<Fixture>, Process, Work) {
    let fixture = Fixture::new();
    fixture.change(|state| state.engines_wait = true);
    let work = fixture.submit("j", "good", None, 1);
    let process = Process::start(&fixture, Setting::default());
    fixture.wait("its Job", |state| state.jobs.len() == 1 && state.messages_left() == 0);
    let job = work.identity.job_name();
    let pod = json!({
        "metadata": {"name": "pod-1"},
        "spec": {"containers": [{"name": "engine"}], "nodeName": "node-1"},
        "status": {"phase": "Running"},
    });
    fixture.change(|state| {
        state.pods.insert(job.clone(), pod);
        state.delete(&job);
    });
    fixture.wait("the pod is deleted, and the orchestrator waits for it", |state| {
        !state.deleted_pods.is_empty() && state.pod_reads >= 4
    });
    (fixture, process, work)
}

#[test]
fn a_result_that_is_written_while_the_pod_stops_has_succeeded() {
    let (fixture, process, work) = stopping();
    fixture.change(|state| {
        state.write_once(&work.output(), Bytes::from_static(b"result"), Default::default());
        // With it goes what is known of the pod.
        state.pods.clear();
    });
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Succeeded, "completed")]);
    let outcome = &fixture.outcomes()[&work.outcome()];
    assert_eq!(outcome.node.as_deref(), Some("node-1"), "it was seen before");
    process.terminate().unwrap();
}

#[test]
fn a_pod_that_stops_without_a_result_was_cancelled_and_its_log_is_kept() {
    let (fixture, process, work) = stopping();
    fixture.change(|state| state.pods.values_mut().for_each(|pod| pod["status"]["phase"] = "Failed".into()));
    fixture.wait_until_done();
    fixture.check(&[(&work, Ended::Cancelled, "cancelled")]);
    assert!(!fixture.state().objects.contains_key(&work.output()));
    let outcome = &fixture.outcomes()[&work.outcome()];
    assert_eq!(outcome.log_tail.as_deref(), Some("a line of the log\n"));
    process.terminate().unwrap();
}

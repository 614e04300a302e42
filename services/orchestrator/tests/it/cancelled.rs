//! Jobs that are deleted while their pods run: of what counts as cancelled there is no result.

use std::sync::Arc;

use bytes::Bytes;
use contract::{message::Work, outcome::State as Ended};
use serde_json::json;

use crate::world::{Process, Setting, World};

/// A Job that was deleted while its pod runs, when the pod was told to stop.
fn stopping() -> (Arc<World>, Process, Work) {
    let world = World::new();
    world.change(|state| state.engines_wait = true);
    let work = world.submit("j", "good", None, 1);
    let process = Process::start(&world, Setting::default());
    world.wait("its Job", |state| state.jobs.len() == 1 && state.messages_left() == 0);
    let job = work.identity.job_name();
    let pod = json!({
        "metadata": {"name": "pod-1"},
        "spec": {"containers": [{"name": "engine"}], "nodeName": "node-1"},
        "status": {"phase": "Running"},
    });
    world.change(|state| {
        state.pods.insert(job.clone(), pod);
        state.delete(&job);
    });
    world.wait("the pod is told to stop, and waited for", |state| {
        !state.deleted_pods.is_empty() && state.pod_looks >= 4
    });
    (world, process, work)
}

#[test]
fn a_result_that_is_written_while_the_pod_stops_has_succeeded() {
    let (world, process, work) = stopping();
    world.change(|state| {
        state.write_once(&work.output(None), Bytes::from_static(b"result"), Default::default());
        // With it goes what is known of the pod.
        state.pods.clear();
    });
    world.wait_until_done();
    world.check(&[(&work, Ended::Succeeded, "completed")]);
    let outcome = &world.outcomes()[&work.outcome()];
    assert_eq!(outcome.node.as_deref(), Some("node-1"), "it was seen before");
    process.terminate().unwrap();
}

#[test]
fn a_pod_that_stops_without_a_result_was_cancelled_and_its_log_is_kept() {
    let (world, process, work) = stopping();
    world.change(|state| state.pods.values_mut().for_each(|pod| pod["status"]["phase"] = "Failed".into()));
    world.wait_until_done();
    world.check(&[(&work, Ended::Cancelled, "cancelled")]);
    assert!(!world.look().objects.contains_key(&work.output(None)));
    let outcome = &world.outcomes()[&work.outcome()];
    assert_eq!(outcome.log_tail.as_deref(), Some("a line of the log\n"));
    process.terminate().unwrap();
}

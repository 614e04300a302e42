//! Outcomes of Jobs that ended or were deleted.

use serde_json::{Value, json};

use super::*;
use crate::execute::job::tests::{business, made, work};

/// A Job of ours with this terminal condition, if any.
fn job(ended: Option<(&str, &str)>, deleted: bool) -> Job {
    let mut job = serde_json::to_value(made(&business(), &work(None))).unwrap();
    if let Some((kind, reason)) = ended {
        job["status"]["conditions"] = json!([
            {"type": "FailureTarget", "status": "True", "reason": "early"},
            {"type": kind, "status": "True", "reason": reason, "message": "the controller's words",
             "lastTransitionTime": "2026-01-01T00:01:00Z"},
        ]);
    }
    if deleted {
        job["metadata"]["deletionTimestamp"] = "2026-01-01T00:02:00Z".into();
    }
    job["metadata"]["creationTimestamp"] = "2026-01-01T00:00:01Z".into();
    serde_json::from_value(job).unwrap()
}

fn pod(name: &str, phase: &str, status: Value, terminated: Value) -> Pod {
    let mut whole = json!({
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:02Z"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "engine"}]},
        "status": {
            "phase": phase,
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:03Z"}],
            "containerStatuses": [{
                "name": "engine", "image": "i", "imageID": "i@sha256:1", "ready": false, "restartCount": 0,
                "state": {"terminated": terminated},
            }],
        },
    });
    for (key, value) in status.as_object().into_iter().flatten() {
        whole["status"][key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn stopped(exit_code: i32, message: &str, second: u32) -> Value {
    json!({"exitCode": exit_code, "message": message, "startedAt": "2026-01-01T00:00:04Z",
           "finishedAt": format!("2026-01-01T00:00:{second:02}Z")})
}

fn outcome(job: &Job, pods: &[Pod], is_complete: bool) -> Outcome {
    let work = job::read_work(job).unwrap();
    let now = "2026-01-01T00:03:00Z".parse().unwrap();
    let results = Results { is_complete, row_errors: 2 };
    decide(Facts { job, work: &work, pods, results, log_tail: Some("last line"), now })
}

#[track_caller]
fn check(job: &Job, pods: &[Pod], is_complete: bool, state: State, code: &str, says: &str) -> Outcome {
    let outcome = outcome(job, pods, is_complete);
    let actual = (outcome.state, outcome.reason.code.as_str());
    assert_eq!(actual, (state, code), "{outcome:#?}");
    assert!(outcome.reason.message.contains(says), "{:?} does not say {says:?}", outcome.reason.message);
    outcome
}

#[test]
fn success_needs_the_result() {
    let done = pod("p", "Succeeded", json!({}), stopped(0, r#"{"code":"done","message":"","cpu_seconds":1.5}"#, 9));
    let job1 = job(Some(("Complete", "CompletionsReached")), false);
    let outcome = check(&job1, std::slice::from_ref(&done), true, State::Succeeded, "completed", "result");
    assert_eq!((outcome.exit_code, outcome.row_errors), (Some(0), 2));
    assert!(outcome.reason.message.ends_with("; 2 rows in it have an error"), "{}", outcome.reason.message);
    assert_eq!(outcome.cpu_seconds, Some(1.5));
    assert_eq!(outcome.log_tail, None);
    assert_eq!(outcome.node.as_deref(), Some("node-1"));
    assert_eq!(outcome.image.as_deref(), Some("i@sha256:1"));
    assert_eq!((outcome.message_id.as_deref(), outcome.pods), (Some("m1"), 1));
    let times = outcome.timestamps;
    let order =
        [times.published, times.received, times.created, times.scheduled, times.started, times.finished, times.settled];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");

    let failed = check(&job1, &[done], false, State::Failed, "result-missing", "missing");
    assert_eq!(failed.row_errors, 0);
}

#[test]
fn a_complete_job_without_pods_has_succeeded() {
    let outcome = check(&job(Some(("Complete", "")), true), &[], true, State::Succeeded, "completed", "");
    assert_eq!(outcome.timestamps.finished, Some("2026-01-01T00:01:00Z".parse().unwrap()));
}

#[test]
fn a_permanent_failure_has_the_reason_of_the_engine() {
    let job = job(Some(("Failed", "PodFailurePolicy")), false);
    let reported = r#"{"code":"malformed-input","message":"line 3: strike is missing","cpu_seconds":0.1}"#;
    let pods = [pod("p", "Failed", json!({}), stopped(10, reported, 9))];
    let outcome = check(&job, &pods, false, State::Failed, "malformed-input", "line 3");
    assert_eq!((outcome.exit_code, outcome.log_tail.as_deref()), (Some(10), Some("last line")));
    for silent in ["", "Segmentation fault", r#"{"code":"Not A Code","message":""}"#] {
        let pods = [pod("p", "Failed", json!({}), stopped(10, silent, 9))];
        check(&job, &pods, false, State::Failed, "permanent-failure", "exit code 10");
    }
    let missing = r#"{"code":"input-missing","message":"there is no object"}"#;
    let pods = [pod("p", "Failed", json!({}), stopped(10, missing, 9))];
    check(&job, &pods, false, State::Failed, "input-missing", "no object");
}

#[test]
fn the_end_of_the_last_pod_is_the_reason() {
    let exhausted = job(Some(("Failed", "BackoffLimitExceeded")), false);
    let early = pod("early", "Failed", json!({}), stopped(7, "", 5));
    let with = |last: Pod| [early.clone(), last];
    let last = pod("last", "Failed", json!({}), stopped(3, "", 9));
    let outcome = check(&exhausted, &with(last), false, State::Failed, "retries-exhausted", "exit code 3");
    assert_eq!(outcome.exit_code, Some(3));
    let of_one_second = |version: &str, exit_code: i32| {
        let mut pod = pod("p", "Failed", json!({}), stopped(exit_code, "", 5));
        pod.metadata.resource_version = Some(version.to_owned());
        pod
    };
    let pods = [of_one_second("1000", 3), of_one_second("998", 7)];
    check(&exhausted, &pods, false, State::Failed, "retries-exhausted", "exit code 3");
    let mut killed = stopped(137, "", 9);
    killed["reason"] = "OOMKilled".into();
    check(
        &exhausted,
        &with(pod("last", "Failed", json!({}), killed)),
        false,
        State::Failed,
        "out-of-memory",
        "used up",
    );
    let late = json!({"reason": "DeadlineExceeded"});
    let late = pod("last", "Failed", late, stopped(143, "", 9));
    check(&exhausted, &with(late), false, State::Failed, "timeout", "timeout");
    let evicted = json!({"reason": "Evicted", "message": "low on ephemeral-storage"});
    let evicted = pod("last", "Failed", evicted, stopped(137, "", 9));
    check(&exhausted, &with(evicted), false, State::Failed, "evicted", "ephemeral-storage");
    check(&exhausted, &[], false, State::Failed, "retries-exhausted", "");
    check(&job(Some(("Failed", "DeadlineExceeded")), false), &[], false, State::Failed, "timeout", "");
    let other = job(Some(("Failed", "SomethingElse")), false);
    check(&other, &[], false, State::Failed, "something-else", "controller's words");
    check(&job(Some(("Failed", "")), false), &[], false, State::Failed, "failed", "");
}

#[test]
fn a_job_deleted_by_hand_is_cancelled_unless_it_had_ended() {
    let running = pod("p", "Running", json!({}), Value::Null);
    let deleted = job(None, true);
    assert_eq!(job_state(&deleted), JobState::Deleted);
    check(&deleted, std::slice::from_ref(&running), false, State::Cancelled, "cancelled", "deleted");
    assert!(is_running(&running));
    let done = pod("p", "Succeeded", json!({}), stopped(0, "", 9));
    assert!(!is_running(&done));
    check(&deleted, std::slice::from_ref(&done), true, State::Succeeded, "completed", "");
    // The same without its pod: it has stopped, and the result exists.
    check(&deleted, &[], true, State::Succeeded, "completed", "");
    let seen = latest_pods(vec![running, pod("gone", "Running", json!({}), Value::Null)], vec![done]);
    let seen: Vec<_> = seen.iter().map(|pod| (pod.metadata.name.as_deref().unwrap(), pod_phase(pod))).collect();
    assert_eq!(seen, [("gone", "Running"), ("p", "Succeeded")]);
    let failed = job(Some(("Failed", "BackoffLimitExceeded")), true);
    check(&failed, &[], false, State::Failed, "retries-exhausted", "");
    assert_eq!(job_state(&job(None, false)), JobState::Running);
}

#[test]
fn an_init_container_counts_only_when_its_failure_ended_the_pod() {
    let deleted = job(None, true);
    let with_init = |main: Value, init: Value| {
        let mut pod = serde_json::to_value(pod("p", "Failed", json!({}), Value::Null)).unwrap();
        pod["status"]["containerStatuses"][0]["state"] = main;
        pod["status"]["initContainerStatuses"] = json!([{
            "name": "install", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"terminated": init},
        }]);
        serde_json::from_value::<Pod>(pod).unwrap()
    };
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:06Z"}});
    let waiting = json!({"waiting": {"reason": "PodInitializing"}});
    for (main, init) in [(running, stopped(0, "", 5)), (waiting.clone(), stopped(137, "", 5))] {
        let outcome = check(&deleted, &[with_init(main, init)], false, State::Cancelled, "cancelled", "deleted");
        let times = outcome.timestamps;
        assert_eq!((outcome.exit_code, times.started, times.finished), (None, None, None));
    }
    let exhausted = job(Some(("Failed", "BackoffLimitExceeded")), false);
    let failed = with_init(waiting, stopped(3, "", 5));
    let outcome = check(&exhausted, &[failed], false, State::Failed, "retries-exhausted", "exit code 3");
    assert_eq!(outcome.exit_code, Some(3));
}

use serde_json::json;

use super::*;

fn job(status: serde_json::Value) -> Job {
    let work = json!({"bucket": "b", "object": "bu1/input/s/a/b", "generation": 5, "attempt": 1, "business": "bu1",
        "session": "s", "job": "a/b"});
    serde_json::from_value(json!({
        "metadata": {"name": "job-x", "creationTimestamp": "2026-01-01T00:00:01Z", "annotations": {
            labels::ANNOTATION_WORK: work.to_string(),
            labels::ANNOTATION_PUBLISHED: "2026-01-01T00:00:00Z",
        }},
        "spec": {"template": {}, "suspend": status["suspend"]},
        "status": status,
    }))
    .unwrap()
}

#[test]
fn a_job_tells_what_it_works_on_and_how_far_it_is() {
    for (status, code) in [
        (json!({}), "created"),
        (json!({"active": 1}), "pending"),
        (json!({"active": 1, "ready": 1}), "running"),
        (json!({"active": 1, "failed": 2}), "retrying"),
        (json!({"failed": 1}), "retrying"),
        (json!({"suspend": true}), "suspended"),
        (json!({"conditions": [{"type": "Failed", "status": "True"}]}), "settling"),
        (json!({"active": 1, "conditions": [{"type": "FailureTarget", "status": "True"}]}), "pending"),
    ] {
        let active = active(&job(status.clone())).unwrap();
        assert_eq!(active.reason.code, code, "{status}");
        assert_eq!((active.job.as_str(), active.generation, active.attempt), ("a/b", 5, 1));
        assert!(active.timestamps.published < active.timestamps.created);
    }
    assert_eq!(super::active(&Job::default()), None);
}

#[test]
fn a_range_tells_which_items_it_computes() {
    let active = |only: serde_json::Value| {
        let mut job = job(json!({}));
        let work = json!({"bucket": "b", "object": "bu1/input/s/p", "generation": 5, "first": 10, "attempt": 0,
            "business": "bu1", "session": "s", "job": "p", "only": only,
            "pack": {"format": "lines", "items": 25, "items_per_range": 10}});
        job.metadata.annotations.as_mut().unwrap().insert(labels::ANNOTATION_WORK.to_owned(), work.to_string());
        let active = active(&job).unwrap();
        (active.first, active.items)
    };
    assert_eq!(active(json!(null)), (Some(10), 10));
    assert_eq!(active(json!([11, 17])), (Some(10), 2));
    let single = super::active(&job(json!({}))).unwrap();
    assert_eq!((single.first, single.items), (None, 1));
}

/// State, message and exit code of a Pod with this status.
fn check(status: serde_json::Value, expected: (&str, &str, Option<i32>)) {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap();
    let view = PodView::from(&pod);
    assert_eq!((view.state.as_str(), view.message.as_str(), view.exit_code), expected);
}

#[test]
fn a_pod_says_in_a_word_what_it_does_or_why_not() {
    let container = |state: serde_json::Value| {
        json!({"phase": "Pending", "containerStatuses":
            [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": state}]})
    };
    check(json!({"phase": "Running"}), ("Running", "", None));
    check(
        json!({"phase": "Pending", "conditions":
            [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]}),
        ("Unschedulable", "0/3 nodes", None),
    );
    check(
        container(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})),
        ("ImagePullBackOff", "no such image", None),
    );
    check(container(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})), ("OOMKilled", "", Some(137)));
    check(
        json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "too long"}),
        ("DeadlineExceeded", "too long", None),
    );
}

#[test]
fn an_orchestrator_that_is_not_well_says_why() {
    let deployment = |wanted: i32, ready: i32| -> Deployment {
        serde_json::from_value(json!({"metadata": {}, "spec": {"replicas": wanted, "selector": {}, "template": {}},
            "status": {"readyReplicas": ready}}))
        .unwrap()
    };
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "o-1"}, "status": {"containerStatuses":
        [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 3,
          "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}))
    .unwrap();
    assert_eq!(orchestrator(&[deployment(1, 1)], &[]).problem, None);
    assert!(orchestrator(&[], &[]).problem.unwrap().contains("not deployed"));
    assert!(orchestrator(&[deployment(0, 0)], &[]).problem.unwrap().contains("scaled to 0"));
    assert_eq!(orchestrator(&[deployment(2, 1)], &[pod]).problem.unwrap(), "1 of 2 ready; o-1 is CrashLoopBackOff");
}

#[test]
fn pods_of_one_second_are_in_the_order_in_which_they_ended() {
    let pod = |name: &str, second: u32, version: &str| {
        let created = format!("2026-01-01T00:00:0{second}Z");
        serde_json::from_value::<Pod>(json!({
            "metadata": {"name": name, "creationTimestamp": created, "resourceVersion": version},
        }))
        .unwrap()
    };
    let mut pods = [pod("d", 2, "98"), pod("a", 1, "1000"), pod("c", 1, "98"), pod("b", 1, "205")];
    sort(&mut pods);
    let names: Vec<&str> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
    assert_eq!(names, ["c", "b", "a", "d"]);
}

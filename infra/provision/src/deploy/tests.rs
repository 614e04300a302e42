//! Tests of the rollout's verdict and of the way objects are sent.

use serde_json::json;

use super::*;

fn deployment(status: Value) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": "orchestrator", "generation": 2},
        "spec": {"replicas": 1, "selector": {}, "template": {
            "metadata": {"annotations": {CONFIG_HASH: "new"}},
            "spec": {"containers": [{"name": "orchestrator", "image": "i:2"}]}}},
        "status": status,
    }))
    .unwrap()
}

fn pod(hash: &str, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "orchestrator-x", "annotations": {CONFIG_HASH: hash}},
        "spec": {"containers": [{"name": "orchestrator", "image": "i:2"}]},
        "status": status,
    }))
    .unwrap()
}

fn container(waiting: Value) -> Value {
    json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
        "restartCount": 1, "state": {"waiting": waiting},
        "lastState": {"terminated": {"exitCode": 3}}}]})
}

/// A rollout in progress with this pod is judged like this.
fn check(pod_hash: &str, pod_status: Value, expected: &str) {
    let deployment =
        deployment(json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}));
    let found = match verdict(&deployment, [&pod(pod_hash, pod_status)].into_iter()) {
        Verdict::Ready => "ready".to_owned(),
        Verdict::Waiting(why) => format!("waiting: {why}"),
        Verdict::Failed { reason, crashed } => {
            format!("failed: {reason}{}", crashed.map(|(pod, _)| format!(" [{pod}]")).unwrap_or_default())
        }
    };
    assert_eq!(found, expected);
}

#[test]
fn a_rollout_is_judged_by_the_new_pods() {
    let pull = json!({"reason": "ImagePullBackOff", "message": "not found"});
    check("new", container(pull.clone()), "failed: the image i:2 cannot be pulled: not found");
    check("old", container(pull), "waiting: 1 of 1 pods are ready");
    check(
        "new",
        container(json!({"reason": "ErrImagePull"})),
        "waiting: the container orchestrator of orchestrator-x is in ErrImagePull",
    );
    check(
        "new",
        container(json!({"reason": "CrashLoopBackOff"})),
        "failed: the container orchestrator ends again and again with exit code 3 [orchestrator-x]",
    );
    check(
        "new",
        container(json!({"reason": "CreateContainerConfigError", "message": "secret \"k\" not found"})),
        "failed: the container orchestrator cannot be started: secret \"k\" not found",
    );
    check(
        "new",
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]}),
        "waiting: no node takes the pod orchestrator-x: 0/1 nodes are available",
    );
}

#[test]
fn a_rollout_is_done_when_only_new_pods_are_left() {
    let judge = |status: Value| verdict(&deployment(status), [].into_iter());
    assert_eq!(
        judge(json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})),
        Verdict::Ready
    );
    assert!(matches!(
        judge(json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})),
        Verdict::Waiting(_)
    ));
    assert!(matches!(judge(json!(null)), Verdict::Waiting(_)));
    let refused = json!({"observedGeneration": 2, "conditions": [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}]});
    assert_eq!(
        judge(refused),
        Verdict::Failed { reason: "its pods are refused: exceeded quota".to_owned(), crashed: None }
    );
}

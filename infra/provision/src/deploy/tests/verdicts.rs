//! Tests of the verdict on a rollout.

use super::*;

const PATIENCE: Patience = Patience {
    unscheduled: Duration::from_secs(10),
    creating: Duration::from_secs(10),
    unready: Duration::from_secs(10),
    identity: Duration::from_secs(60),
};

/// What was seen of the pod, beside its status.
#[derive(Default)]
struct Sight {
    seconds: u64,
    events: Vec<(&'static str, &'static str)>,
    log: &'static str,
}

/// A rollout in progress with this pod is judged like this.
fn check_sight(pod_hash: &str, pod_status: Value, sight: &Sight, expected: &str) {
    let deployment =
        deployment(json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}));
    let events: Vec<PodEvent> = sight
        .events
        .iter()
        .map(|(reason, message)| {
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "reason": reason, "message": message}))
                .unwrap()
        })
        .collect();
    let pod = pod(pod_hash, pod_status);
    let seen = Seen { pod: &pod, lasting: Duration::from_secs(sight.seconds), events: &events, log: sight.log };
    let found = match verdict(&deployment, None, [seen].into_iter(), &PATIENCE) {
        Verdict::Ready => "ready".to_owned(),
        Verdict::Waiting { why, scaling } => format!("{}: {why}", if scaling { "scaling" } else { "waiting" }),
        Verdict::Failed(cause) => format!("{}: {}", cause.why.code(), cause.seen),
    };
    assert_eq!(found, expected);
}

fn check(pod_hash: &str, pod_status: Value, expected: &str) {
    check_sight(pod_hash, pod_status, &Sight::default(), expected);
}

#[test]
fn a_rollout_is_judged_by_the_new_pods() {
    let pull = json!({"reason": "ImagePullBackOff", "message": "not found"});
    check("new", container(pull.clone()), "image-pull: the image i:2 cannot be pulled: not found");
    check("old", container(pull), "waiting: 1 of 1 pods are ready");
    check(
        "new",
        container(json!({"reason": "ErrImagePull"})),
        "waiting: the container orchestrator of orchestrator-x is in ErrImagePull",
    );
    check_sight(
        "new",
        container(json!({"reason": "CrashLoopBackOff"})),
        &Sight { log: "first\nboom", ..Sight::default() },
        "crash-loop: the container orchestrator ends again and again with exit code 3\nits last log lines are:\nfirst\nboom",
    );
    check(
        "new",
        container(json!({"reason": "CreateContainerConfigError", "message": "secret \"k\" not found"})),
        "pod-config: the container orchestrator cannot be started: secret \"k\" not found",
    );
}

#[test]
fn a_crash_may_be_bad_luck_or_a_grant_that_is_not_known_yet() {
    let looping = || json!({"reason": "CrashLoopBackOff"});
    check(
        "new",
        crashed(looping(), 1),
        "waiting: the container orchestrator of orchestrator-x ended with exit code 3 and is started again",
    );
    let log = "Permission 'iam.serviceAccounts.getAccessToken' denied";
    let said = "Google does not let the pod orchestrator-x be who it should be: \
                Permission 'iam.serviceAccounts.getAccessToken' denied";
    let sight = |seconds| Sight { seconds, log, ..Sight::default() };
    check_sight("new", crashed(looping(), 9), &sight(59), &format!("waiting: {said}"));
    check_sight("new", crashed(looping(), 9), &sight(60), &format!("identity: {said}"));
}

#[test]
fn a_pod_without_a_node_is_a_failure_unless_one_is_on_its_way() {
    let unscheduled =
        || json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]});
    let said = "no node takes the pod orchestrator-x: 0/1 nodes are available";
    let sight = |seconds, events| Sight { seconds, events, log: "" };
    check_sight("new", unscheduled(), &sight(9, vec![]), &format!("waiting: {said}"));
    check_sight("new", unscheduled(), &sight(10, vec![]), &format!("unschedulable: {said}"));
    check_sight(
        "new",
        unscheduled(),
        &sight(100, vec![("NotTriggerScaleUp", "max size"), ("TriggeredScaleUp", "pool 1->2 (max: 8)")]),
        "scaling: a node is being made for the pod orchestrator-x: pool 1->2 (max: 8)",
    );
    check_sight(
        "new",
        unscheduled(),
        &sight(0, vec![("NotTriggerScaleUp", "1 max node group size reached")]),
        &format!("unschedulable: {said}; the autoscaler makes none: 1 max node group size reached"),
    );
    let mut nominated = unscheduled();
    nominated["nominatedNodeName"] = json!("n1");
    let waits = "waiting: the pod orchestrator-x takes the place of less important ones on n1";
    check_sight("new", nominated, &sight(100, vec![]), waits);
}

#[test]
fn a_pod_that_runs_and_is_not_ready_is_a_failure_after_a_while() {
    let unready = || {
        json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"running": {}}}]})
    };
    let probe = || vec![("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")];
    let said =
        "the pod orchestrator-x runs and is not ready: Readiness probe failed: HTTP probe failed with statuscode: 503";
    let sight = |seconds, log| Sight { seconds, events: probe(), log };
    check_sight("new", unready(), &sight(9, "no topic"), &format!("waiting: {said}"));
    check_sight("new", unready(), &sight(10, "no topic"), &format!("probe: {said}\nits last log lines are:\nno topic"));
    let mut restarted = unready();
    restarted["containerStatuses"][0]["restartCount"] = json!(1);
    check_sight(
        "new",
        restarted,
        &Sight { seconds: 100, ..Sight::default() },
        "waiting: the pod orchestrator-x runs and is not ready: it is not ready",
    );
    // It ended by itself, and a startup probe had asked it before; then again, with a probe that had it ended.
    let mut ended = unready();
    ended["containerStatuses"][0]["restartCount"] = json!(1);
    ended["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 1}});
    check_sight("new", ended.clone(), &sight(100, "no topic"), &format!("waiting: {said}"));
    let mut killed = sight(100, "");
    killed.events.push(("Killing", "Container orchestrator failed startup probe, will be restarted"));
    check_sight("new", ended, &killed, &format!("probe: {said}"));
    let refused = "receive: PERMISSION_DENIED: not you";
    let said = "Google does not let the pod orchestrator-x be who it should be: receive: PERMISSION_DENIED: not you";
    check_sight("new", unready(), &sight(59, refused), &format!("waiting: {said}"));
    check_sight("new", unready(), &sight(60, refused), &format!("identity: {said}"));
    let creating = json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]});
    let mount = Sight { seconds: 10, events: vec![("FailedMount", "secret \"k\" not found")], log: "" };
    let said = "pod-config: the pod orchestrator-x cannot be set up: secret \"k\" not found";
    check_sight("new", creating, &mount, said);
}

#[test]
fn a_rollout_is_done_when_only_new_pods_are_left() {
    let judge = |status: Value| verdict(&deployment(status), None, [].into_iter(), &PATIENCE);
    assert_eq!(
        judge(json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})),
        Verdict::Ready
    );
    assert!(matches!(
        judge(json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})),
        Verdict::Waiting { .. }
    ));
    assert!(matches!(judge(json!(null)), Verdict::Waiting { .. }));
}

#[test]
fn pods_that_are_refused_are_those_of_the_present_template() {
    let set = |revision: &str, conditions: Value| -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {
                "annotations": {"deployment.kubernetes.io/revision": revision},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u"}]},
            "status": {"replicas": 0, "conditions": conditions}}))
        .unwrap()
    };
    let condition = |message: &str| json!([{"type": "ReplicaFailure", "status": "True", "message": message}]);
    let stale = condition("exceeded quota: of before");
    let mut deployment = deployment(json!({"observedGeneration": 2, "conditions": stale}));
    deployment.metadata.uid = Some("u".to_owned());
    deployment.metadata.annotations =
        Some([("deployment.kubernetes.io/revision".to_owned(), "3".to_owned())].into_iter().collect());
    let judge = |sets: &[ReplicaSet]| {
        verdict(&deployment, rollout::refused(&deployment, sets.iter()), [].into_iter(), &PATIENCE)
    };
    for (message, code) in [("exceeded quota: pods", "quota"), ("violates PodSecurity", "admission")] {
        let sets = [set("2", stale.clone()), set("3", condition(message))];
        let Verdict::Failed(cause) = judge(&sets) else { panic!("{message} is a failure") };
        assert_eq!((cause.why.code(), cause.seen), (code, format!("its pods are refused: {message}")));
    }
    let cured = [set("2", stale.clone()), set("3", json!([]))];
    assert!(matches!(judge(&cured), Verdict::Waiting { .. }), "what an older template was refused for is over");
    assert!(matches!(judge(&cured[..1]), Verdict::Waiting { .. }));
}

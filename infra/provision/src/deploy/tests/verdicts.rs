//! Tests of the verdict on a rollout.

use super::*;

const PATIENCE: Patience = Patience {
    unscheduled: Duration::from_secs(10),
    pulling: Duration::from_secs(30),
    creating: Duration::from_secs(10),
    unready: Duration::from_secs(10),
    refused: Duration::from_secs(5),
    identity: Duration::from_secs(60),
};

/// What was seen of the pod, beside its status.
#[derive(Default)]
struct Sight {
    seconds: u64,
    events: Vec<(&'static str, &'static str)>,
    /// Age of each of the events, in seconds.
    age: u64,
    log: &'static str,
}

/// A rollout in progress with this pod is judged like this.
fn check_sight(pod_hash: &str, pod_status: Value, sight: &Sight, expected: &str) {
    let deployment =
        deployment(json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1}));
    let ago = Duration::from_secs(sight.age);
    let happening = |(reason, message): &(&str, &str)| rollout::Happening {
        reason: (*reason).to_owned(),
        message: (*message).to_owned(),
        ago,
    };
    let events: Vec<rollout::Happening> = sight.events.iter().map(happening).collect();
    let pod = pod(pod_hash, pod_status);
    let seen = Seen { pod: &pod, lasting: Duration::from_secs(sight.seconds), events: &events, log: sight.log };
    let found = match verdict(&deployment, None, [seen].into_iter(), &PATIENCE) {
        Verdict::Ready => "ready".to_owned(),
        Verdict::Waiting { why, on: On::Cluster } => format!("waiting: {why}"),
        Verdict::Waiting { why, on: On::Grant } => format!("granting: {why}"),
        Verdict::Waiting { why, on: On::Node } => format!("scaling: {why}"),
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
    check_sight("new", crashed(looping(), 9), &sight(59), &format!("granting: {said}"));
    check_sight("new", crashed(looping(), 9), &sight(60), &format!("identity: {said}"));
}

#[test]
fn a_pod_without_a_node_is_a_failure_unless_one_is_on_its_way() {
    let unscheduled =
        || json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]});
    let said = "no node takes the pod orchestrator-x: 0/1 nodes are available";
    let sight = |seconds, events| Sight { seconds, events, age: seconds, log: "" };
    check_sight("new", unscheduled(), &sight(9, vec![]), &format!("waiting: {said}"));
    check_sight("new", unscheduled(), &sight(10, vec![]), &format!("unschedulable: {said}"));
    check_sight(
        "new",
        unscheduled(),
        &sight(100, vec![("NotTriggerScaleUp", "max size"), ("TriggeredScaleUp", "pool 1->2 (max: 8)")]),
        "scaling: a node is being made for the pod orchestrator-x: pool 1->2 (max: 8)",
    );
    // Another pool, or one that is made for it, may still come.
    let refused = || vec![("NotTriggerScaleUp", "1 max node group size reached")];
    let reached = format!("{said}; the autoscaler makes none: 1 max node group size reached");
    check_sight("new", unscheduled(), &sight(9, refused()), &format!("waiting: {reached}"));
    check_sight("new", unscheduled(), &sight(10, refused()), &format!("unschedulable: {reached}"));
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
    let sight = |seconds, log| Sight { seconds, events: probe(), log, ..Sight::default() };
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
    check_sight("new", unready(), &sight(59, refused), &format!("granting: {said}"));
    check_sight("new", unready(), &sight(60, refused), &format!("identity: {said}"));
    let creating = json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]});
    let mount = |seconds, age, then: &[(&'static str, &'static str)]| Sight {
        seconds,
        events: [&[("FailedMount", "secret \"k\" not found")], then].concat(),
        age,
        log: "",
    };
    let said = "pod-config: the pod orchestrator-x cannot be set up: secret \"k\" not found";
    let waits = "waiting: the container orchestrator of orchestrator-x is in ContainerCreating";
    check_sight("new", creating.clone(), &mount(9, 0, &[]), waits);
    check_sight("new", creating.clone(), &mount(10, 0, &[]), said);
    // It was in the way in the first moments, and a large image is on its way since; or it is over, and nothing is
    // said.
    check_sight("new", creating.clone(), &mount(60, 0, &[("Pulling", "Pulling image")]), waits);
    check_sight("new", creating, &mount(60, 10, &[]), waits);
}

#[test]
fn a_start_may_take_as_long_as_its_probe_allows() {
    let running = |started: bool, restarts: u32| {
        json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
            "restartCount": restarts, "started": started, "state": {"running": {}}}]})
    };
    let startup = ("Unhealthy", "Startup probe failed: connection refused");
    let sight =
        |events: &[(&'static str, &'static str)]| Sight { seconds: 50, events: events.to_vec(), ..Sight::default() };
    let said = "the pod orchestrator-x runs and is not ready: Startup probe failed: connection refused";
    check_sight("new", running(false, 0), &sight(&[startup]), &format!("waiting: {said}"));
    let killed = ("Killing", "Container orchestrator failed startup probe, will be restarted");
    check_sight("new", running(false, 1), &sight(&[startup, killed]), &format!("probe: {said}"));
    check_sight("new", running(true, 0), &sight(&[startup]), &format!("probe: {said}"));
}

/// What a kubelet shows of one and the same container that ends a moment after each start.
#[test]
fn a_crash_loop_is_one_in_whichever_state_it_is_met() {
    let ended = |message: &str| json!({"terminated": {"exitCode": 7, "reason": "Error", "message": message}});
    let status = |state: Value, last: Value, restarts: u32| {
        json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
            "restartCount": restarts, "started": false, "state": state, "lastState": last}]})
    };
    let pause = || json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}});
    let runs = || json!({"running": {}});
    let seen = |seconds, log| Sight { seconds, events: vec![("BackOff", "Back-off restarting")], age: 0, log };
    let said = |log: &str| {
        format!(
            "crash-loop: the container orchestrator ends again and again with exit code 7\nits last log lines are:\n{log}"
        )
    };
    for restarts in [2, 3, 9] {
        for state in [pause(), ended("kept")] {
            let status = status(state, ended("kept"), restarts);
            check_sight("new", status.clone(), &seen(0, "first\nboom"), &said("first\nboom"));
            check_sight("new", status, &seen(0, ""), &said("kept"));
        }
        // While it runs this may be the time that it stays, but not for long.
        let status = status(runs(), ended("kept"), restarts);
        let waits = "waiting: the pod orchestrator-x runs and is not ready: it is not ready";
        check_sight("new", status.clone(), &seen(29, "first\nboom"), waits);
        check_sight("new", status.clone(), &seen(30, "first\nboom"), &said("first\nboom"));
        check_sight("new", status, &seen(30, ""), &said("kept"));
    }
    let again = "waiting: the container orchestrator of orchestrator-x ended with exit code 7 and is started again";
    check_sight("new", status(pause(), ended(""), 1), &seen(100, "boom"), again);
    check_sight("new", status(ended(""), json!({}), 1), &seen(100, "boom"), again);
}

#[test]
fn of_what_the_autoscaler_says_the_newest_counts() {
    let unscheduled =
        || json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]});
    let said = "no node takes the pod orchestrator-x: 0/1 nodes are available; the autoscaler makes none: ";
    let sight =
        |age, events: &[(&'static str, &'static str)]| Sight { seconds: 100, events: events.to_vec(), age, log: "" };
    let triggered = ("TriggeredScaleUp", "pool 1->2 (max: 8)");
    let quota = ("FailedScaleUp", "failed: GCE quota exceeded. Pod is at risk of not being scheduled.");
    let backoff = ("NotTriggerScaleUp", "1 in backoff after failed scale-up");
    for events in [&[triggered, quota][..], &[triggered, quota, backoff]] {
        check_sight("new", unscheduled(), &sight(0, events), &format!("quota: {said}{}", quota.1));
    }
    // What has no machines in one zone may have them in another.
    let stock = ("FailedScaleUp", "failed: GCE out of resources. Pod is at risk of not being scheduled.");
    for events in [&[triggered, stock][..], &[triggered, stock, backoff]] {
        check_sight("new", unscheduled(), &sight(9, events), &format!("waiting: {said}{}", stock.1));
        check_sight("new", unscheduled(), &sight(10, events), &format!("unschedulable: {said}{}", stock.1));
    }
    let elsewhere = "scaling: a node is being made for the pod orchestrator-x: pool 1->2 (max: 8)";
    check_sight("new", unscheduled(), &sight(100, &[triggered, stock, backoff, triggered]), elsewhere);
    check_sight("new", unscheduled(), &sight(100, &[quota, triggered]), elsewhere);
}

#[test]
fn only_an_image_that_does_not_exist_fails_at_once() {
    let check = |message: &str, seconds, expected: &str| {
        let status = container(json!({"reason": "ImagePullBackOff", "message": message}));
        let sight = Sight { seconds, ..Sight::default() };
        check_sight("new", status, &sight, &format!("{expected}: the image i:2 cannot be pulled: {message}"));
    };
    for gone in ["i:2: not found", "manifest unknown: Failed to fetch", "unexpected status: 404 Not Found"] {
        check(gone, 0, "image-pull");
    }
    let digest = "dial tcp: lookup x-docker.pkg.dev: i/o timeout (sha256:401403denie)";
    for passing in ["net/http: TLS handshake timeout", "lookup x-docker.pkg.dev: no such host", digest] {
        check(passing, 29, "waiting");
        check(passing, 30, "image-pull");
    }
    for denied in [
        "unexpected status from HEAD request to https://x-docker.pkg.dev/v2/i: 403 Forbidden",
        "denied: Permission \"artifactregistry.repositories.downloadArtifacts\" denied on resource (or it may not exist)",
        "pull access denied, repository does not exist or may require authorization",
    ] {
        check(denied, 59, "granting");
        check(denied, 60, "image-pull");
    }
    let status = container(json!({"reason": "InvalidImageName", "message": "no name"}));
    self::check("new", status, "image-pull: the image i:2 cannot be pulled: no name");
}

#[test]
fn every_patience_ends_before_the_wait_does() {
    let google = Patience::GOOGLE;
    let Patience { unscheduled, pulling, creating, unready, refused, identity } = google;
    for (patience, on) in [
        (unscheduled, On::Cluster),
        (pulling, On::Cluster),
        (creating, On::Cluster),
        (unready * 3, On::Cluster),
        (refused * 6, On::Cluster),
        (identity, On::Grant),
        (unscheduled, On::Node),
    ] {
        assert!(patience < LIMIT.max(wait::allowed(on, &google)), "{patience:?} with {on:?}");
    }
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
    let judge_after = |seconds, sets: &[ReplicaSet]| {
        let message = rollout::refused(&deployment, sets.iter());
        let refused = message.map(|message| rollout::Refusal { message, lasting: Duration::from_secs(seconds) });
        verdict(&deployment, refused, [].into_iter(), &PATIENCE)
    };
    let judge = |sets: &[ReplicaSet]| judge_after(5, sets);
    for (message, code) in [("exceeded quota: pods", "quota"), ("violates PodSecurity", "admission")] {
        let sets = [set("2", stale.clone()), set("3", condition(message))];
        let Verdict::Failed(cause) = judge(&sets) else { panic!("{message} is a failure") };
        assert_eq!((cause.why.code(), cause.seen), (code, format!("its pods are refused: {message}")));
    }
    // The next try of the controller may go well; that of what is new, or does not answer, the one after some.
    for (message, seconds) in [("violates PodSecurity", 5), ("Internal error: failed calling webhook \"w\"", 30)] {
        let sets = [set("3", condition(message))];
        assert!(matches!(judge_after(seconds - 1, &sets), Verdict::Waiting { .. }), "{message}");
        assert!(matches!(judge_after(seconds, &sets), Verdict::Failed(_)), "{message}");
    }
    let cured = [set("2", stale.clone()), set("3", json!([]))];
    assert!(matches!(judge(&cured), Verdict::Waiting { .. }), "what an older template was refused for is over");
    assert!(matches!(judge(&cured[..1]), Verdict::Waiting { .. }));
}

//! Tests of waiting for rollouts: how long, and for whom.

use super::*;

const PATH: &str = "/apis/apps/v1/namespaces/bu1/deployments/orchestrator";

/// A Deployment of bu1 whose pod runs and is not ready, with this as its log.
fn put_unready(cluster: &Cluster, log: &str) {
    let status = json!({"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1});
    cluster.put(PATH, serde_json::to_value(deployment(status)).unwrap());
    let runs = json!({"containerStatuses": [{"name": "orchestrator", "image": "i:2", "imageID": "", "ready": false,
        "restartCount": 0, "started": true, "state": {"running": {}}}]});
    cluster.put("/api/v1/namespaces/bu1/pods/orchestrator-x", serde_json::to_value(pod("new", runs)).unwrap());
    cluster.put("/api/v1/namespaces/bu1/pods/orchestrator-x/log", json!(log));
}

fn rollout(limit: u64, identity: u64) -> Rollout {
    let (limit, identity) = (Duration::from_secs(limit), Duration::from_secs(identity));
    let patience = Patience { identity, ..Patience::GOOGLE };
    Rollout { namespace: "bu1".to_owned(), name: "orchestrator".to_owned(), limit, patience }
}

#[tokio::test]
async fn a_grant_that_is_not_known_yet_is_waited_for_beyond_the_limit() {
    let (client, cluster) = Cluster::start().await;
    put_unready(&cluster, "receive: PERMISSION_DENIED: not you");
    let started = std::time::Instant::now();
    let error = wait_for(&client, &rollout(1, 4), &|_| {}).await.unwrap_err();
    let cause = error.downcast::<Failed>().unwrap().cause;
    assert_eq!(cause.why, Why::Identity, "{}", cause.seen);
    assert!(started.elapsed() >= Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn at_the_end_of_all_time_what_is_seen_is_told() {
    let (client, cluster) = Cluster::start().await;
    put_unready(&cluster, "no topic");
    let error = wait_for(&client, &rollout(2, 100), &|_| {}).await.unwrap_err();
    let cause = error.downcast::<Failed>().unwrap().cause;
    assert!(cause.why == Why::Probe && cause.seen.ends_with("no topic"), "{cause:?}");

    // What a node says of a log that it has not kept is none.
    put_unready(&cluster, "unable to retrieve container logs for containerd://0");
    let error = wait_for(&client, &rollout(2, 100), &|_| {}).await.unwrap_err();
    let cause = error.downcast::<Failed>().unwrap().cause;
    assert!(cause.why == Why::Probe && cause.seen.ends_with("it is not ready"), "{cause:?}");
}

#[tokio::test]
async fn one_rollout_that_fails_is_told_while_another_one_waits() {
    let (client, cluster) = Cluster::start().await;
    let environment =
        environment("project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n[businesses.bu2]\n");
    let cloud = cloud(client);
    let folder = tempfile::tempdir().unwrap();
    let images = Images { orchestrator: "i:1".to_owned(), engine: "i:2".to_owned() };
    let second = Duration::from_secs(1);
    let patience = Patience { creating: second, unready: second, ..Patience::GOOGLE };
    let limit = Duration::from_secs(600);
    let options = Options { limit, patience, ..Options::new(images, folder.path().to_owned()) };
    // The kubelet's part: the pod of bu1 has a name that is none, and nothing is seen of bu2.
    let kubelet = cluster.clone();
    let failed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&failed);
    let progress: Progress = Arc::new(move |event| match event {
        Event::Waiting { deployment } if deployment.starts_with("bu1/") => {
            let mut held = kubelet.0.lock().unwrap();
            let deployment = &held.objects["/apis/apps/v1/namespaces/bu1/deployments/orchestrator"];
            let hash = deployment["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH].clone();
            let waiting = json!({"reason": "InvalidImageName", "message": "no name"});
            let mut pod = serde_json::to_value(pod(hash.as_str().unwrap(), container(waiting))).unwrap();
            pod["spec"]["containers"][0]["image"] = json!("i:1");
            held.objects.insert("/api/v1/namespaces/bu1/pods/orchestrator-x".to_owned(), pod);
        }
        Event::Failed { deployment, .. } => seen.lock().unwrap().push(deployment),
        _ => {}
    });
    let started = std::time::Instant::now();
    let error = run(&environment, &cloud, &options, &progress).await.unwrap_err();
    assert!(started.elapsed() < limit / 10, "it waited {:?} for the other one", started.elapsed());
    let failure = error.downcast::<crate::failure::Failure>().unwrap();
    assert_eq!((failure.code, failure.on.as_str()), ("image-pull", "bu1/orchestrator"), "{failure}");
    assert!(failure.why.contains("bu2/orchestrator was not waited for any longer"), "{failure}");
    assert_eq!(*failed.lock().unwrap(), ["bu1/orchestrator"]);
}

#[test]
fn only_what_was_there_before_can_run_as_before() {
    let planned = |name: &str, kind: &str, live: bool| preview::Planned {
        object: json!({"kind": kind, "metadata": {"name": name, "namespace": "deskgrid"}}),
        change: if live { Change::Changed } else { Change::Created },
        live: live.then(|| json!({})),
        after: None,
        conflicts: Vec::new(),
        force: false,
    };
    let objects = vec![
        planned("client", "Deployment", true),
        planned("monitor", "Deployment", false),
        planned("client", "Service", true),
    ];
    let preview = Preview {
        environment: "e".to_owned(),
        groups: vec![preview::Group { objects, set: None }],
        departed: Vec::new(),
    };
    assert_eq!(rollback::had_before(&preview).into_iter().collect::<Vec<_>>(), ["deskgrid/client"]);
}

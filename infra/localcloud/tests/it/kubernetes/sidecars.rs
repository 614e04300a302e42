//! Sidecars: init containers that run beside the containers.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, LogParams, PostParams};
use localcloud::kubernetes::value;
use serde_json::{Value, json};

use crate::kubernetes::support::{Lab, alive, has, until};

/// Does something and waits; says `end NAME` on SIGTERM and ends.
fn waits(name: &str, first: &str) -> String {
    format!("trap 'echo end {name} >> $W/order; exit 1' TERM; {first} while :; do sleep 0.02; done")
}

fn container(name: &str, script: &str, more: Value) -> Value {
    let mut container = json!({
        "name": name, "image": "sh", "command": ["/bin/sh", "-c", script],
        "env": [{"name": "W", "value": "/scratch"}], "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    });
    json_patch::merge(&mut container, &more);
    container
}

fn spec(init: Value, main: Value) -> Value {
    json!({
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 20, "initContainers": init, "containers": [main],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    })
}

fn sidecar() -> Value {
    json!({"restartPolicy": "Always"})
}

/// What the containers of a pod wrote.
fn order(lab: &Lab, pod: &Pod) -> String {
    let volumes = lab.kubernetes.cluster().folder.join("pods").join(pod.metadata.uid.as_deref().unwrap());
    std::fs::read_to_string(volumes.join("volumes/scratch/order")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_succeeds_with_its_containers_and_sidecars_run_beside_them() {
    let lab = Lab::new().await;
    let first = waits("first", "echo first >> $W/order; touch $W/on;");
    let probed = json!({
        "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["/bin/sh", "-c", "test -e $W/up"]}, "periodSeconds": 1},
    });
    let second = waits("second", "echo $$$$ > $W/pid; echo second >> $W/order; sleep 0.2; touch $W/up;");
    let main = "echo main >> $W/order; kill -9 $(cat $W/pid); until test $(grep -c second $W/order) = 2; do sleep 0.02; \
                done; echo done >> $W/order";
    let init = json!([
        container("first", &first, sidecar()),
        container("install", "until test -e $W/on; do sleep 0.02; done; echo install >> $W/order", json!({})),
        container("second", &second, probed),
        container("after", "test -e $W/up && echo after >> $W/order", json!({})),
    ]);
    let spec = spec(init, container("main", main, json!({})));
    lab.job("sidecars", "", json!({"backoffLimit": 0, "template": {"spec": spec}})).await;
    let job = lab.until_job("sidecars", |job| has(job, "Complete") || has(job, "Failed")).await;
    let pod = lab.job_pods("sidecars").await.remove(0);
    let ended = "first\ninstall\nsecond\nafter\nmain\nsecond\ndone\nend second\nend first\n";
    assert_eq!((order(&lab, &pod).as_str(), has(&job, "Complete")), (ended, true));
    let pod = serde_json::to_value(pod).unwrap();
    let statuses = value::items(&pod, "/status/initContainerStatuses");
    let ends = |status: &Value| {
        (
            value::text(status, "/name").to_owned(),
            value::number(status, "/state/terminated/exitCode"),
            status["restartCount"].as_i64(),
        )
    };
    let expected = [("first", Some(1), 0), ("install", Some(0), 0), ("second", Some(1), 1), ("after", Some(0), 0)]
        .map(|(name, code, restarts)| (name.to_owned(), code, Some(restarts)));
    assert_eq!(statuses.iter().map(ends).collect::<Vec<_>>(), expected);
    assert_eq!(value::text(&statuses[2], "/lastState/terminated/reason"), "Error");
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_ends_its_containers_before_its_sidecars() {
    let lab = Lab::new().await;
    let deaf = "trap '' TERM; echo $$$$; while :; do sleep 0.02; done";
    let ready = json!({
        "restartPolicy": "Always", "ports": [{"name": "x", "containerPort": 1}],
        "readinessProbe": {"exec": {"command": ["/bin/sh", "-c", "test -e $W/ready"]}, "periodSeconds": 1},
    });
    let init = json!([container("deaf", deaf, sidecar()), container("program", &waits("program", ""), ready)]);
    let spec = spec(init, container("main", &waits("main", ""), json!({})));
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
    let pod = lab.pods().create(&PostParams::default(), &pod).await.unwrap();
    let until_pod = async |what: &str, desired: &dyn Fn(&Value) -> bool| {
        until(what, || async {
            let pod = serde_json::to_value(lab.pods().get("p").await.unwrap()).unwrap();
            if desired(&pod) { Ok(()) } else { Err(pod["status"].to_string()) }
        })
        .await;
    };
    until_pod("the containers", &|pod| {
        let status = &pod["status"];
        value::has_condition(pod, "Initialized")
            && status["phase"] == "Running"
            && status["initContainerStatuses"][1]["started"] == true
            && value::condition(pod, "Ready")
                .is_some_and(|ready| value::text(ready, "/message") == "containers with unready status: [program]")
    })
    .await;
    let folder = lab.kubernetes.cluster().folder.join("pods").join(pod.metadata.uid.as_deref().unwrap());
    std::fs::write(folder.join("volumes/scratch/ready"), "").unwrap();
    until_pod("the sidecar", &|pod| value::has_condition(pod, "Ready")).await;
    let log = LogParams { container: Some("deaf".to_owned()), ..LogParams::default() };
    let deaf: i32 = lab.pods().logs("p", &log).await.unwrap().trim().parse().unwrap();

    lab.pods().delete("p", &DeleteParams::default()).await.unwrap();
    until("the sidecar's end", || async {
        let order = order(&lab, &pod);
        if order == "end main\nend program\n" { Ok(()) } else { Err(order) }
    })
    .await;
    assert!(alive(deaf), "the first sidecar has the rest of the grace period");
    lab.pods().delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    until("the first sidecar's end", || async { if alive(deaf) { Err(String::new()) } else { Ok(()) } }).await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_init_containers_have_a_restart_policy() {
    let lab = Lab::new().await;
    let check = async |init: Value, main: Value, expected: &str| {
        let spec = spec(json!([container("init", "true", init)]), container("main", "true", main));
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        let error = lab.pods().create(&PostParams::default(), &pod).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let unsupported =
        "spec.initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"";
    check(json!({"restartPolicy": "Never"}), json!({}), unsupported).await;
    let forbidden = "spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers";
    check(json!({}), sidecar(), forbidden).await;
    let probe = json!({"startupProbe": {"exec": {"command": ["true"]}}});
    let forbidden = "spec.initContainers[0].startupProbe: Forbidden: may not be set for init containers without \
                     restartPolicy=Always";
    check(probe, json!({}), forbidden).await;
    lab.kubernetes.stop().await;
}

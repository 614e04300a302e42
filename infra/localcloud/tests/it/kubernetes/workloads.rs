//! Deployments, and what a node gives to containers.

use std::path::Path;

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Pod, Secret},
};
use kube::{
    Api,
    api::{DeleteParams, LogParams, Patch, PatchParams, PostParams},
};
use localcloud::kubernetes::value;
use serde_json::{Value, json};

use crate::kubernetes::support::{Lab, alive, has, until};

fn deployment(script: &str) -> Deployment {
    serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [
                {"name": "main", "image": "sh", "command": ["/bin/sh", "-c", script]},
            ]},
        }},
    }))
    .unwrap()
}

async fn until_available(api: &Api<Deployment>, replicas: i32) -> Deployment {
    until("the rollout", || async {
        let web = api.get("web").await.unwrap();
        let status = web.status.clone().unwrap_or_default();
        let good = status.observed_generation == web.metadata.generation
            && [status.replicas, status.updated_replicas, status.available_replicas] == [Some(replicas); 3];
        if good { Ok(web) } else { Err(format!("{status:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_and_restarts_what_dies() {
    let lab = Lab::new().await;
    let api: Api<Deployment> = Api::default_namespaced(lab.client.clone());
    api.create(&PostParams::default(), &deployment("echo $$$$; exec sleep 600")).await.unwrap();
    until_available(&api, 2).await;
    let pod = lab.pods().list(&Default::default()).await.unwrap().items.remove(0);
    let name = pod.metadata.name.clone().unwrap();
    let first = lab.pods().logs(&name, &LogParams::default()).await.unwrap();
    let id: i32 = first.trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL).unwrap();
    let restarted = until("a restart", || async {
        let status = lab.pods().get(&name).await.unwrap().status.unwrap();
        let container = status.container_statuses.unwrap().remove(0);
        if container.restart_count == 1 && container.ready { Ok(container) } else { Err(format!("{container:?}")) }
    })
    .await;
    assert_eq!(restarted.last_state.unwrap().terminated.unwrap().exit_code, 137);
    let previous = LogParams { previous: true, ..LogParams::default() };
    assert_eq!(lab.pods().logs(&name, &previous).await.unwrap(), first);
    until_available(&api, 2).await;

    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "V", "value": "2"}]}]}}}});
    api.patch("web", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    until_available(&api, 2).await;
    let sets: Api<ReplicaSet> = Api::default_namespaced(lab.client.clone());
    let mut replicas: Vec<_> =
        sets.list(&Default::default()).await.unwrap().items.into_iter().map(|set| set.spec.unwrap().replicas).collect();
    replicas.sort();
    assert_eq!(replicas, [Some(0), Some(2)]);

    let pids = pids(&lab).await;
    api.delete("web", &DeleteParams::background()).await.unwrap();
    until("the pods to go", || async {
        let left = lab.pods().list(&Default::default()).await.unwrap().items.len();
        if left == 0 { Ok(()) } else { Err(format!("{left}")) }
    })
    .await;
    assert!(pids.into_iter().all(|id| !alive(id)));
    lab.kubernetes.stop().await;
}

async fn pids(lab: &Lab) -> Vec<i32> {
    let mut pids = Vec::new();
    for pod in lab.pods().list(&Default::default()).await.unwrap().items {
        if pod.metadata.deletion_timestamp.is_none() {
            let log = lab.pods().logs(&pod.metadata.name.unwrap(), &LogParams::default()).await.unwrap();
            pids.push(log.trim().parse().unwrap());
        }
    }
    pids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readiness_probe_finds_the_port_the_node_chose() {
    let lab = Lab::new().await;
    let Some(python) = ["/usr/bin/python3", "/usr/local/bin/python3"].into_iter().find(|path| Path::new(path).exists())
    else {
        eprintln!("skipped: no python3");
        return;
    };
    let api: Api<Deployment> = Api::default_namespaced(lab.client.clone());
    let mut web = serde_json::to_value(deployment("")).unwrap();
    web["spec"]["replicas"] = 1.into();
    web["spec"]["template"]["spec"]["containers"][0] = json!({
        "name": "main", "image": "sh", "command": [python, "-m", "http.server", "$(DESKGRID_PORT_HTTP)", "--bind", "127.0.0.1"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
    });
    api.create(&PostParams::default(), &serde_json::from_value(web).unwrap()).await.unwrap();
    until_available(&api, 1).await;
    let pod = lab.pods().list(&Default::default()).await.unwrap().items.remove(0);
    let port: u16 = pod.metadata.annotations.unwrap()["deskgrid.dev/port-http"].parse().unwrap();
    assert!(port != 8080 && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_environment_and_messages() {
    let lab = Lab::new().await;
    let config: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "config"}, "data": {"config.json": "{}", "LEVEL": "info"}}))
            .unwrap();
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "key"}, "stringData": {"key.json": "secret"}})).unwrap();
    Api::default_namespaced(lab.client.clone()).create(&PostParams::default(), &config).await.unwrap();
    Api::default_namespaced(lab.client.clone()).create(&PostParams::default(), &secret).await.unwrap();
    let script = "cat $CONFIG $KEY; echo; cat $WORK/made; echo $LEVEL $POD_NAME $NODE $0 $1; \
                  test -r $KUBECONFIG && echo token; printf done > $DESKGRID_TERMINATION_LOG; exit 4";
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "all"},
        "spec": {
            "restartPolicy": "Never",
            "initContainers": [{
                "name": "init", "image": "sh", "command": ["/bin/sh", "-c", "echo made > $WORK/made"],
                "env": [{"name": "WORK", "value": "/scratch"}], "volumeMounts": [{"name": "work", "mountPath": "/scratch"}],
            }],
            "containers": [{
                "name": "main", "image": "sh", "command": ["/bin/sh", "-c", script, "/scratch/x", "--y=/scratch/z"],
                "env": [
                    {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "config", "key": "LEVEL"}}},
                    {"name": "CONFIG", "value": "/etc/config/config.json"},
                    {"name": "KEY", "value": "/etc/key/key.json"},
                    {"name": "WORK", "value": "/scratch"},
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ],
                "volumeMounts": [
                    {"name": "config", "mountPath": "/etc/config"}, {"name": "key", "mountPath": "/etc/key"},
                    {"name": "work", "mountPath": "/scratch/"},
                ],
            }],
            "volumes": [
                {"name": "config", "configMap": {"name": "config"}}, {"name": "key", "secret": {"secretName": "key"}},
                {"name": "work", "emptyDir": {"sizeLimit": "1Gi"}},
            ],
        },
    }))
    .unwrap();
    lab.pods().create(&PostParams::default(), &pod).await.unwrap();
    let pod = until("the pod to end", || async {
        let pod = lab.pods().get("all").await.unwrap();
        let status = pod.status.clone().unwrap();
        if status.phase.as_deref() == Some("Failed") { Ok(pod) } else { Err(format!("{status:?}")) }
    })
    .await;
    let log =
        lab.pods().logs("all", &LogParams { container: Some("main".into()), ..LogParams::default() }).await.unwrap();
    let uid = pod.metadata.uid.unwrap();
    let work = lab.kubernetes.cluster().folder.join("pods").join(&uid).join("volumes/work");
    let work = work.display();
    assert_eq!(log, format!("{{}}secret\nmade\ninfo all laptop {work}/x --y={work}/z\ntoken\n"));
    let ended = pod.status.unwrap().container_statuses.unwrap().remove(0).state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.message.as_deref(), ended.reason.as_deref()), (4, Some("done"), Some("Error")));
    lab.pods().delete("all", &DeleteParams::default()).await.unwrap();
    let folder = lab.kubernetes.cluster().folder.join("pods").join(uid);
    until("the folder to go", || async { if folder.exists() { Err(String::new()) } else { Ok(()) } }).await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn references_see_what_kubernetes_knows_and_nothing_else() {
    let lab = Lab::new().await;
    // What the node adds to a process is not known to Kubernetes, and a later variable not to an earlier one.
    let reference = "$(HOME) $(PATH) $(KUBERNETES_SERVICE_PORT) $(LATE) $(EARLY) $$(EARLY) $$$$";
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "refers"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "main", "image": "sh", "command": ["/bin/sh", "-c", "echo \"$V\"; echo \"$0\"", reference],
            "env": [{"name": "EARLY", "value": "1"}, {"name": "V", "value": reference}, {"name": "LATE", "value": "2"}],
        }]},
    }))
    .unwrap();
    lab.pods().create(&PostParams::default(), &pod).await.unwrap();
    until("the pod to end", || async {
        let phase = lab.pods().get("refers").await.unwrap().status.unwrap().phase;
        if phase.as_deref() == Some("Succeeded") { Ok(()) } else { Err(format!("{phase:?}")) }
    })
    .await;
    let log = lab.pods().logs("refers", &LogParams::default()).await.unwrap();
    let port = lab.kubernetes.address().port();
    let expected = |late: &str| format!("$(HOME) $(PATH) {port} {late} 1 $(EARLY) $$");
    assert_eq!(log.lines().collect::<Vec<_>>(), [expected("$(LATE)"), expected("2")]);
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_images_and_missing_room_keep_a_pod_waiting() {
    let lab = Lab::new().await;
    let pod = |name: &str, container: Value| -> Pod {
        let mut all = json!({"name": "main", "image": "sh", "command": ["/bin/sh", "-c", "true"]});
        json_patch::merge(&mut all, &container);
        serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [all]}}),
        )
        .unwrap()
    };
    lab.pods().create(&PostParams::default(), &pod("image", json!({"image": "later", "command": null}))).await.unwrap();
    let big = json!({"resources": {"requests": {"cpu": "1000"}}});
    lab.pods().create(&PostParams::default(), &pod("big", big)).await.unwrap();
    until("the back-off", || async {
        let pod = serde_json::to_value(lab.pods().get("image").await.unwrap()).unwrap();
        match value::text(&pod, "/status/containerStatuses/0/state/waiting/reason") {
            "ImagePullBackOff" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    until("the scheduler's answer", || async {
        let pod = serde_json::to_value(lab.pods().get("big").await.unwrap()).unwrap();
        match value::condition(&pod, "PodScheduled") {
            Some(condition) if value::text(condition, "/reason") == "Unschedulable" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let folder = lab.folder.path().join("later");
    std::fs::copy("/bin/true", &folder).unwrap();
    lab.kubernetes.images().register("later", &folder).unwrap();
    until("the pod to end", || async {
        let phase = lab.pods().get("image").await.unwrap().status.unwrap().phase;
        if phase.as_deref() == Some("Succeeded") { Ok(()) } else { Err(format!("{phase:?}")) }
    })
    .await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_leaves_no_process() {
    let lab = Lab::new().await;
    lab.job(
        "long",
        "trap '' TERM; echo $$$$; sleep 600 & wait; sleep 600",
        json!({"parallelism": 3, "completions": 3}),
    )
    .await;
    lab.until_job("long", |job| {
        job.status.as_ref().is_some_and(|status| status.ready == Some(3)) && !has(job, "Failed")
    })
    .await;
    let pids = until("three lines", || async {
        let mut pids = Vec::new();
        for pod in lab.job_pods("long").await {
            let log = lab.pods().logs(&pod.metadata.name.unwrap(), &LogParams::default()).await.unwrap();
            pids.extend(log.trim().parse::<i32>());
        }
        if pids.len() == 3 { Ok(pids) } else { Err(format!("{pids:?}")) }
    })
    .await;
    lab.kubernetes.stop().await;
    assert!(pids.into_iter().all(|id| !alive(id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reaper_is_told_of_every_group() {
    let told = tempfile::NamedTempFile::new().unwrap();
    let script = format!("exec cat > {}", told.path().display());
    let lab = Lab::with(|options| {
        options.reaper = Some(["/bin/sh", "-c", &script].map(Into::into).to_vec());
    })
    .await;
    lab.job("short", "echo $$$$", json!({})).await;
    lab.until_job("short", |job| has(job, "Complete")).await;
    let name = lab.job_pods("short").await.remove(0).metadata.name.unwrap();
    let id = lab.pods().logs(&name, &LogParams::default()).await.unwrap();
    lab.kubernetes.stop().await;
    assert_eq!(std::fs::read_to_string(told.path()).unwrap(), format!("+{}\n-{}\n", id.trim(), id.trim()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_reaches_a_running_pod() {
    let lab = Lab::new().await;
    let secrets: Api<Secret> = Api::default_namespaced(lab.client.clone());
    let secret = json!({"metadata": {"name": "key"}, "stringData": {"key.json": "old"}});
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let spec = json!({"template": {"spec": {
        "volumes": [{"name": "key", "secret": {"secretName": "key"}}],
        "containers": [{
            "name": "main", "image": "sh", "volumeMounts": [{"name": "key", "mountPath": "/key"}],
            "command": ["/bin/sh", "-c", "until grep -q new $0; do sleep 0.02; done", "/key/key.json"],
        }],
    }}});
    lab.job("waits", "", spec).await;
    lab.until_job("waits", |job| job.status.as_ref().is_some_and(|status| status.ready == Some(1))).await;
    let patch = Patch::Merge(json!({"stringData": {"key.json": "new"}}));
    secrets.patch("key", &PatchParams::default(), &patch).await.unwrap();
    lab.until_job("waits", |job| has(job, "Complete")).await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_liveness_probe_restarts_and_an_unknown_account_is_refused() {
    let lab = Lab::new().await;
    let api: Api<Deployment> = Api::default_namespaced(lab.client.clone());
    let mut web = serde_json::to_value(deployment("echo $$$$; exec sleep 600")).unwrap();
    web["spec"]["replicas"] = 1.into();
    let gate = lab.folder.path().join("gate");
    web["spec"]["template"]["spec"]["containers"][0]["livenessProbe"] = json!({
        "exec": {"command": ["/bin/sh", "-c", format!("test ! -e {}", gate.display())]}, "periodSeconds": 1,
        "failureThreshold": 1,
    });
    api.create(&PostParams::default(), &serde_json::from_value(web).unwrap()).await.unwrap();
    until_available(&api, 1).await;
    std::fs::write(gate, "").unwrap();
    until("a restart", || async {
        let pod = lab.pods().list(&Default::default()).await.unwrap().items.remove(0);
        let restarts = pod.status.unwrap().container_statuses.unwrap()[0].restart_count;
        if restarts > 0 { Ok(()) } else { Err("none".to_owned()) }
    })
    .await;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "stranger"}, "spec": {"serviceAccountName": "nobody", "containers": [{"name": "a", "image": "sh"}]},
    }))
    .unwrap();
    let error = lab.pods().create(&PostParams::default(), &pod).await.unwrap_err().to_string();
    let expected = "error looking up service account bu1/nobody: serviceaccount \"nobody\" not found";
    assert!(error.contains(expected), "{error}");
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_while_pods_are_still_coming() {
    for _ in 0..5 {
        let lab = Lab::new().await;
        let waiting = json!({"parallelism": 20, "completions": 20, "template": {"spec": {"containers": [
            {"name": "main", "image": "unknown"},
        ]}}});
        lab.job("waiting", "", waiting).await;
        tokio::time::timeout(std::time::Duration::from_secs(20), lab.kubernetes.stop()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn autopilot_limits_disks_to_requests_and_keeps_pods_that_may_not_be_evicted_off_spot_machines() {
    let lab = Lab::with(|options| options.is_autopilot = std::sync::Arc::new(|| true)).await;
    let pod = |name: &str, evict: &str, selector: Value, resources: Value| -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": evict}},
            "spec": {"nodeSelector": selector, "containers": [
                {"name": "main", "image": "sh", "command": ["/bin/sh", "-c", "exit 0"], "resources": resources},
            ]},
        }))
        .unwrap()
    };
    let spot = json!({"cloud.google.com/gke-spot": "true"});
    let disk = |requests: &str, limits: &str| json!({"requests": {"ephemeral-storage": requests}, "limits": {"ephemeral-storage": limits}});
    for (name, evict, selector, resources, granted, starts) in [
        ("silent", "true", spot.clone(), json!({}), "1Gi", true),
        ("lowered", "false", json!({}), disk("2Gi", "5Gi"), "2Gi", true),
        ("large", "true", json!({}), disk("20Gi", "20Gi"), "10Gi", true),
        ("extended", "false", spot, disk("2Gi", "2Gi"), "2Gi", false),
    ] {
        let created = lab.pods().create(&PostParams::default(), &pod(name, evict, selector, resources)).await.unwrap();
        let created = serde_json::to_value(&created.spec.unwrap().containers[0].resources).unwrap();
        assert_eq!(created, disk(granted, granted), "{name}");
        let bound = until(name, || async {
            let pod = lab.pods().get(name).await.unwrap();
            let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            let scheduled = conditions.into_iter().find(|condition| condition.type_ == "PodScheduled");
            scheduled.map(|condition| condition.status == "True").ok_or_else(|| "not decided".to_owned())
        })
        .await;
        assert_eq!(bound, starts, "{name}");
    }
}

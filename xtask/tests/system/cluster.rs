//! Any real Kubernetes in the place of the laptop cloud's: `cargo xtask test --context NAME`.
//!
//! A real cluster cannot reach the loopback addresses of the laptop cloud, and a bare control plane has no nodes at
//! all. So everything here is the cluster's own (API server, admission, RBAC with the orchestrator's own token, quota,
//! the Job controller, finalizers, garbage collection, TTL) but the kubelet: a stand-in of this process binds the
//! engines' Pods to a node of its own, runs the engine here, against the laptop cloud, and writes the Pods' status as
//! a kubelet does. Pods ask for a scheduler of our name, so that no other node takes them.
//!
//! What takes a real node, and is not covered: pulling images, probes, logs, the orchestrator as a Pod.
//!
//! Every world has namespaces of its own, all with one prefix; the verb takes away what is left of them.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contract::labels;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::KubeConfigOptions,
    runtime::watcher,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Names the context of the kubeconfig; without it the laptop cloud's own cluster is used.
const CONTEXT: &str = "DESKGRID_TEST_CONTEXT";
/// Prefix of everything that is made in that cluster.
const PREFIX: &str = "DESKGRID_TEST_PREFIX";
/// Who schedules the Pods of these tests: nobody but the stand-in.
const SCHEDULER: &str = "deskgrid-test";
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The real cluster that the tests were told of.
#[derive(Clone)]
pub(crate) struct Real {
    config: kube::Config,
    pub(crate) client: Client,
    prefix: String,
    world: usize,
}

impl Real {
    /// The cluster that the environment variables name.
    pub(crate) async fn named() -> Option<Self> {
        static WORLDS: AtomicUsize = AtomicUsize::new(0);
        let variables = contract::config::variables();
        let context = variables.get(CONTEXT).filter(|name| !name.is_empty())?.clone();
        let prefix = variables.get(PREFIX).cloned().unwrap_or_else(|| format!("dt{:04x}", std::process::id() & 0xffff));
        let options = KubeConfigOptions { context: Some(context), ..KubeConfigOptions::default() };
        let mut config = kube::Config::from_kubeconfig(&options).await.unwrap();
        config.default_retry = false;
        let client = Client::try_from(config.clone()).unwrap();
        Some(Self { config, client, prefix, world: WORLDS.fetch_add(1, Ordering::Relaxed) })
    }

    /// The namespace of a business of this world.
    pub(crate) fn namespace(&self, business: &str) -> String {
        format!("{}-{}-{business}", self.prefix, self.world)
    }

    fn node(&self) -> String {
        format!("{}-{}-node", self.prefix, self.world)
    }

    /// A client with the token of a service account, as a Pod has it.
    pub(crate) async fn client_of(&self, namespace: &str, account: &str) -> Client {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let wanted: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let given = accounts.create_token_request(account, &PostParams::default(), &wanted).await.unwrap();
        let mut config = self.config.clone();
        config.auth_info = kube::config::AuthInfo {
            token: Some(given.status.unwrap().token.into()),
            ..kube::config::AuthInfo::default()
        };
        Client::try_from(config).unwrap()
    }

    /// Has the Pods of a Job template scheduled by nobody but the stand-in.
    pub(crate) fn schedule(template: &mut Value) {
        template["spec"]["template"]["spec"]["schedulerName"] = SCHEDULER.into();
    }

    /// What the TTL controller does after a while: finished Jobs that nothing holds go.
    pub(crate) async fn expire_jobs(&self, namespace: &str) {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        for job in jobs.list(&ListParams::default()).await.unwrap() {
            let patch = Patch::Merge(json!({"spec": {"ttlSecondsAfterFinished": 0}}));
            // It may be gone already.
            let _ = jobs.patch(&job.name_any(), &PatchParams::default(), &patch).await;
        }
    }

    /// Takes everything of this world away.
    pub(crate) async fn clean(&self, namespaces: &[String]) {
        for name in namespaces {
            let jobs: Api<Job> = Api::namespaced(self.client.clone(), name);
            for job in jobs.list(&ListParams::default()).await.unwrap() {
                let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                let _ = jobs.patch(&job.name_any(), &PatchParams::default(), &patch).await;
            }
            let all: Api<Namespace> = Api::all(self.client.clone());
            let _ = all.delete(name, &DeleteParams::default()).await;
        }
        let nodes: Api<Node> = Api::all(self.client.clone());
        let _ = nodes.delete(&self.node(), &DeleteParams::default()).await;
    }
}

/// What the stand-in needs to run the engines of one namespace.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) namespace: String,
    pub(crate) engine: PathBuf,
    pub(crate) metadata: SocketAddr,
    pub(crate) folder: PathBuf,
}

/// Plays the kubelet for the engines of one namespace; ends when it is dropped, and the engines with it.
pub(crate) struct Kubelet(JoinHandle<()>);

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Kubelet {
    pub(crate) async fn start(real: &Real, ground: Ground) -> Self {
        let node = real.node();
        let nodes: Api<Node> = Api::all(real.client.clone());
        let wanted: Node = serde_json::from_value(json!({
            "metadata": {"name": node, "labels": {labels::MANAGED_BY: labels::MANAGED_BY_DESKGRID}},
            "spec": {"unschedulable": true, "taints": [{"key": "deskgrid.dev/test", "effect": "NoSchedule"}]},
        }))
        .unwrap();
        match nodes.create(&PostParams::default(), &wanted).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("create the node: {error}"),
        }
        beat(&nodes, &node).await;
        let client = real.client.clone();
        Self(tokio::spawn(async move {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &ground.namespace);
            let selector = watcher::Config::default().labels(&format!("{}={}", labels::APP, labels::APP_ENGINE));
            let mut events = std::pin::pin!(watcher(pods.clone(), selector));
            let mut running: HashMap<String, Running> = HashMap::new();
            let mut heartbeat = tokio::time::interval(HEARTBEAT);
            loop {
                let event = tokio::select! {
                    _ = heartbeat.tick() => {
                        beat(&nodes, &node).await;
                        continue;
                    }
                    event = events.next() => event,
                };
                match event {
                    Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                        handle(&client, &ground, &node, &pods, &mut running, pod).await;
                    }
                    Some(Ok(watcher::Event::Delete(pod))) => {
                        running.remove(&pod.uid().unwrap_or_default());
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        }))
    }
}

/// An engine under way; killed when it is dropped.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn beat(nodes: &Api<Node>, node: &str) {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status = json!({"status": {
        "capacity": {"cpu": "1000", "memory": "1000Gi", "pods": "10000"},
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "StandIn", "message": "plays a kubelet",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
    }});
    let _ = nodes.patch_status(node, &PatchParams::default(), &Patch::Merge(status)).await;
}

async fn handle(
    client: &Client,
    ground: &Ground,
    node: &str,
    pods: &Api<Pod>,
    running: &mut HashMap<String, Running>,
    pod: Pod,
) {
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    if pod.metadata.deletion_timestamp.is_some() {
        // The containers first, then the word that they have ended.
        running.remove(&uid);
        let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
        return;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if phase != "Pending" || running.contains_key(&uid) {
        return;
    }
    if pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_none() {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let request = http::Request::post(format!("/api/v1/namespaces/{}/pods/{name}/binding", ground.namespace))
            .header("content-type", "application/json")
            .body(binding.to_string().into_bytes())
            .unwrap();
        // It shows up again once it is bound.
        let _ = client.request::<Value>(request).await;
        return;
    }
    let (client, ground, pods) = (client.clone(), ground.clone(), pods.clone());
    running.insert(uid, Running(tokio::spawn(async move { run(&client, &ground, &pods, &pod).await })));
}

/// Runs the engine of a Pod and tells how it ended.
async fn run(client: &Client, ground: &Ground, pods: &Api<Pod>, pod: &Pod) {
    let name = pod.name_any();
    let folder = ground.folder.join(&name);
    std::fs::create_dir_all(&folder).unwrap();
    let config = config_file(client, ground).await;
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let value = match &variable.value {
            Some(value) => contract::expansion::unescape(value),
            // The only one that is not a plain value: the name of the pod.
            None => name.clone(),
        };
        variables.insert(variable.name.clone(), value);
    }
    let log = folder.join("termination-log");
    variables.insert(labels::ENV_CONFIG.into(), config.display().to_string());
    variables.insert(labels::ENV_WORK_DIR.into(), folder.display().to_string());
    variables.insert(labels::ENV_TERMINATION_LOG.into(), log.display().to_string());
    variables.insert("GCE_METADATA_HOST".into(), ground.metadata.to_string());
    let started = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let status = |phase: &str, state: Value| {
        let container = json!({
            "name": container.name, "image": container.image, "imageID": "", "ready": false, "restartCount": 0,
            "state": state,
        });
        json!({"status": {"phase": phase, "startTime": started, "containerStatuses": [container]}})
    };
    write(pods, &name, &status("Running", json!({"running": {"startedAt": started}}))).await;
    let ended = tokio::process::Command::new(&ground.engine)
        .env_clear()
        .envs(&variables)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .unwrap();
    let code = ended.code().unwrap_or(137);
    let message = std::fs::read_to_string(&log).unwrap_or_default();
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (phase, reason) = if code == 0 { ("Succeeded", "Completed") } else { ("Failed", "Error") };
    let terminated = json!({
        "exitCode": code, "reason": reason, "message": message, "startedAt": started, "finishedAt": now,
    });
    write(pods, &name, &status(phase, json!({"terminated": terminated}))).await;
}

/// Writes a Pod's status; a Pod that is gone needs none.
async fn write(pods: &Api<Pod>, name: &str, status: &Value) {
    for _ in 0..20 {
        match pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await {
            Ok(_) => return,
            Err(kube::Error::Api(answer)) if answer.code == 404 => return,
            Err(kube::Error::Api(answer)) if answer.code == 422 => panic!("status of {name}: {}", answer.message),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// The configuration as a file, as the ConfigMap's mount would show it.
async fn config_file(client: &Client, ground: &Ground) -> PathBuf {
    static LOCK: OnceLock<tokio::sync::Mutex<()>> = OnceLock::new();
    let _one = LOCK.get_or_init(Default::default).lock().await;
    let path = ground.folder.join("config.json");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &ground.namespace);
    let map = maps.get("deskgrid-config").await.unwrap();
    std::fs::create_dir_all(&ground.folder).unwrap();
    std::fs::write(&path, &map.data.unwrap()["config.json"]).unwrap();
    path
}

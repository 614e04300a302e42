//! Which pods run here: a worker for each pod that is bound to a node of this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    pod::{Halt, Pod, Switch},
    settings::{NodeSettings, Settings},
};
use crate::kubernetes::{
    cluster::Cluster,
    kinds, names,
    store::{Change, Key},
    value::{self, number, text},
};

/// The workers of all nodes of this process.
pub struct Workers {
    cluster: Arc<Cluster>,
    settings: Arc<Settings>,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    workers: HashMap<String, Worker>,
    /// No worker starts any more.
    closed: bool,
}

struct Worker {
    node: String,
    pod: Arc<Pod>,
    halt: Switch,
}

impl Workers {
    /// No pods yet.
    pub fn new(cluster: Arc<Cluster>, settings: Settings) -> Arc<Self> {
        Arc::new(Self { cluster, settings: Arc::new(settings), live: Mutex::default() })
    }

    /// Follows the pods until the cluster stops.
    pub async fn run(self: Arc<Self>, mut changes: mpsc::UnboundedReceiver<Change>) {
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = self.cluster.stop.cancelled() => return,
            };
            let Some(change) = change else { return };
            self.follow(&change);
        }
    }

    /// Kills every process of every pod at once and waits until they are gone. No status is written.
    pub async fn stop(&self) {
        self.lock().closed = true;
        self.halt_all(None);
        while !self.lock().workers.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.settings.reaper.stop();
    }

    /// A node dies: its processes are gone, its pods fail as disrupted and are removed, as is the node.
    pub fn kill_node(&self, node: &str) {
        self.halt_all(Some(node));
        let now = self.cluster.clock.now();
        self.cluster.store.write(|transaction| {
            transaction.remove(&Key { kind: &kinds::NODE, namespace: String::new(), name: node.to_owned() });
        });
        for pod in self.cluster.store.all(&kinds::POD, None) {
            if text(&pod, "/spec/nodeName") != node {
                continue;
            }
            let key = Key::of(&kinds::POD, &pod);
            self.cluster.store.write(|transaction| {
                transaction.edit(&key, |pod| {
                    let running = !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
                    if running {
                        value::list_at(pod, &["status", "conditions"]).push(json!({
                            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                            "message": "PodGC: node no longer exists", "lastTransitionTime": value::seconds(now),
                        }));
                        value::set(pod, &["status", "phase"], "Failed");
                    }
                    running
                });
            });
            let options = crate::kubernetes::delete::Options { grace: Some(0), ..Default::default() };
            if let Err(failure) = self.cluster.delete(&key, &options)
                && failure.code != 404
            {
                warn!(pod = key.name, "failed to delete the pod of a dead node: {failure}");
            }
        }
    }

    fn halt_all(&self, node: Option<&str>) {
        for worker in self.lock().workers.values().filter(|worker| node.is_none_or(|node| worker.node == node)) {
            worker.halt.send_replace(Some(Halt::new(Duration::ZERO, true)));
        }
    }

    fn follow(self: &Arc<Self>, change: &Change) {
        if change.kind != &kinds::POD {
            return self.refresh(change);
        }
        let pod = &change.object;
        let uid = value::uid(pod);
        let mut live = self.lock();
        if change.removed {
            match live.workers.get(uid) {
                Some(worker) => {
                    worker.halt.send_replace(Some(Halt::new(Duration::ZERO, true)));
                }
                None => self.clean(uid.to_owned()),
            }
            return;
        }
        if let Some(worker) = live.workers.get(uid) {
            if value::is_deleting(pod) {
                let grace = number(pod, "/metadata/deletionGracePeriodSeconds").unwrap_or_default();
                let grace = Duration::from_secs(u64::try_from(grace).unwrap_or_default());
                worker.halt.send_if_modified(|halt| {
                    let sooner = halt.is_none_or(|halt| grace < halt.grace);
                    if sooner {
                        *halt = Some(Halt::new(grace, false));
                    }
                    sooner
                });
            }
            return;
        }
        // The change may be an old one, of a pod whose life here is over: what counts is the pod as it is now.
        let key = Key::of(&kinds::POD, pod);
        let Some(pod) = &self.cluster.store.at(&key).filter(|now| value::uid(now) == uid) else { return };
        let node = text(pod, "/spec/nodeName");
        let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        if node.is_empty() || over || live.closed {
            return;
        }
        if value::is_deleting(pod) {
            self.cluster.finish_pod(&key, uid);
            return;
        }
        let halt = Switch::new(None);
        let new = Pod::new(self.cluster.clone(), self.settings.clone(), pod.clone(), halt.clone());
        let pod = Arc::new(new);
        live.workers.insert(uid.to_owned(), Worker { node: node.to_owned(), pod: pod.clone(), halt });
        drop(live);
        let workers = self.clone();
        self.cluster.tasks.spawn(async move {
            let (key, uid) = (pod.key.clone(), pod.uid.clone());
            pod.live().await;
            workers.ended(&key, &uid);
        });
    }

    /// Brings a changed ConfigMap or Secret to the pods that mount it.
    fn refresh(&self, change: &Change) {
        if change.old.is_none() || change.removed {
            return;
        }
        let namespace = value::namespace(&change.object);
        let pods: Vec<_> = self
            .lock()
            .workers
            .values()
            .filter(|one| one.pod.key.namespace == namespace)
            .map(|one| one.pod.clone())
            .collect();
        for pod in pods {
            pod.refresh(change.kind, value::name(&change.object));
        }
    }

    /// Nothing of the pod runs any more.
    fn ended(&self, key: &Key, uid: &str) {
        let silent =
            self.lock().workers.remove(uid).is_some_and(|worker| worker.halt.borrow().is_some_and(|halt| halt.silent));
        match self.cluster.store.at(key).filter(|pod| value::uid(pod) == uid) {
            Some(pod) if value::is_deleting(&pod) && !silent => self.cluster.finish_pod(key, uid),
            Some(_) => {}
            None => self.clean(uid.to_owned()),
        }
    }

    /// Removes the folder of a pod that is gone.
    fn clean(&self, uid: String) {
        if uid.is_empty() {
            return;
        }
        let folder = self.cluster.folder.join("pods").join(uid);
        self.cluster.tasks.spawn_blocking(move || {
            if let Err(error) = std::fs::remove_dir_all(&folder)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                warn!("failed to remove {}: {error}", folder.display());
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a node is there.
pub fn announce(cluster: &Cluster, node: &NodeSettings) {
    let now = value::seconds(cluster.clock.now());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut labels = json!({
        "kubernetes.io/hostname": node.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": architecture(),
        "topology.kubernetes.io/zone": "local",
    });
    for (key, text) in &node.labels {
        labels[key] = text.clone().into();
    }
    let room = json!({
        "cpu": node.cpu.to_string(), "memory": format!("{}Ki", node.memory_bytes / 1024), "pods": node.pods.to_string(),
        "ephemeral-storage": "1Ti",
    });
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    let object = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node.name, "uid": names::uid(), "creationTimestamp": now, "labels": labels},
        "spec": {"providerID": format!("deskgrid://{}", node.name)},
        "status": {
            "capacity": room, "allocatable": room,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": node.name},
            ],
            "nodeInfo": {
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": kernel.trim(),
                "osImage": "processes of this laptop", "containerRuntimeVersion": "process://1",
                "kubeletVersion": crate::kubernetes::discovery::VERSION, "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": architecture(),
            },
        },
    });
    cluster.store.write(|transaction| {
        let old = transaction.get(&kinds::NODE, "", &node.name);
        let mut object = object;
        if let Some(old) = old {
            for field in ["uid", "creationTimestamp"] {
                let kept = old.get("metadata").and_then(|metadata| metadata.get(field)).cloned().unwrap_or_default();
                value::set(&mut object, &["metadata", field], kept);
            }
        }
        transaction.put(&kinds::NODE, object);
    });
}

/// The machine's architecture as Kubernetes names it.
fn architecture() -> Value {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .into()
}

//! Google's part and a cluster together, for the verbs that reach both: every request of either comes through the same
//! fault points. The cluster has no nodes; a stand-in says of every pod that it runs, as a kubelet would.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{WatchStreamExt as _, watcher},
};
use localcloud::{
    faults::Faults,
    google::Google,
    identity::Target,
    kubernetes::{self, Kubernetes},
};
use provision::{
    Cloud, Environment, deploy,
    environment::{Overrides, parse},
    keys::{self, KeyUser},
    manifests::{Extras, Images, WebImages},
    plan,
};
use serde_json::{Value, json};

use crate::fixture::{self, PROJECT, Saved, client, lock, make, remove, silent};

/// Longest time for anything to begin, or to end.
const LIMIT: Duration = Duration::from_secs(30);
/// Who the stand-in looks at; no verb asks for the pods of all namespaces.
const ALL_PODS: &str = "/api/v1/pods";

/// The environment with these businesses, and keys.
pub(crate) fn environment(businesses: &[&str]) -> Environment {
    let businesses: String = businesses.iter().map(|name| format!("[businesses.{name}]\n")).collect();
    let text = format!("project = \"{PROJECT}\"\nlocation = \"europe-west1\"\nauth = \"key\"\n{businesses}");
    parse("e", "e.toml", &text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What is there at one moment, to begin from again.
pub(crate) struct Snapshot {
    google: Saved,
    version: u64,
    objects: Vec<(&'static kubernetes::kinds::Kind, Arc<Value>)>,
}

/// A cloud with its cluster.
pub(crate) struct Desk {
    pub(crate) google: Google,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) faults: Faults,
    kubelet: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Desk {
    pub(crate) async fn start(from: Option<&Snapshot>) -> Self {
        Self::start_on(from, |_| {}).await
    }

    /// On a cloud that is told of something.
    pub(crate) async fn start_on(from: Option<&Snapshot>, tell: impl FnOnce(&mut localcloud::google::Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let told = faults.clone();
        let google = fixture::google(move |options| {
            options.faults = told;
            tell(options);
        })
        .await;
        let saved = folder.path().join("kubernetes");
        if let Some(Snapshot { google: start, version, objects }) = from {
            start.load_into(&google);
            // As it is kept over a restart, so that its controllers begin with all of it.
            std::fs::create_dir_all(&saved).unwrap();
            let objects: Vec<&Value> = objects.iter().map(|(_, object)| object.as_ref()).collect();
            let text = json!({"version": version, "objects": objects}).to_string();
            std::fs::write(saved.join("objects.json"), text).unwrap();
        }
        let (users, rights) = (google.identity().clone(), google.identity().clone());
        let options = kubernetes::Options {
            google_user: Arc::new(move |token| {
                users.principal_of(token).ok().map(|(principal, _)| principal.member(users.pool()))
            }),
            google_allows: Arc::new(move |token, permission| {
                let project = Target::project(rights.project());
                rights.principal_of(token).is_ok_and(|(principal, _)| rights.allowed(&principal, permission, &project))
            }),
            nodes: vec![],
            faults: faults.clone(),
            persist: Some(saved),
            ..kubernetes::Options::new(folder.path().join("cluster"))
        };
        let kubernetes = Kubernetes::start(options).await.unwrap();
        let kubelet = tokio::spawn(play_kubelet(client_of(&kubernetes).await));
        Self { google, kubernetes, faults, kubelet, folder }
    }

    /// A way to it, as each run of the program has one of its own.
    pub(crate) async fn cloud(&self) -> Cloud {
        Cloud { kubernetes: Ok(client_of(&self.kubernetes).await), ..fixture::cloud(client(&self.google)) }
    }

    /// How it is deployed.
    pub(crate) fn options(&self) -> deploy::Options {
        let image = |name: &str| format!("registry/{name}@sha256:{}", "0".repeat(64));
        deploy::Options {
            limit: LIMIT,
            // One of the web apps stands for both.
            extras: Extras { web: WebImages { monitor: Some(image("monitor")), client: None }, ..Extras::default() },
            ..deploy::Options::new(
                Images { orchestrator: image("orchestrator"), engine: image("engine") },
                self.folder.path().join("generated"),
            )
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let (version, objects) = self.kubernetes.cluster().store.snapshot();
        Snapshot { google: Saved::of(&self.google), version, objects }
    }

    /// The requests that were recorded, without the stand-in's.
    pub(crate) fn requests(&self) -> Vec<(String, String)> {
        let theirs = |path: &str| path == ALL_PODS || (path.contains("/pods/") && !path.ends_with("/log"));
        self.faults.take_record().into_iter().filter(|(_, path)| !theirs(path)).collect()
    }

    /// Everything that both hold, without what differs from run to run.
    pub(crate) fn world(&self) -> Value {
        let (_, objects) = self.kubernetes.cluster().store.snapshot();
        let objects = objects.iter().filter(|(kind, object)| {
            // The authority of each cluster is another one.
            OURS.contains(&kind.kind) && object["metadata"]["name"] != "kube-root-ca.crt"
        });
        let mut objects: Vec<Value> = objects.map(|(_, object)| settled(object)).collect();
        objects.sort_by_cached_key(|object| format!("{}{}", object["kind"], object["metadata"]));
        let named = objects.into_iter().map(|object| {
            let metadata = &object["metadata"];
            (format!("{} {}/{}", object["kind"], metadata["namespace"], metadata["name"]), object)
        });
        json!({"google": fixture::world(&self.google), "cluster": named.collect::<serde_json::Map<_, _>>()})
    }

    pub(crate) async fn stop(self) {
        self.kubelet.abort();
        let _ = self.kubelet.await;
        self.kubernetes.stop().await;
        self.google.stop().await;
        drop(self.folder);
    }
}

/// Kinds that verbs write.
const OURS: [&str; 9] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "Deployment",
    "Namespace",
    "Role",
    "RoleBinding",
    "Secret",
    "ServiceAccount",
];

/// An object without what the API server puts into it, and with keys as what they are at most: there.
fn settled(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| ["name", "namespace", "labels", "annotations", "finalizers"].contains(&key.as_str()));
    }
    if object["kind"] == "Secret" {
        let record = &mut object["metadata"]["annotations"]["deskgrid.dev/keys"];
        let keys: Value = serde_json::from_str(record.as_str().unwrap_or("null")).unwrap_or_default();
        *record = json!({"ours": keys["ours"].as_array().map(Vec::len), "making": keys["making"].is_object()});
        object["data"] = json!(object["data"].as_object().map(|data| data.keys().cloned().collect::<Vec<_>>()));
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove("deployment.kubernetes.io/revision");
    }
    if let Some(annotations) = object["spec"]["template"]["metadata"]["annotations"].as_object_mut() {
        annotations.remove("deskgrid.dev/key-id");
    }
    object
}

/// A client of its administrator.
pub(crate) async fn client_of(kubernetes: &Kubernetes) -> Client {
    let kubeconfig: Kubeconfig = serde_json::from_value(kubernetes.kubeconfig("default")).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Says of every pod that it runs, and removes those that are to end.
async fn play_kubelet(client: Client) {
    let all: Api<Pod> = Api::all(client.clone());
    let pods = watcher(all, watcher::Config::default()).default_backoff().applied_objects();
    let mut pods = std::pin::pin!(pods);
    while let Some(seen) = pods.next().await {
        let Ok(pod) = seen else { continue };
        let name = pod.metadata.name.clone().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
        } else if pod.status.and_then(|status| status.phase).as_deref() != Some("Running") {
            let conditions: Vec<Value> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
                .iter()
                .map(|kind| json!({"type": kind, "status": "True"}))
                .collect();
            let status = json!({"status": {"phase": "Running", "conditions": conditions}});
            let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await;
        }
    }
}

/// A verb that reaches the cluster too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Deploy,
    AddBusiness,
    RotateKeys,
    RemoveBusiness,
    Teardown,
}

impl Verb {
    pub(crate) const ALL: [Self; 5] =
        [Self::Deploy, Self::AddBusiness, Self::RotateKeys, Self::RemoveBusiness, Self::Teardown];

    /// Runs it as the command line does, under the lock.
    pub(crate) async fn run(self, desk: &Desk, cloud: &Cloud) -> anyhow::Result<()> {
        let (one, both) = (environment(&["bu1"]), environment(&["bu1", "bu2"]));
        let deploy = async |environment: &Environment, only: Option<&str>| {
            let only = only.map_or(deploy::Only::Everything, |business| deploy::Only::Business(business.to_owned()));
            let options = deploy::Options { only, ..desk.options() };
            let settings = lock("deploy");
            // The services are told of no ports, which are others each time.
            let cloud = &Cloud { endpoints: contract::config::Endpoints::default(), ..cloud.clone() };
            let work = async |_: &dyn Fn(&str)| {
                deploy::run(environment, cloud, &options, &(Arc::new(|_| {}) as deploy::Progress)).await
            };
            provision::locked::with_lock(environment, cloud, &settings, None, work).await
        };
        match self {
            Self::Deploy => {
                deploy(&one, None).await?;
            }
            Self::AddBusiness => {
                let look =
                    async || provision::plan_addition(&one, &both, cloud, plan::Options::default(), &silent()).await;
                make(&both, cloud, look).await?;
                deploy(&both, Some("bu2")).await?;
            }
            Self::RotateKeys => {
                let work = async |_: &dyn Fn(&str)| {
                    for user in KeyUser::all(&one) {
                        keys::rotate(&one, &user, cloud, (LIMIT, LIMIT), &|_| {}).await?;
                    }
                    Ok(())
                };
                provision::locked::with_lock(&one, cloud, &lock("rotate-keys"), None, work).await?;
            }
            Self::RemoveBusiness => remove(&both, Some(&one), cloud, true).await?,
            Self::Teardown => remove(&one, None, cloud, true).await?,
        }
        Ok(())
    }

    /// Brings about what has to be there before.
    pub(crate) async fn prepare(self, desk: &Desk) {
        let cloud = desk.cloud().await;
        provision(&cloud).await;
        let verbs: &[Self] = match self {
            Self::Deploy => &[],
            Self::AddBusiness | Self::RotateKeys | Self::Teardown => &[Self::Deploy],
            Self::RemoveBusiness => &[Self::Deploy, Self::AddBusiness],
        };
        for verb in verbs {
            verb.run(desk, &cloud).await.unwrap();
        }
    }
}

/// Provisions one business.
pub(crate) async fn provision(cloud: &Cloud) {
    let one = environment(&["bu1"]);
    let look = async || provision::make_plan(&one, cloud, plan::Options::default(), &silent()).await;
    make(&one, cloud, look).await.unwrap();
}

//! A cluster for a test, and waiting for what it comes to.

use std::{future::Future, path::Path, time::Duration};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, Config,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use localcloud::kubernetes::{Kubernetes, Options};
use serde_json::{Value, json};

/// Time limits are only safety nets.
const LIMIT: Duration = Duration::from_secs(30);

/// A running cluster with a namespace `bu1` and an image `sh`.
pub(crate) struct Lab {
    pub(crate) kubernetes: Kubernetes,
    pub(crate) client: Client,
    pub(crate) folder: tempfile::TempDir,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = Options::new(folder.path().join("kubernetes"));
        options.retry_base = Duration::from_millis(20);
        change(&mut options);
        Self::start(options, folder).await
    }

    pub(crate) async fn start(options: Options, folder: tempfile::TempDir) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubernetes = Kubernetes::start(options).await.unwrap();
        kubernetes.images().register("sh", Path::new("/bin/sh")).unwrap();
        let client = client(&kubernetes, kubernetes.admin_token(), "bu1").await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        if namespaces.get_opt("bu1").await.unwrap().is_none() {
            let namespace = serde_json::from_value(json!({"metadata": {"name": "bu1"}})).unwrap();
            namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        }
        Self { kubernetes, client, folder }
    }

    pub(crate) fn jobs(&self) -> Api<Job> {
        Api::default_namespaced(self.client.clone())
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// Creates a Job that runs a shell script, with changes to its spec.
    pub(crate) async fn job(&self, name: &str, script: &str, spec: Value) -> Job {
        self.jobs().create(&PostParams::default(), &job(name, script, spec)).await.unwrap()
    }

    /// Waits for a Job to be as `desired` says.
    pub(crate) async fn until_job(&self, name: &str, desired: impl Fn(&Job) -> bool) -> Job {
        let jobs = self.jobs();
        until(&format!("job {name}"), || async {
            let job = jobs.get(name).await.unwrap();
            if desired(&job) { Ok(job) } else { Err(format!("{:?}", job.status)) }
        })
        .await
    }

    pub(crate) async fn job_pods(&self, name: &str) -> Vec<Pod> {
        let list = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={name}"));
        self.pods().list(&list).await.unwrap().items
    }
}

/// A client with a token.
pub(crate) async fn client(kubernetes: &Kubernetes, token: &str, namespace: &str) -> Client {
    let config: Kubeconfig = serde_json::from_value(kubernetes.kubeconfig_for(token, namespace)).unwrap();
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    // What the server answers is what is tested.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// A Job that runs a shell script.
pub(crate) fn job(name: &str, script: &str, spec: Value) -> Job {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": {"app": "engine"}},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "sh", "command": ["/bin/sh", "-c", script]}],
        }}},
    });
    json_patch::merge(&mut job["spec"], &spec);
    serde_json::from_value(job).unwrap()
}

/// Tries until it is well.
pub(crate) async fn until<T, F: Future<Output = Result<T, String>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(why) if tokio::time::Instant::now() > end => panic!("waiting for {what}: {why}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Whether a Job has a condition that is true.
pub(crate) fn has(job: &Job, kind: &str) -> bool {
    conditions(job).iter().any(|(have, _)| have == kind)
}

/// The true conditions of a Job with their reasons.
pub(crate) fn conditions(job: &Job) -> Vec<(String, String)> {
    let all = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    all.filter(|one| one.status == "True")
        .map(|one| (one.type_.clone(), one.reason.clone().unwrap_or_default()))
        .collect()
}

/// Whether a process of this id is alive.
pub(crate) fn alive(id: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), None).is_ok()
}

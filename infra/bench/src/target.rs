//! A measured cluster with its orchestrator: the laptop cloud, whose orchestrator is a Deployment, or the cluster of a
//! context of the kubeconfig, whose orchestrator is a process on this machine.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use cli::{Context, error::Failure};
use contract::{
    config::{Business, variables},
    labels,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use inspect::{connect, kubeconfig};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use provision::{Environment, LocalState};
use serde_json::json;
use tokio::process::{Child, Command};

use super::load::AT_ONCE;
use xtask::context::{self, STATE_FILE};

/// Name of the orchestrator's Deployment, and its Pods' label `app`.
const ORCHESTRATOR: &str = "orchestrator";
/// Longest that an orchestrator takes to end; its grace period is half of it.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// An API server, a namespace in it, and the orchestrator that works there.
pub(super) struct Target {
    /// The API server.
    pub(super) client: Client,
    /// The namespace of the Jobs.
    pub(super) namespace: String,
    /// Added to the names of its rows; empty for the laptop cloud.
    pub(super) label: String,
    orchestrator: Orchestrator,
}

enum Orchestrator {
    /// A Deployment that the bench scales.
    Deployed(Api<Deployment>),
    /// A process that the bench starts.
    Here { program: PathBuf, variables: Vec<(&'static str, String)>, child: Option<Child> },
}

impl Target {
    /// The laptop cloud's cluster.
    ///
    /// # Errors
    /// When there is no client for it.
    pub(super) fn laptop(context: &Context, business: &Business) -> anyhow::Result<Self> {
        let client = context.cluster()?.clone();
        Ok(Self {
            orchestrator: Orchestrator::Deployed(Api::namespaced(client.clone(), &business.namespace)),
            namespace: business.namespace.clone(),
            label: String::new(),
            client,
        })
    }

    /// The cluster of a context of the kubeconfig, in a new namespace. The orchestrator of the business in the laptop
    /// cloud stops, and a process on this machine takes its messages.
    ///
    /// # Errors
    /// When the cluster does not answer, or the settings of the laptop's orchestrator cannot be read.
    pub(super) async fn real(
        context: &Context,
        environment: &Environment,
        business: &Business,
        name: &str,
        program: &Path,
    ) -> anyhow::Result<Self> {
        Self::laptop(context, business)?.run(false).await?;
        let mut kubeconfig = kubeconfig::read_needed(&variables()).map_err(|error| no_cluster(name, &error))?;
        kubeconfig.current_context = Some(name.to_owned());
        let config = connect::of_kubeconfig(kubeconfig.clone(), Some(name), &variables()).await;
        let mut config = config.map_err(|error| no_cluster(name, &error))?;
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| no_cluster(name, &error))?;
        let namespace = format!("{}-{}", business.name, environment.name);
        let kubeconfig = serde_json::to_string(&kubeconfig).context("encode the kubeconfig")?;
        let variables = orchestrator_variables(context, environment, business, &namespace, &kubeconfig, 0).await?;
        create_namespace(&client, &namespace).await.map_err(|error| no_cluster(name, &error))?;
        let orchestrator = Orchestrator::Here { program: program.to_owned(), variables, child: None };
        Ok(Self { client, namespace, label: format!(" on the API server of {name}"), orchestrator })
    }

    /// The Jobs of the namespace.
    pub(super) fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Starts the orchestrator, without waiting until it works, or stops it, and waits until it has ended.
    ///
    /// # Errors
    /// When the Deployment cannot be scaled, or the process cannot be started.
    pub(super) async fn run(&mut self, runs: bool) -> anyhow::Result<()> {
        match &mut self.orchestrator {
            Orchestrator::Deployed(deployments) => {
                let patch = Patch::Merge(json!({"spec": {"replicas": u32::from(runs)}}));
                let scaled = deployments.patch(ORCHESTRATOR, &PatchParams::default(), &patch).await;
                scaled.context("scale the orchestrator")?;
                if !runs {
                    wait_for_end(&self.client, &self.namespace).await?;
                }
                Ok(())
            }
            Orchestrator::Here { child, .. } if !runs => match child.take() {
                Some(mut running) => running.kill().await.context("stop the orchestrator"),
                None => Ok(()),
            },
            Orchestrator::Here { program, variables, child } => {
                if child.is_none() {
                    let mut command = Command::new(&*program);
                    command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
                    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
                    *child = Some(command.spawn().with_context(|| format!("start {}", program.display()))?);
                }
                Ok(())
            }
        }
    }

    /// Creates another namespace, whose name ends in `suffix`.
    ///
    /// # Errors
    /// When the API server refuses.
    pub(super) async fn create_namespace(&self, suffix: &str) -> anyhow::Result<String> {
        let name = format!("{}-{suffix}", self.namespace);
        create_namespace(&self.client, &name).await.context("create a namespace")?;
        Ok(name)
    }

    /// Deletes the namespaces of a cluster that the bench did not start.
    ///
    /// # Errors
    /// When something cannot be deleted.
    pub(super) async fn remove_namespaces(mut self) -> anyhow::Result<()> {
        self.run(false).await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in namespaces.list(&ListParams::default()).await.context("list the namespaces")? {
            let name = namespace.name_any();
            if name != self.namespace && !name.starts_with(&format!("{}-", self.namespace)) {
                continue;
            }
            let jobs: Api<Job> = Api::namespaced(self.client.clone(), &name);
            let names: Vec<String> = jobs
                .list_metadata(&ListParams::default())
                .await
                .context("list Jobs")?
                .iter()
                .map(|j| j.name_any())
                .collect();
            let jobs = &jobs;
            stream::iter(names)
                .map(|name| async move {
                    // Its orchestrator does not run any more, so nobody else removes the finalizer.
                    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                    jobs.patch_metadata(&name, &PatchParams::default(), &patch).await.map(drop)
                })
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await
                .context("remove the finalizers of Jobs")?;
            namespaces.delete(&name, &DeleteParams::default()).await.context("delete a namespace")?;
        }
        Ok(())
    }
}

/// Environment variables of an orchestrator that runs on this machine, serves its probes on `port`, and works with the
/// settings of the deployed one.
///
/// # Errors
/// When the settings cannot be read from the cluster, or not be written to files.
pub(super) async fn orchestrator_variables(
    context: &Context,
    environment: &Environment,
    business: &Business,
    namespace: &str,
    kubeconfig: &str,
    port: u16,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let config_maps: Api<ConfigMap> = Api::namespaced(context.cluster()?.clone(), &business.namespace);
    let settings = config_maps.get("deskgrid-config").await.context("read the settings of the orchestrator")?;
    let settings = settings.data.unwrap_or_default();
    let folder = context::generated(environment);
    let state = LocalState::read(&folder.join(STATE_FILE))?;
    let write = |name: &str, text: &str| {
        let path = folder.join(format!("here-{name}"));
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        anyhow::Ok(path.display().to_string())
    };
    Ok(vec![
        (labels::ENV_CONFIG, write("config.json", settings.get("config.json").context("read the configuration")?)?),
        (labels::ENV_JOB_TEMPLATE, write("job.json", settings.get("job.json").context("read the Job template")?)?),
        (labels::ENV_BUSINESS, business.name.clone()),
        (labels::ENV_NAMESPACE, namespace.to_owned()),
        (labels::ENV_PORT_HTTP, port.to_string()),
        ("KUBECONFIG", write("kubeconfig", kubeconfig)?),
        ("GOOGLE_APPLICATION_CREDENTIALS", state.credentials.display().to_string()),
    ])
}

/// Waits until the Pods of the orchestrator are gone, so that none of them receives messages any more.
async fn wait_for_end(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("{}={ORCHESTRATOR}", labels::APP));
    let started = Instant::now();
    while !pods.list_metadata(&ours).await.context("list Pods")?.items.is_empty() {
        if started.elapsed() > ENDS_WITHIN {
            bail!("the orchestrator has not ended after {} s", ENDS_WITHIN.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn create_namespace(client: &Client, name: &str) -> Result<(), kube::Error> {
    let namespace: Namespace = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {labels::MANAGED_BY: labels::MANAGED_BY_DESKGRID}},
    }))
    .map_err(kube::Error::SerdeError)?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.map(drop)
}

fn no_cluster(name: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new("no-cluster", "the cluster does not answer")
        .on(format!("context {name} of the kubeconfig"))
        .why(format!("{error:#}"))
        .next("kubectl config get-contexts")
}

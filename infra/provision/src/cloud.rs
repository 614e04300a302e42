//! The way to one environment's cloud: Google's own, or the laptop cloud whose state file says where it is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use cloud::{clients, proxy::HTTPS_PROXY};
use contract::config::variables;
use inspect::connect;
use kube::config::Kubeconfig;
use serde::{Deserialize, Serialize};

use crate::{
    environment::{CloudKind, Environment},
    google::{self, Client},
    kinds::{Phase, cluster},
    kubeconfig,
};

/// What a running laptop cloud says of itself, in its state file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalState {
    /// Environment it serves.
    pub environment: String,
    /// Process that serves it.
    pub pid: u32,
    /// Where its APIs are.
    pub endpoints: LocalEndpoints,
    /// Credentials of the person at the laptop, in the form of Application Default Credentials.
    pub credentials: PathBuf,
    /// Kubeconfig of its cluster.
    pub kubeconfig: PathBuf,
    /// Environment variables with which `kubectl`, `gcloud` and `gsutil` reach this cloud.
    #[serde(default)]
    pub tools: BTreeMap<String, String>,
}

/// The context of a laptop cloud's cluster in its kubeconfig; `gcloud container clusters get-credentials` puts others
/// beside it.
pub const LOCAL_CONTEXT: &str = "local";

const NO_CLUSTER: &str = "it does not exist";

/// Where the APIs of a laptop cloud are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalEndpoints {
    /// Google's APIs.
    #[serde(flatten)]
    pub google: google::Endpoints,
    /// The Kubernetes API server, `https://…`.
    pub kubernetes: String,
}

impl LocalState {
    /// Reads a state file.
    ///
    /// # Errors
    /// When it cannot be read or is not one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("read the state of the laptop cloud {}", path.display());
        let text = std::fs::read_to_string(path).with_context(context)?;
        serde_json::from_str(&text).with_context(context)
    }

    /// The same laptop cloud with the emulators that these variables name in the place of its parts.
    ///
    /// # Errors
    /// When a variable names no address on this machine.
    pub fn with_emulators(mut self, variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        if let Some(endpoint) = clients::emulator(variables, clients::PUBSUB_EMULATOR_HOST)? {
            self.endpoints.google.pubsub = endpoint;
        }
        if let Some(endpoint) = clients::emulator(variables, clients::STORAGE_EMULATOR_HOST)? {
            self.endpoints.google.storage = endpoint;
        }
        Ok(self)
    }

    /// Writes a state file, so that a reader sees all of it or none.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("write the state of the laptop cloud {}", path.display());
        let text = serde_json::to_string_pretty(self).with_context(context)?;
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, path)).with_context(context)
    }
}

/// Clients for one environment.
#[derive(Clone)]
pub struct Cloud {
    /// Google's REST APIs.
    pub google: Client,
    /// The cluster, or why there is no way to it (yet).
    pub kubernetes: Result<kube::Client, String>,
    /// The API server that `kubernetes` is a client of, on Google Cloud.
    pub server: Option<contract::config::Cluster>,
    /// Endpoints for the configuration of the services.
    pub endpoints: contract::config::Endpoints,
}

impl Cloud {
    /// Connects to the cloud of an environment; `state` is that of the running laptop cloud, for `cloud = "local"`.
    ///
    /// On Google Cloud nothing is sent yet: [`Cloud::find_cluster`] makes the client for the cluster.
    ///
    /// # Errors
    /// When the environment is local and there is no laptop cloud, or credentials or kubeconfig cannot be read.
    pub async fn connect(environment: &Environment, state: Option<LocalState>) -> anyhow::Result<Self> {
        match (environment.cloud, state) {
            (CloudKind::Google, _) => {
                let google = Client::new(google::Endpoints::default(), clients::default_credentials()?)?
                    .through(&environment.network)?
                    .counted_in(&environment.project)?;
                let endpoints = contract::config::Endpoints::default();
                Ok(Self { google, kubernetes: Err(NO_CLUSTER.to_owned()), server: None, endpoints })
            }
            (CloudKind::Local, None) => {
                anyhow::bail!(
                    "there is no laptop cloud for environment {}; run `cargo xtask local up`",
                    environment.name
                )
            }
            (CloudKind::Local, Some(state)) => {
                let credentials = google::file_credentials(&state.credentials)?;
                let endpoints = contract::config::Endpoints {
                    pubsub: Some(state.endpoints.google.pubsub.clone()),
                    storage: Some(state.endpoints.google.storage.clone()),
                };
                let google = Client::new(state.endpoints.google, credentials)?.counted_in(&environment.project)?;
                let context = || format!("use the kubeconfig {}", state.kubeconfig.display());
                let kubeconfig = Kubeconfig::read_from(&state.kubeconfig).with_context(context)?;
                let kubernetes = Ok(of_context(kubeconfig, LOCAL_CONTEXT).await.with_context(context)?);
                Ok(Self { google, kubernetes, server: None, endpoints })
            }
        }
    }
}

impl Cloud {
    /// Pub/Sub and Cloud Storage as the services reach them, with the same credentials.
    pub fn connection(&self) -> cloud::clients::Connection {
        cloud::clients::Connection::with_credentials(&self.endpoints, self.google.credentials().clone())
    }

    /// The same cloud with the cluster of a context of the usual kubeconfig in the place of its own.
    pub async fn with_context(mut self, name: &str) -> Self {
        let client = async { of_context(inspect::kubeconfig::read_needed(&variables())?, name).await };
        self.kubernetes = client.await.map_err(|error| format!("{error:#}"));
        self
    }

    /// The same cloud with the environment's cluster on Google Cloud, if it exists, reached with the same login: the
    /// container API says where it is.
    pub async fn find_cluster(mut self, environment: &Environment) -> Self {
        let client = async {
            let id = cluster::id(environment);
            let live = self.google.send_optional(&id.read(&serde_json::Value::Null)).await;
            let live = live.with_context(|| format!("read the {id}"))?;
            let stays = |live: &serde_json::Value| (id.rules().phase)(&id, live) != Phase::Deleting;
            let live = live.filter(stays).context(NO_CLUSTER)?;
            let server = kubeconfig::server(environment, &live).context("it has no address yet")?;
            let mut variables = variables();
            if let Some(proxy) = &environment.network.proxy {
                variables.insert(HTTPS_PROXY.to_owned(), proxy.clone());
            }
            let config = connect::of_cluster(&server, &variables).await?;
            anyhow::Ok((connect::with_google_token(config, self.google.credentials().clone())?, server))
        };
        match client.await {
            Ok((client, server)) => (self.kubernetes, self.server) = (Ok(client), Some(server)),
            Err(error) => self.kubernetes = Err(format!("{error:#}")),
        }
        self
    }

    /// The same cloud, acting in the place of a service account.
    ///
    /// # Errors
    /// When the email is none of a service account.
    pub fn standing_for(self, email: &str) -> anyhow::Result<Self> {
        let credentials = google::impersonated(&self.google, email)?;
        Ok(Self { google: self.google.acting_as(credentials), ..self })
    }

    /// The cluster.
    ///
    /// # Errors
    /// When there is no way to it; says why and what to do.
    pub fn cluster(&self) -> anyhow::Result<&kube::Client> {
        self.kubernetes
            .as_ref()
            .map_err(|why| anyhow::anyhow!("there is no way to the cluster: {why}; run `cargo xtask provision`"))
    }
}

/// A client for a context, as its kubeconfig says.
async fn of_context(kubeconfig: Kubeconfig, name: &str) -> anyhow::Result<kube::Client> {
    let config = connect::of_kubeconfig(kubeconfig, Some(name), &variables()).await?;
    kube::Client::try_from(config).context("set up the Kubernetes client")
}

#[cfg(test)]
mod tests;

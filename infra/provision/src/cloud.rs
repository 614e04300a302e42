//! The way to one environment's cloud: Google's own, or the laptop cloud whose state file says where it is.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    environment::{CloudKind, Environment},
    google::{self, Client},
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
}

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
    /// The cluster; none where there is no way to it yet.
    pub kubernetes: Option<kube::Client>,
    /// Endpoints that the services must be told of.
    pub endpoints: common::config::Endpoints,
}

impl Cloud {
    /// Connects to the cloud of an environment; `state` is that of the running laptop cloud, for `cloud = "local"`.
    ///
    /// On Google Cloud the cluster is the current context of the usual kubeconfig. Nothing is sent yet.
    ///
    /// # Errors
    /// When the environment is local and there is no laptop cloud, or credentials or kubeconfig cannot be read.
    pub async fn connect(environment: &Environment, state: Option<LocalState>) -> anyhow::Result<Self> {
        match (environment.cloud, state) {
            (CloudKind::Google, _) => {
                let google = Client::new(google::Endpoints::default(), google::default_credentials()?)?;
                // Before the cluster exists there is no context for it.
                let kubernetes = kube::Client::try_default().await.ok();
                Ok(Self { google, kubernetes, endpoints: common::config::Endpoints::default() })
            }
            (CloudKind::Local, None) => {
                anyhow::bail!(
                    "there is no laptop cloud for environment {}; run `cargo xtask local up`",
                    environment.name
                )
            }
            (CloudKind::Local, Some(state)) => {
                let credentials = google::file_credentials(&state.credentials)?;
                let endpoints = common::config::Endpoints {
                    pubsub: Some(state.endpoints.google.pubsub.clone()),
                    storage: Some(state.endpoints.google.storage.clone()),
                };
                let google = Client::new(state.endpoints.google, credentials)?;
                let kubernetes = Some(kubernetes(&state.kubeconfig).await?);
                Ok(Self { google, kubernetes, endpoints })
            }
        }
    }
}

async fn kubernetes(kubeconfig: &Path) -> anyhow::Result<kube::Client> {
    let context = || format!("use the kubeconfig {}", kubeconfig.display());
    let parsed = kube::config::Kubeconfig::read_from(kubeconfig).with_context(context)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(parsed, &options).await.with_context(context)?;
    kube::Client::try_from(config).with_context(context)
}

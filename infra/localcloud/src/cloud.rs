//! The laptop cloud as one thing: Google's part and the cluster, wired together.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::Write as _,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    clock::Clock,
    container,
    faults::Faults,
    google::{self, Google},
    kubernetes::{self, Kubernetes},
};

mod ports;

use ports::Ports;

/// How a laptop cloud is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for everything it writes: credentials, pods, images. Made if absent.
    pub folder: PathBuf,
    /// Project id it pretends to be.
    pub project: String,
    /// Location it pretends to be in.
    pub location: String,
    /// Folder that its data survives in; nothing survives without one.
    pub data: Option<PathBuf>,
    /// Program and arguments of the process that kills what a killed laptop cloud leaves behind
    /// (see [`crate::node::reaper`]).
    pub reaper: Option<Vec<OsString>>,
    /// Environment variables of every container.
    pub variables: Vec<(String, String)>,
    /// Clock.
    pub clock: Clock,
}

/// A running laptop cloud.
pub struct LocalCloud {
    /// Pub/Sub, Cloud Storage, IAM and the rest of Google's part.
    pub google: Arc<Google>,
    /// The cluster.
    pub kubernetes: Kubernetes,
    /// Clock of both.
    pub clock: Clock,
    folder: PathBuf,
    faults: Faults,
}

/// Project number of every laptop cloud.
pub const PROJECT_NUMBER: u64 = 100_000_000_001;
/// Who owns the project.
pub const OPERATOR: &str = "operator@deskgrid.example";

impl LocalCloud {
    /// Starts everything on free loopback ports, or on those that are kept with its data.
    ///
    /// # Errors
    /// When a folder or a port cannot be used.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        Self::start_with(options, |_| {}).await
    }

    /// As [`LocalCloud::start`]; `change` changes the options of Google's part.
    ///
    /// # Errors
    /// As [`LocalCloud::start`].
    pub async fn start_with(options: Options, change: impl FnOnce(&mut google::Options)) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&options.folder)
            .with_context(|| format!("make the folder {}", options.folder.display()))?;
        let faults = Faults::default();
        let data = options.data.clone();
        let kept = data.as_deref().map(Ports::read).transpose()?.unwrap_or_default();
        let mut google = google::Options {
            ports: kept.google,
            faults: faults.clone(),
            clock: options.clock.clone(),
            project_number: PROJECT_NUMBER,
            location: options.location,
            operator: OPERATOR.to_owned(),
            persist: options.data.as_ref().map(|data| data.join("google")),
            ..google::Options::new(&options.project)
        };
        change(&mut google);
        let taken = |error| ports::explain_taken(error, data.as_deref());
        let google = Google::start(google).await.map_err(taken).context("start Google's part of the laptop cloud")?;
        let google = Arc::new(google);
        let (users, permissions) = (google.clone(), google.clone());
        let (metadata, clusters) = (google.clone(), google.clone());
        let kubernetes = Kubernetes::start(kubernetes::Options {
            clock: options.clock.clone(),
            google_user: Arc::new(move |token| users.user_of_access_token(token)),
            google_allows: Arc::new(move |token, permission| permissions.token_allows(token, permission)),
            extra_env: options.variables,
            metadata: Arc::new(move |request| {
                let google = metadata.clone();
                Box::pin(async move {
                    let address = google
                        .metadata_address(&request.namespace, &request.service_account, request.google_account)
                        .await?;
                    Ok(Some(address))
                })
            }),
            persist: options.data.as_ref().map(|data| data.join("kubernetes")),
            reaper: options.reaper,
            faults: faults.clone(),
            listen: (Ipv4Addr::LOCALHOST, kept.kubernetes).into(),
            is_autopilot: Arc::new(move || clusters.container().is_autopilot()),
            ..kubernetes::Options::new(options.folder.join("cluster"))
        })
        .await
        .map_err(taken)
        .context("start the laptop cloud's cluster")?;
        if let Some(data) = &data {
            Ports { google: google.ports(), kubernetes: kubernetes.address().port() }.write(data)?;
        }
        let (endpoint, ca_pem) = (kubernetes.address().to_string(), kubernetes.ca_pem().to_owned());
        google.container().attach(container::Access { endpoint, ca_pem });
        Ok(Self { google, kubernetes, clock: options.clock, folder: options.folder, faults })
    }

    /// What goes wrong in front of its APIs; nothing until a point is added.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Writes the owner's credentials into its folder, and returns where everything is: the state file that
    /// the provisioner reads. `namespace` is the one that the kubeconfig begins in.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn describe(&self, environment: &str, namespace: &str) -> anyhow::Result<Value> {
        let endpoints = self.google.endpoints();
        let credentials = self.folder.join("credentials.json");
        let kubeconfig = self.folder.join("kubeconfig");
        forget_tokens(&self.folder)?;
        let mut tools: BTreeMap<_, _> = self.google.write_tools(&self.folder)?.into_iter().collect();
        tools.insert("KUBECONFIG", kubeconfig.display().to_string());
        write_private(&kubeconfig, &serde_json::to_string_pretty(&self.kubernetes.kubeconfig(namespace))?)?;
        let mut all = serde_json::to_value(&endpoints)?;
        all["kubernetes"] = self.kubernetes.url().into();
        Ok(json!({
            "environment": environment,
            "pid": std::process::id(),
            "endpoints": all,
            "credentials": credentials,
            "kubeconfig": kubeconfig,
            "tools": tools,
        }))
    }

    /// Stops everything: ends every container, closes every port, saves what is to survive.
    pub async fn stop(&self) {
        self.kubernetes.stop().await;
        self.google.stop().await;
    }
}

/// Removes what `gcloud`, `gsutil` and its plugin for `kubectl` keep of the tokens of a laptop cloud that ran here
/// before: they would send them until those expire.
fn forget_tokens(folder: &Path) -> anyhow::Result<()> {
    for name in ["gcloud/access_tokens.db", "gsutil/credstore", "gsutil/credstore2", "gke_gcloud_auth_plugin_cache"] {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes a file that only this user can read.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("write {}", path.display());
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)
}

#[cfg(test)]
mod tests;

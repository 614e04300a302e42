//! What a verb needs of its environment: configuration, credentials, clients.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use common::{
    clients::{self, Connection},
    config::{Business, Config, Endpoints, variables},
    storage::Store,
};
use google_cloud_auth::credentials::{Credentials, service_account, user_account};
use kube::config::{KubeConfigOptions, Kubeconfig};
use provision::environment::{self, Environment};
use serde::Deserialize;

use crate::{args::Globals, error::Failure};

/// Where everything generated for an environment is, below the root of the workspace.
const GENERATED: &str = "infra/generated";
/// Where the environments are, below the root of the workspace.
const ENVIRONMENTS: &str = "infra/environments";
/// Scope of every call.
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Most a request to the cluster may take. Log streams have their own.
const CLUSTER_READ: std::time::Duration = std::time::Duration::from_secs(30);
const CLUSTER_CONNECT: std::time::Duration = std::time::Duration::from_secs(5);

/// An environment with the clients for it.
pub(crate) struct Context {
    /// The generated configuration.
    pub(crate) config: Config,
    /// Where Pub/Sub and Cloud Storage are, with credentials.
    pub(crate) connection: Connection,
    /// Cloud Storage.
    pub(crate) store: Store,
    /// The cluster, or why it cannot be asked.
    pub(crate) cluster: Result<kube::Client, String>,
    /// How the person named the environment, to be repeated in advice: ` --env NAME` or nothing.
    pub(crate) flag: String,
}

/// What tells where the laptop cloud is.
#[derive(Debug, Deserialize)]
struct Laptop {
    #[serde(default)]
    endpoints: Endpoints,
    credentials: PathBuf,
    kubeconfig: PathBuf,
}

impl Context {
    /// Opens the environment that the command line names.
    ///
    /// # Errors
    /// When there is no such environment, it is not set up, or its credentials cannot be used.
    pub(crate) async fn open(globals: &Globals) -> anyhow::Result<Self> {
        let environment = load(globals)?;
        let folder = generated(&environment.name);
        let flag = globals.env.as_deref().map(|name| format!(" --env {name}")).unwrap_or_default();
        let path = folder.join("config.json");
        if !path.is_file() {
            return Err(not_set_up(&environment, &flag).why(format!("there is no {}", path.display())).into());
        }
        let mut config = Config::read(&path)?;
        let laptop = read_laptop(&folder.join("cloud.json"))?;
        let (connection, cluster) = match laptop {
            Some(laptop) => {
                // The running laptop cloud says where it is; a configuration may be from an earlier run of it.
                overlay(&mut config.endpoints, laptop.endpoints);
                let connection = Connection::with_credentials(&config.endpoints, credentials(&laptop.credentials)?);
                let cluster = cluster(Kubeconfig::read_from(&laptop.kubeconfig).ok(), None).await;
                (connection, cluster)
            }
            None if environment.cloud == environment::CloudKind::Local => {
                return Err(not_set_up(&environment, &flag).why("the laptop cloud is not running").into());
            }
            None => {
                let connection = Connection::new(&config.endpoints, &variables())?;
                let context = format!(
                    "gke_{}_{}_{}",
                    environment.project,
                    environment.cluster_location(),
                    environment.cluster.name
                );
                (connection, cluster(Kubeconfig::read().ok(), Some(context)).await)
            }
        };
        let store = Store::connect(&connection).await?;
        Ok(Self { config, connection, store, cluster, flag })
    }

    /// The one business that a verb works on: the one named, else the only one.
    ///
    /// # Errors
    /// When there is no such business, or several and none is named.
    pub(crate) fn business(&self, wanted: Option<&str>) -> anyhow::Result<&Business> {
        match self.businesses(wanted)?.as_slice() {
            [only] => Ok(only),
            several => {
                let names: Vec<&str> = several.iter().map(|business| business.name.as_str()).collect();
                Err(Failure::usage(format!("environment {} has several businesses", self.config.environment))
                    .why(format!("there is {}", names.join(", ")))
                    .next("name one with --business, or set BUSINESS_NAME")
                    .into())
            }
        }
    }

    /// The businesses that a verb shows: the one named, else all.
    ///
    /// # Errors
    /// When there is no such business.
    pub(crate) fn businesses(&self, wanted: Option<&str>) -> anyhow::Result<Vec<&Business>> {
        match wanted {
            Some(name) => match self.config.business(name) {
                Ok(business) => Ok(vec![business]),
                Err(error) => Err(Failure::usage(error.to_string()).into()),
            },
            None => Ok(self.config.businesses.values().collect()),
        }
    }

    /// The client for the cluster.
    ///
    /// # Errors
    /// Says why there is none.
    pub(crate) fn cluster(&self) -> anyhow::Result<&kube::Client> {
        self.cluster.as_ref().map_err(|why| {
            Failure::new("no-cluster", "cannot ask the cluster")
                .on(format!("environment {}", self.config.environment))
                .why(why.clone())
                .into()
        })
    }
}

/// The environment file that the command line names.
///
/// # Errors
/// When there is none of that name, or it has errors.
pub(crate) fn load(globals: &Globals) -> anyhow::Result<Environment> {
    let variables = variables();
    let directory = root().join(ENVIRONMENTS);
    let path = environment::locate(&directory, globals.env.as_deref()).map_err(|error| {
        Failure::usage(error.to_string()).next("name an environment with --env, or set DESKGRID_ENV")
    })?;
    environment::load(&path, &variables)
}

/// The folder of what is generated for an environment.
pub(crate) fn generated(environment: &str) -> PathBuf {
    root().join(GENERATED).join(environment)
}

/// The root of the workspace: where this program was built, if that still exists, else the nearest folder above the
/// current one that has environments, else the current one.
pub(crate) fn root() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    if let Some(root) = built.filter(|root| root.join(ENVIRONMENTS).is_dir()) {
        return root.to_owned();
    }
    let current = std::env::current_dir().unwrap_or_default();
    let above = current.ancestors().find(|folder| folder.join(ENVIRONMENTS).is_dir());
    above.map_or_else(|| current.clone(), Path::to_owned)
}

fn not_set_up(environment: &Environment, flag: &str) -> Failure {
    let verb = match environment.cloud {
        environment::CloudKind::Local => "local up",
        environment::CloudKind::Google => "provision",
    };
    Failure::new("not-set-up", format!("environment {} is not set up", environment.name))
        .next(format!("cargo xtask{flag} {verb}"))
}

fn read_laptop(path: &Path) -> anyhow::Result<Option<Laptop>> {
    match std::fs::read(path) {
        Ok(text) => {
            let laptop = serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
            Ok(Some(laptop))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn overlay(endpoints: &mut Endpoints, newer: Endpoints) {
    endpoints.pubsub = newer.pubsub.or(endpoints.pubsub.take());
    endpoints.storage = newer.storage.or(endpoints.storage.take());
}

/// Credentials from a file as `gcloud` writes it.
fn credentials(path: &Path) -> anyhow::Result<Credentials> {
    let context = || format!("read the credentials {}", path.display());
    let value: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).with_context(context)?).with_context(context)?;
    let built = match value["type"].as_str() {
        Some("authorized_user") => user_account::Builder::new(value).with_scopes([CLOUD_PLATFORM]).build(),
        Some("service_account") => service_account::Builder::new(value).build(),
        _ => return clients::default_credentials(),
    };
    built.with_context(|| format!("use the credentials {}", path.display()))
}

/// A client for a context of a kubeconfig (its current one when none is named), or why there is none.
async fn cluster(kubeconfig: Option<Kubeconfig>, context: Option<String>) -> Result<kube::Client, String> {
    let Some(kubeconfig) = kubeconfig else { return Err("there is no kubeconfig".to_owned()) };
    if let Some(name) = &context
        && !kubeconfig.contexts.iter().any(|known| known.name == *name)
    {
        return Err(format!(
            "the kubeconfig has no context {name}; `gcloud container clusters get-credentials` makes it"
        ));
    }
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let client = async {
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        config.connect_timeout = Some(CLUSTER_CONNECT);
        config.read_timeout = Some(CLUSTER_READ);
        // A person waits: a cluster that does not answer is said to be so, not asked 15 times.
        config.default_retry = false;
        anyhow::Ok(kube::Client::try_from(config)?)
    };
    client.await.map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_laptop_cloud_says_where_it_is() {
        let mut endpoints = Endpoints { pubsub: Some("http://a".into()), storage: Some("http://b".into()) };
        overlay(&mut endpoints, Endpoints { pubsub: Some("http://c".into()), storage: None });
        assert_eq!(endpoints, Endpoints { pubsub: Some("http://c".into()), storage: Some("http://b".into()) });
    }

    #[test]
    fn the_root_has_environments() {
        assert!(root().join(ENVIRONMENTS).join("local.toml").is_file());
    }
}

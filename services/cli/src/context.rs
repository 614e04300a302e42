//! An environment with the clients for it, as the daily verbs use it.

use std::path::Path;

use cloud::{
    clients::{Connection, check_credentials},
    queue,
    storage::Store,
};
use contract::config::{Business, Cluster, Config, variables};
use futures::future::BoxFuture;
use google_cloud_auth::credentials::Credentials;
use inspect::{connect, kubeconfig};
use kube::config::Kubeconfig;

use crate::{error::Failure, text};

/// How long a failing call is retried.
const RETRY_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
/// Longest time a cluster may take to accept a connection.
const CLUSTER_CONNECT: std::time::Duration = std::time::Duration::from_secs(5);

/// Opens the environment when a verb needs it; some verbs do not, and some check their arguments first.
pub struct Opener<'a>(Box<dyn Fn() -> BoxFuture<'a, anyhow::Result<Context>> + 'a>);

impl<'a> Opener<'a> {
    /// An opener that calls `open`.
    pub fn new(open: impl Fn() -> BoxFuture<'a, anyhow::Result<Context>> + 'a) -> Self {
        Self(Box::new(open))
    }

    /// Opens the environment.
    ///
    /// # Errors
    /// When the environment does not exist or is not set up, or its credentials cannot be used.
    pub async fn open(&self) -> anyhow::Result<Context> {
        (self.0)().await
    }
}

/// An environment with the clients for it.
#[derive(Clone)]
pub struct Context {
    /// The generated configuration.
    pub config: Config,
    /// Where Pub/Sub and Cloud Storage are, with credentials.
    pub connection: Connection,
    /// Cloud Storage.
    pub store: Store,
    /// The cluster, or why there is no client for it.
    pub cluster: Result<kube::Client, String>,
    /// The option that selects the environment, for commands in messages: ` --env NAME` or nothing.
    pub flag: String,
    /// It is a laptop cloud, where no change needs a confirmation.
    pub is_laptop: bool,
}

impl Context {
    /// An environment whose configuration and connection are known.
    ///
    /// # Errors
    /// When the client for Cloud Storage cannot be built.
    pub async fn new(
        config: Config,
        connection: Connection,
        cluster: Result<kube::Client, String>,
        flag: String,
        is_laptop: bool,
    ) -> anyhow::Result<Self> {
        let store = Store::connect_for(&connection, RETRY_LIMIT).await?;
        Ok(Self { config, connection, store, cluster, flag, is_laptop })
    }

    /// Opens the environment of a generated configuration with the application default credentials. The cluster is that
    /// of `context`, or the one on Google Cloud that the configuration names, or else that of the kubeconfig, or the one
    /// that this process runs in.
    ///
    /// # Errors
    /// When the configuration cannot be read, or the credentials cannot be used.
    pub async fn from_config(path: &Path, context: Option<&str>) -> anyhow::Result<Self> {
        let config = Config::read(path)?;
        let connection = Connection::for_people(&config.endpoints, &variables())?;
        check_credentials(&connection.storage_credentials()).await?;
        let cluster = match (&config.cluster, context) {
            (Some(server), None) => google_cluster(server, connection.storage_credentials()).await,
            (_, Some(_)) => cluster(kubeconfig::read_needed(&variables()), context).await,
            (None, None) => match (kubeconfig::read(&variables()), kube::Config::incluster()) {
                (Ok(Some(kubeconfig)), _) => cluster(Ok(kubeconfig), None).await,
                (Err(error), _) => Err(format!("{error:#}")),
                (Ok(None), Ok(inside)) => kube::Client::try_from(inside).map_err(|error| error.to_string()),
                (Ok(None), Err(_)) => {
                    Err("there is no kubeconfig, and this process does not run in a cluster".to_owned())
                }
            },
        };
        let flag = format!(" --config {}", text::shell(&path.display().to_string()));
        let is_laptop = config.endpoints.storage.is_some();
        Self::new(config, connection, cluster, flag, is_laptop).await
    }

    /// The business of this name; without a name, the only business.
    ///
    /// # Errors
    /// When there is no such business, or there are several and no name is given.
    pub fn business(&self, wanted: Option<&str>) -> anyhow::Result<&Business> {
        match self.businesses(wanted)?.as_slice() {
            [only] => Ok(only),
            [] => Err(Failure::new("no-business", format!("environment {} has no business", self.config.environment))
                .next(format!("cargo xtask{} add-business NAME", self.flag))
                .into()),
            several => {
                let names: Vec<&str> = several.iter().map(|business| business.name.as_str()).collect();
                Err(Failure::usage(format!("environment {} has several businesses", self.config.environment))
                    .why(format!("its businesses are {}", names.join(", ")))
                    .next("select one with --business or BUSINESS_NAME")
                    .into())
            }
        }
    }

    /// The business of this name; without a name, all businesses.
    ///
    /// # Errors
    /// When there is no such business.
    pub fn businesses(&self, wanted: Option<&str>) -> anyhow::Result<Vec<&Business>> {
        match wanted.filter(|name| !name.is_empty()) {
            Some(name) => match self.config.business(name) {
                Ok(business) => Ok(vec![business]),
                Err(error) => Err(Failure::usage(error.to_string()).into()),
            },
            None => Ok(self.config.businesses.values().collect()),
        }
    }

    /// Checks that messages to a business reach its orchestrator, before anything is uploaded for them.
    ///
    /// # Errors
    /// When its topic or its subscription is missing, or Pub/Sub does not answer.
    pub async fn check_queue(&self, business: &Business) -> anyhow::Result<()> {
        let missing = queue::missing_intake(&self.connection, business).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let why: Vec<String> = missing.iter().map(ToString::to_string).collect();
        Err(Failure::new("not-found", format!("{} cannot receive Jobs; nothing was sent", business.name))
            .on(format!("environment {}", self.config.environment))
            .why(why.join("\n"))
            .next(format!("cargo xtask{} provision", self.flag))
            .into())
    }

    /// The client for the cluster.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn cluster(&self) -> anyhow::Result<&kube::Client> {
        self.cluster.as_ref().map_err(|why| {
            Failure::new("no-cluster", "cannot reach the cluster")
                .on(format!("environment {}", self.config.environment))
                .why(why.clone())
                .into()
        })
    }
}

/// A client for a context of a kubeconfig, by default its current one, or why there is none.
pub async fn cluster(kubeconfig: anyhow::Result<Kubeconfig>, context: Option<&str>) -> Result<kube::Client, String> {
    let kubeconfig = kubeconfig.map_err(|error| format!("{error:#}"))?;
    if let Some(name) = context
        && !kubeconfig.contexts.iter().any(|known| known.name == *name)
    {
        return Err(format!("the kubeconfig has no context {name}; `kubectl config get-contexts` lists them"));
    }
    let client = async {
        let config = connect::of_kubeconfig(kubeconfig, context, &variables()).await?;
        anyhow::Ok(kube::Client::try_from(for_people(config))?)
    };
    client.await.map_err(|error| format!("{error:#}"))
}

/// A client for a cluster on Google Cloud with the login of everything else, or why there is none.
pub async fn google_cluster(server: &Cluster, credentials: Credentials) -> Result<kube::Client, String> {
    let client = async {
        let config = connect::of_cluster(server, &variables()).await?;
        connect::with_google_token(for_people(config), credentials)
    };
    client.await.map_err(|error| format!("{error:#}"))
}

/// A person waits: an error is reported at once, not after 15 retries.
fn for_people(mut config: kube::Config) -> kube::Config {
    config.connect_timeout = Some(CLUSTER_CONNECT);
    config.default_retry = false;
    config
}

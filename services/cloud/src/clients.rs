//! Google's clients, built with the endpoints and credentials of the configuration.

use std::{collections::BTreeMap, net::ToSocketAddrs as _, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use contract::config::{self, Endpoints};
use google_cloud_auth::{
    credentials::{Builder, Credentials, anonymous},
    errors::CredentialsError,
};
use google_cloud_gax::retry_policy::{RetryPolicy, RetryPolicyExt as _};
use google_cloud_pubsub::{
    client::{BasePublisher, Publisher, Subscriber, SubscriptionAdmin, TopicAdmin},
    retry_policy::RetryableErrors,
};
use http::Extensions;

use crate::{
    credentials::{SCOPES, renewing},
    gateway, key, login, retries,
};

/// Environment variable: the address of a Pub/Sub emulator. Google's clients in other languages read it too.
pub const PUBSUB_EMULATOR_HOST: &str = "PUBSUB_EMULATOR_HOST";
/// Environment variable: the address of a Cloud Storage emulator.
pub const STORAGE_EMULATOR_HOST: &str = "STORAGE_EMULATOR_HOST";

/// How long a message may wait for others that are published with it. The client's own 10 ms are longer than a warm pool
/// computes.
pub const PUBLISH_DELAY: Duration = Duration::from_millis(1);
/// Longest pause before a message is published again, as the client's own.
const PUBLISH_RETRY_FIRST: Duration = Duration::from_millis(100);
/// How long a message is published again, as the client's own.
const PUBLISH_RETRY_LIMIT: Duration = Duration::from_secs(600);
/// How long the check of credentials waits for a token.
const CREDENTIALS_WAIT: Duration = Duration::from_secs(5);

/// Makes aws-lc-rs the process's TLS provider. First thing in `main`.
///
/// # Errors
/// When another provider is installed already.
pub fn install_tls_provider() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is already installed"))
}

/// Endpoints and credentials of Pub/Sub and Cloud Storage.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Endpoints that replace Google's own.
    pub endpoints: Endpoints,
    pubsub: Credentials,
    storage: Credentials,
}

impl Connection {
    /// Application default credentials for both. A service with an emulator variable uses that endpoint, without
    /// credentials. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the default credentials are broken (a key file that does not exist), or when an emulator is not on
    /// loopback, since it would be called without credentials.
    pub fn new(endpoints: &Endpoints, variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        Self::with(endpoints, variables, || credentials(None))
    }

    /// As [`Connection::new`], with [`default_credentials`], whose tokens a cluster takes too.
    ///
    /// # Errors
    /// As [`Connection::new`].
    pub fn for_people(endpoints: &Endpoints, variables: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        Self::with(endpoints, variables, default_credentials)
    }

    fn with(
        endpoints: &Endpoints,
        variables: &BTreeMap<String, String>,
        default: impl FnOnce() -> anyhow::Result<Credentials>,
    ) -> anyhow::Result<Self> {
        let mut endpoints = endpoints.clone();
        let pubsub_emulator = emulator(variables, PUBSUB_EMULATOR_HOST)?;
        let storage_emulator = emulator(variables, STORAGE_EMULATOR_HOST)?;
        let default = match (&pubsub_emulator, &storage_emulator) {
            (Some(_), Some(_)) => anonymous::Builder::new().build(),
            _ => default()?,
        };
        let mut connection = Self { endpoints: endpoints.clone(), pubsub: default.clone(), storage: default };
        if let Some(endpoint) = pubsub_emulator {
            tracing::warn!(%endpoint, "using a Pub/Sub emulator, without credentials");
            endpoints.pubsub = Some(endpoint);
            connection.pubsub = anonymous::Builder::new().build();
        }
        if let Some(endpoint) = storage_emulator {
            tracing::warn!(%endpoint, "using a storage emulator, without credentials");
            endpoints.storage = Some(endpoint);
            connection.storage = anonymous::Builder::new().build();
        }
        connection.endpoints = endpoints;
        Ok(connection)
    }

    /// Uses the same credentials for both.
    pub fn with_credentials(endpoints: &Endpoints, credentials: Credentials) -> Self {
        Self { endpoints: endpoints.clone(), pubsub: credentials.clone(), storage: credentials }
    }

    /// Credentials for Cloud Storage.
    pub fn storage_credentials(&self) -> Credentials {
        self.storage.clone()
    }

    /// The endpoint for gRPC to Pub/Sub; `None` means Google's own.
    async fn pubsub_grpc(&self) -> anyhow::Result<Option<String>> {
        match &self.endpoints.pubsub {
            Some(endpoint) => Ok(Some(endpoint.clone())),
            None => gateway::endpoint().await,
        }
    }

    /// As [`Connection::pubsub_grpc`], for Cloud Storage.
    pub(crate) async fn storage_grpc(&self) -> anyhow::Result<Option<String>> {
        match &self.endpoints.storage {
            Some(endpoint) => Ok(Some(endpoint.clone())),
            None => gateway::endpoint().await,
        }
    }

    /// A client that publishes to any topic; one per process, since it owns the connections.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub async fn base_publisher(&self) -> anyhow::Result<BasePublisher> {
        let mut builder = BasePublisher::builder()
            .with_credentials(self.pubsub.clone())
            .with_grpc_subchannel_count(1)
            .with_retry_policy(publish_policy())
            .with_backoff_policy(retries::pauses(PUBLISH_RETRY_FIRST))
            .with_retry_throttler(retries::every_try());
        if let Some(endpoint) = self.pubsub_grpc().await? {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().await.context("build the Pub/Sub publisher")
    }

    /// A client that publishes to `topic` (`projects/P/topics/T`).
    ///
    /// # Errors
    /// When the client cannot be built.
    pub async fn publisher(&self, topic: &str) -> anyhow::Result<Publisher> {
        let mut builder = Publisher::builder(topic)
            .with_credentials(self.pubsub.clone())
            .with_grpc_subchannel_count(1)
            .with_retry_policy(publish_policy())
            .with_backoff_policy(retries::pauses(PUBLISH_RETRY_FIRST))
            .with_retry_throttler(retries::every_try())
            .set_delay_threshold(PUBLISH_DELAY);
        if let Some(endpoint) = self.pubsub_grpc().await? {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().await.context("build the Pub/Sub publisher")
    }

    /// A client that reads the settings of topics.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub async fn topic_admin(&self) -> anyhow::Result<TopicAdmin> {
        let mut builder = TopicAdmin::builder().with_credentials(self.pubsub.clone());
        if let Some(endpoint) = &self.endpoints.pubsub {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().await.context("build the client for topics")
    }

    /// A client that reads the settings of subscriptions.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub async fn subscription_admin(&self) -> anyhow::Result<SubscriptionAdmin> {
        let mut builder = SubscriptionAdmin::builder().with_credentials(self.pubsub.clone());
        if let Some(endpoint) = &self.endpoints.pubsub {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().await.context("build the client for subscriptions")
    }

    /// A client that pulls from any subscription.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub async fn subscriber(&self) -> anyhow::Result<Subscriber> {
        let mut builder = Subscriber::builder().with_credentials(self.pubsub.clone()).with_grpc_subchannel_count(1);
        if let Some(endpoint) = self.pubsub_grpc().await? {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().await.context("build the Pub/Sub subscriber")
    }
}

/// How failing calls to publish are tried again.
fn publish_policy() -> impl RetryPolicy {
    retries::Warning::new("Pub/Sub", RetryableErrors.with_time_limit(PUBLISH_RETRY_LIMIT))
}

/// Application default credentials with the scopes of Google Cloud and its clusters; a key is exchanged for access
/// tokens. They are renewed after a permanent failure, and when their file changes.
///
/// # Errors
/// When `GOOGLE_APPLICATION_CREDENTIALS` names a file that cannot be used.
pub fn default_credentials() -> anyhow::Result<Credentials> {
    credentials(Some(key::credentials))
}

/// The application default credentials; `of_key` makes those of a key file in the place of Google's library.
fn credentials(
    of_key: Option<fn(serde_json::Value) -> Result<Credentials, CredentialsError>>,
) -> anyhow::Result<Credentials> {
    let make = move || {
        let key = of_key.and_then(|make| Some((make, login::service_account_key(&config::variables())?)));
        let built = match key {
            Some((make, key)) => make(key),
            None => {
                let built = Builder::default().with_scopes(SCOPES).build();
                built.map_err(|error| CredentialsError::from_source(false, error))
            }
        };
        built.context("load the application default credentials")
    };
    renewing(Arc::new(make), login::named_file(&config::variables()))
}

/// Checks that there are credentials at all, and that they give a token. Each client by itself would retry for a minute
/// where none are found.
///
/// # Errors
/// When there are none, or they are refused for good.
pub async fn check_credentials(credentials: &Credentials) -> anyhow::Result<()> {
    let has_file = login::file(&config::variables()).is_some();
    match tokio::time::timeout(CREDENTIALS_WAIT, credentials.headers(Extensions::new())).await {
        Ok(Err(error)) if !has_file || !error.is_transient() => {
            Err(error).context("get a token with the application default credentials")
        }
        Err(_) if !has_file => Err(CredentialsError::from_msg(
            false,
            "there is no file with credentials, and no metadata server of Google Cloud answers",
        ))
        .context("find the application default credentials"),
        // What else fails is the network, which the first call reports.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The endpoint an emulator variable names (`HOST:PORT` or a URL), which must be on loopback; `None` when it is not
/// set.
///
/// # Errors
/// When it is no address, or an address of another machine: emulators are called without credentials.
pub fn emulator(variables: &BTreeMap<String, String>, name: &str) -> anyhow::Result<Option<String>> {
    let Some(value) = variables.get(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let host = value.strip_prefix("http://").unwrap_or(value).trim_end_matches('/');
    let addresses =
        host.to_socket_addrs().with_context(|| format!("{name}={value}: expected HOST:PORT of an emulator"))?;
    for address in addresses {
        if !address.ip().is_loopback() {
            bail!("{name}={value} is not on this machine ({address}); an emulator is called without credentials");
        }
    }
    Ok(Some(format!("http://{host}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(PUBSUB_EMULATOR_HOST.to_owned(), value.to_owned())])
    }

    #[test]
    fn an_emulator_is_on_loopback_or_refused() {
        assert_eq!(emulator(&BTreeMap::new(), PUBSUB_EMULATOR_HOST).unwrap(), None);
        for good in ["127.0.0.1:8085", "http://127.0.0.1:8085", "[::1]:8085"] {
            assert!(emulator(&variables(good), PUBSUB_EMULATOR_HOST).unwrap().unwrap().starts_with("http://"));
        }
        for bad in ["192.0.2.1:80", "127.0.0.1", "nonsense"] {
            assert!(emulator(&variables(bad), PUBSUB_EMULATOR_HOST).is_err(), "{bad}");
        }
    }
}

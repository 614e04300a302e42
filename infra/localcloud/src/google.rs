//! Google Cloud on loopback: Pub/Sub, Cloud Storage, IAM, Resource Manager, Service Usage, Kubernetes
//! Engine, Artifact Registry, Cloud Build, Monitoring, tokens, metadata servers.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    artifactregistry::{self, Registry},
    cloudbuild::{self, CloudBuild},
    container::{self, Container},
    identity::{
        self, Identity, Settings,
        metadata::{self, Pod},
        tokens,
    },
    monitoring::{self, Monitoring},
    pubsub::{self, Pubsub},
    serve::Server,
    storage::{self, Storage},
};

pub mod call;
pub mod error;
pub mod grpc;
mod options;
pub mod page;
pub mod persist;
mod saving;
mod tls;
mod tools;

pub use options::{Endpoints, Options, Ports};

/// A running Google Cloud.
#[derive(Debug)]
pub struct Google {
    options: Options,
    endpoints: Endpoints,
    identity: Arc<Identity>,
    pubsub: Arc<Pubsub>,
    storage: Arc<Storage>,
    container: Arc<Container>,
    registry: Arc<Registry>,
    builds: Arc<CloudBuild>,
    monitoring: Arc<Monitoring>,
    servers: [Server; 8],
    metadata: Mutex<HashMap<Pod, Server>>,
    store: Option<persist::Store>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Google {
    /// Starts it.
    ///
    /// # Errors
    /// When a port cannot be bound or saved state not be read.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let identity = Arc::new(Identity::new(Settings {
            clock: options.clock.clone(),
            project: options.project.clone(),
            number: options.project_number,
            operator: options.operator.clone(),
            allow_anonymous: options.allow_anonymous,
            strict_token_expiry: options.strict_token_expiry,
            lags: options.lags,
            constraints: options.constraints.clone(),
            unbilled: options.unbilled,
            quotas: options.quotas.clone(),
            no_default_network: options.no_default_network,
            neighbour: options.neighbour.clone(),
        }));
        let pubsub = Pubsub::new(identity.clone(), options.enforce_apis);
        let (location, enforce_apis) = (&options.location, options.enforce_apis);
        let storage = Storage::new(identity.clone(), pubsub.clone(), location, enforce_apis, options.write_rates);
        let container = Arc::new(Container::new(identity.clone(), options.enforce_apis, options.operations_take));
        let registry = Arc::new(Registry::new(identity.clone(), options.enforce_apis));
        let monitoring = Arc::new(Monitoring::new(identity.clone(), options.enforce_apis));
        let store = match &options.persist {
            None => None,
            Some(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
                let store = persist::Store {
                    folder: folder.clone(),
                    identity: identity.clone(),
                    pubsub: pubsub.clone(),
                    storage: storage.clone(),
                    container: container.clone(),
                    registry: registry.clone(),
                    monitoring: monitoring.clone(),
                };
                store.load()?;
                Some(store)
            }
        };
        let address = |port| SocketAddr::new(options.listen, port);
        let shared = Arc::new(OnceLock::new());
        let faulty = |router| options.faults.before(options.asked.before(router));
        let identity_server =
            Server::start(faulty(identity::rest::router(shared.clone())), address(options.ports.identity), None)
                .await?;
        let pubsub_server =
            Server::start(faulty(pubsub::rest::router(pubsub.clone())), address(options.ports.pubsub), None).await?;
        let storage_server =
            Server::start(faulty(storage::rest::router(storage.clone(), "http")), address(options.ports.storage), None)
                .await?;
        let secure = faulty(storage::rest::router(storage.clone(), "https"));
        let secure_server =
            Server::start(secure, address(options.ports.storage_tls), Some(tls::config(options.listen)?)).await?;
        let container_server =
            Server::start(faulty(container::rest::router(container.clone())), address(options.ports.container), None)
                .await?;
        let registry_router = faulty(artifactregistry::rest::router(registry.clone(), &options.location));
        let registry_server = Server::start(registry_router, address(options.ports.artifactregistry), None).await?;
        let builds = CloudBuild::new(
            identity.clone(),
            storage.clone(),
            registry.clone(),
            options.enforce_apis,
            options.operations_take,
        );
        let build_router = faulty(cloudbuild::rest::router(builds.clone()));
        let build_server = Server::start(build_router, address(options.ports.cloudbuild), None).await?;
        let monitoring_router = faulty(monitoring::router(monitoring.clone()));
        let monitoring_server = Server::start(monitoring_router, address(options.ports.monitoring), None).await?;
        let base = |server: &Server| format!("http://{}", server.address());
        let (identity_base, storage_base) = (base(&identity_server), base(&storage_server));
        storage.set_base(storage_base.clone());
        let _ = shared.set(identity::rest::Server {
            identity: identity.clone(),
            base: identity_base.clone(),
            enforce_apis: options.enforce_apis,
        });
        let endpoints = Endpoints {
            pubsub: base(&pubsub_server),
            storage: storage_base,
            storage_tls: format!("https://{}", secure_server.address()),
            iam: identity_base.clone(),
            iamcredentials: identity_base.clone(),
            cloudresourcemanager: identity_base.clone(),
            serviceusage: identity_base.clone(),
            container: base(&container_server),
            artifactregistry: base(&registry_server),
            cloudbuild: base(&build_server),
            orgpolicy: identity_base.clone(),
            cloudbilling: identity_base.clone(),
            compute: identity_base.clone(),
            cloudkms: identity_base.clone(),
            monitoring: base(&monitoring_server),
            oauth2: identity_base,
        };
        let google = Self {
            options,
            endpoints,
            identity,
            pubsub,
            storage,
            container,
            registry,
            builds,
            monitoring,
            servers: [
                identity_server,
                pubsub_server,
                storage_server,
                secure_server,
                container_server,
                registry_server,
                build_server,
                monitoring_server,
            ],
            metadata: Mutex::default(),
            store,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        if let Some(store) = google.store.clone() {
            google.tasks.spawn(saving::keep_saved(store, google.stop.clone()));
        }
        Ok(google)
    }

    /// Where everything is.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints.clone()
    }

    /// The ports that it listens on.
    pub fn ports(&self) -> Ports {
        let [identity, pubsub, storage, storage_tls, container, artifactregistry, cloudbuild, monitoring] =
            self.servers.each_ref().map(|server| server.address().port());
        Ports { identity, pubsub, storage, storage_tls, container, artifactregistry, cloudbuild, monitoring }
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Identities, for tests and for the other half of the laptop cloud.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Pub/Sub, to inspect it.
    pub fn pubsub(&self) -> &Arc<Pubsub> {
        &self.pubsub
    }

    /// Cloud Storage, to inspect it.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// Cloud Build, to set where programs come from.
    pub fn builds(&self) -> &Arc<CloudBuild> {
        &self.builds
    }

    /// Kubernetes Engine, to set where the Kubernetes is.
    pub fn container(&self) -> &Arc<Container> {
        &self.container
    }

    /// Saves everything into a folder, whether or not it is kept in one.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save_to(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        self.store(folder).save()
    }

    /// Adds what was saved into a folder to what is here, which is to be nothing yet.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn load_from(&self, folder: &Path) -> anyhow::Result<()> {
        self.store(folder).load()
    }

    fn store(&self, folder: &Path) -> persist::Store {
        persist::Store {
            folder: folder.to_owned(),
            identity: self.identity.clone(),
            pubsub: self.pubsub.clone(),
            storage: self.storage.clone(),
            container: self.container.clone(),
            registry: self.registry.clone(),
            monitoring: self.monitoring.clone(),
        }
    }

    /// An application default credentials file for the operator; its `token_uri` is here.
    pub fn operator_credentials(&self) -> Value {
        json!({
            "type": "authorized_user",
            "account": self.options.operator,
            "client_id": "local.apps.googleusercontent.com",
            "client_secret": "local",
            "refresh_token": tokens::OPERATOR_REFRESH,
            "quota_project_id": self.options.project,
            "token_uri": format!("{}/token", self.endpoints.oauth2),
            "universe_domain": "googleapis.com",
        })
    }

    /// An access token of the operator, good for an hour.
    pub fn operator_token(&self) -> String {
        self.identity.token(&self.identity.operator(), tokens::LIFETIME_SECS).unwrap_or_default()
    }

    /// Who a token stands for: `user:…`, `serviceAccount:…` or `principal://…`; none for a bad token.
    pub fn user_of_token(&self, token: &str) -> Option<String> {
        let (principal, _) = self.identity.principal_of(token).ok()?;
        Some(principal.member(self.identity.pool()))
    }

    /// As [`Self::user_of_token`], of an access token: GKE documents no other (cloud.google.com/kubernetes-engine/docs/
    /// how-to/api-server-authentication), so a JWT that a service account signed itself is refused.
    pub fn user_of_access_token(&self, token: &str) -> Option<String> {
        self.user_of_token(token).filter(|_| tokens::is_issued(token))
    }

    /// Whether the principal of an access token has a permission in the project.
    pub fn token_allows(&self, token: &str, permission: &str) -> bool {
        let target = crate::identity::Target::project(self.identity.project());
        let principal = self.identity.principal_of(token);
        principal.is_ok_and(|(principal, _)| self.identity.allowed(&principal, permission, &target))
    }

    /// Address of the metadata server of one Kubernetes service account, started when it is first asked for.
    /// `google_account` is the annotation `iam.gke.io/gcp-service-account`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn metadata_address(
        &self,
        namespace: &str,
        service_account: &str,
        google_account: Option<String>,
    ) -> anyhow::Result<SocketAddr> {
        let pod = Pod { namespace: namespace.to_owned(), account: service_account.to_owned(), google_account };
        let mut servers = self.metadata.lock().await;
        if let Some(server) = servers.get(&pod) {
            return Ok(server.address());
        }
        let location = self.options.location.clone();
        let server = metadata::serve(self.identity.clone(), pod.clone(), location, self.options.listen).await?;
        let address = server.address();
        servers.insert(pod, server);
        Ok(address)
    }

    /// Stops everything and saves once more.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.pubsub.stop().await;
        for server in &self.servers {
            server.stop().await;
        }
        for server in self.metadata.lock().await.values() {
            server.stop().await;
        }
        if let Some(store) = self.store.clone() {
            saving::save(store).await;
        }
    }
}

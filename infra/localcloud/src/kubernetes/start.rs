//! Starting and stopping a cluster.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    account_tokens::MOUNTED_SECS,
    autopilot::IsAutopilot,
    certs,
    cluster::Cluster,
    dns::NameServer,
    events::Recorder,
    kinds, persist, rbac,
    request::Target,
    server,
    signer::{ISSUER, Signer},
    store::Store,
    users::{self, GoogleAllows, GoogleUser, Tokens},
    value,
};
use crate::{
    clock::Clock,
    controllers,
    faults::Faults,
    node::{
        Workers, autoscaler,
        images::Images,
        logs::Logs,
        pod_environment::kubeconfig,
        reaper::Reaper,
        scheduler,
        settings::{Metadata, NodeSettings, Settings},
        workers,
    },
    serve::Server,
};

/// How a cluster is to be.
pub struct Options {
    /// The clock of every deadline.
    pub clock: Clock,
    /// Where pods, certificates, tokens and images live.
    pub folder: PathBuf,
    /// Where the API server listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The nodes.
    pub nodes: Vec<NodeSettings>,
    /// Maps a Google access token to its principal (`user:x`, `serviceAccount:email`).
    pub google_user: GoogleUser,
    /// What IAM lets that principal do; the rest RBAC decides.
    pub google_allows: GoogleAllows,
    /// Gives pods the address of a metadata server.
    pub metadata: Metadata,
    /// Environment of every container.
    pub extra_env: Vec<(String, String)>,
    /// Search path of containers.
    pub search_path: String,
    /// First delay before a failed pod or container is tried again; doubles each time.
    pub retry_base: Duration,
    /// Program and arguments of the process that kills what is left when this one dies (see `node::reaper`).
    pub reaper: Option<Vec<OsString>>,
    /// Where objects are saved, if they are.
    pub persist: Option<PathBuf>,
    /// What goes wrong.
    pub faults: Faults,
    /// Whether pods are those of an Autopilot cluster.
    pub is_autopilot: IsAutopilot,
}

impl Options {
    /// A cluster in this folder with one node named `laptop`, nothing saved, nobody from Google.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            clock: Clock::default(),
            folder,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            nodes: vec![NodeSettings::named("laptop")],
            google_user: Arc::new(|_| None),
            google_allows: Arc::new(|_, _| false),
            metadata: Arc::new(|_| Box::pin(async { Ok(None) })),
            extra_env: Vec::new(),
            search_path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            retry_base: Duration::from_millis(200),
            reaper: None,
            persist: None,
            faults: Faults::default(),
            is_autopilot: Arc::new(|| false),
        }
    }
}

/// A running cluster.
pub struct Kubernetes {
    cluster: Arc<Cluster>,
    workers: Arc<Workers>,
    server: tokio::sync::Mutex<Option<Server>>,
    tls: Arc<rustls::ServerConfig>,
    address: SocketAddr,
    name_server: SocketAddr,
    ca_pem: String,
    persist: Option<PathBuf>,
    faults: Faults,
}

impl Kubernetes {
    /// Starts API server, controllers and nodes.
    ///
    /// # Errors
    /// When the folder cannot be written, the address cannot be bound, or saved objects cannot be read.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let folder = options.folder;
        std::fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("find folder {}", folder.display()))?;
        let certificates = certs::load(&folder.join("certificates"))?;
        let signer = Signer::load(&folder.join("certificates/service-accounts.key"))?;
        let admin = admin_token(&folder.join("admin.token"))?;
        let cluster = Arc::new(Cluster {
            store: Store::new(options.is_autopilot),
            clock: options.clock,
            signer,
            tokens: Tokens::new(admin, options.google_user, options.google_allows),
            used: rbac::Used::default(),
            recorder: Recorder::default(),
            images: Images::new(folder.join("images")),
            logs: Logs::default(),
            folder,
            retry_base: options.retry_base,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        if let Some(folder) = &options.persist {
            persist::load(&cluster, folder)?;
        }
        persist::sweep(&cluster)?;
        bootstrap(&cluster)?;
        let router = options.faults.before(server::router(cluster.clone()));
        let server = Server::start(router, options.listen, Some(certificates.tls.clone())).await?;
        let address = server.address();
        let name_server = NameServer::bind().await?;
        let workers = Workers::new(
            cluster.clone(),
            Settings {
                api: address,
                name_server: name_server.address,
                ca_pem: certificates.ca_pem.clone(),
                metadata: options.metadata,
                extra_env: options.extra_env,
                search_path: options.search_path,
                reaper: Reaper::start(options.reaper.as_deref())?,
            },
        );
        for node in &options.nodes {
            workers::announce(&cluster, node);
        }
        let name_server_address = name_server.address;
        let tasks = &cluster.tasks;
        tasks.spawn(workers.clone().run(cluster.store.subscribe(&[&kinds::POD, &kinds::CONFIG_MAP, &kinds::SECRET])));
        tasks.spawn(scheduler::run(cluster.clone(), cluster.store.subscribe(&[&kinds::NODE, &kinds::POD])));
        tasks.spawn(name_server.run(cluster.clone()));
        controllers::start(&cluster, &certificates.ca_pem);
        if let Some(folder) = &options.persist {
            tasks.spawn(persist::keep(cluster.clone(), folder.clone()));
        }
        Ok(Self {
            cluster,
            workers,
            server: tokio::sync::Mutex::new(Some(server)),
            tls: certificates.tls,
            address,
            name_server: name_server_address,
            ca_pem: certificates.ca_pem,
            persist: options.persist,
            faults: options.faults,
        })
    }

    /// Address of the API server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address of the name server.
    pub fn name_server(&self) -> SocketAddr {
        self.name_server
    }

    /// URL of the API server.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The authority that clients trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The administrator's token.
    pub fn admin_token(&self) -> &str {
        self.cluster.tokens.admin()
    }

    /// A kubeconfig of the administrator in a namespace.
    pub fn kubeconfig(&self, namespace: &str) -> Value {
        self.kubeconfig_for(self.admin_token(), namespace)
    }

    /// A kubeconfig for any token.
    pub fn kubeconfig_for(&self, token: &str, namespace: &str) -> Value {
        kubeconfig(&self.url(), &self.ca_pem, token, namespace, "local")
    }

    /// A token of a service account for the API server.
    ///
    /// # Errors
    /// When the account does not exist.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> anyhow::Result<String> {
        let account = self.cluster.store.get(&kinds::SERVICE_ACCOUNT, namespace, name);
        let account = account.with_context(|| format!("find service account {namespace}/{name}"))?;
        self.cluster.account_token(&account, None, &json!([ISSUER]), MOUNTED_SECS)
    }

    /// The programs that pods may run.
    pub fn images(&self) -> &Images {
        &self.cluster.images
    }

    /// What the parts of the cluster share; for tests and for the other parts of the laptop cloud.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Restarts the API server on its address: every connection drops, the objects stay, old versions are compacted.
    ///
    /// # Errors
    /// When the address cannot be bound again.
    pub async fn restart_api(&self) -> anyhow::Result<()> {
        let mut server = self.server.lock().await;
        if let Some(old) = server.take() {
            old.stop().await;
        }
        self.cluster.store.compact();
        let router = self.faults.before(server::router(self.cluster.clone()));
        *server = Some(Server::start(router, self.address, Some(self.tls.clone())).await?);
        Ok(())
    }

    /// A node dies with everything on it.
    pub fn kill_node(&self, name: &str) {
        self.workers.kill_node(name);
    }

    /// A node joins, or joins again.
    pub fn add_node(&self, node: &NodeSettings) {
        workers::announce(&self.cluster, node);
    }

    /// From now on a pool of nodes grows when pods do not fit.
    pub fn autoscale(&self, pool: autoscaler::Pool) {
        self.cluster.tasks.spawn(autoscaler::run(self.cluster.clone(), pool));
    }

    /// Stops everything: kills every pod's processes and waits for their end, and saves the objects if they are kept.
    pub async fn stop(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.stop().await;
        }
        self.cluster.stop.cancel();
        self.workers.stop().await;
        self.cluster.tasks.close();
        self.cluster.tasks.wait().await;
        if let Some(folder) = &self.persist
            && let Err(error) = persist::save(&self.cluster, folder)
        {
            tracing::warn!("failed to {error:#}");
        }
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.cluster.stop.cancel();
    }
}

fn admin_token(path: &std::path::Path) -> anyhow::Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    if let Ok(token) = std::fs::read_to_string(path) {
        return Ok(token.trim().to_owned());
    }
    let token = users::random();
    std::fs::write(path, &token).context("write the administrator's token")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .context("protect the administrator's token")?;
    Ok(token)
}

/// What every cluster has from the beginning.
fn bootstrap(cluster: &Cluster) -> anyhow::Result<()> {
    let mut objects: Vec<_> = ["default", "kube-system", "kube-public", "kube-node-lease"]
        .iter()
        .map(|name| (&kinds::NAMESPACE, json!({"metadata": {"name": name}})))
        .collect();
    objects.extend(rbac::built_in().into_iter().map(|role| (&kinds::CLUSTER_ROLE, role)));
    for (role, group) in [("cluster-admin", "system:masters"), (rbac::ISSUER_DISCOVERY, "system:serviceaccounts")] {
        objects.push((
            &kinds::CLUSTER_ROLE_BINDING,
            json!({
                "metadata": {"name": role},
                "roleRef": {"apiGroup": kinds::ROLE.group, "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": kinds::ROLE.group, "kind": "Group", "name": group}],
            }),
        ));
    }
    for (name, priority) in [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)] {
        objects.push((&kinds::PRIORITY_CLASS, json!({"metadata": {"name": name}, "value": priority})));
    }
    for (kind, object) in objects {
        let name = value::name(&object).to_owned();
        if cluster.store.get(kind, "", &name).is_some() {
            continue;
        }
        let target = Target { kind, namespace: String::new(), name: String::new(), subresource: String::new() };
        cluster.create(&target, object, &Default::default()).with_context(|| format!("make {name}"))?;
    }
    Ok(())
}

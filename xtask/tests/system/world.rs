//! A laptop cloud, provisioned by the product's own code, with an orchestrator in this process that a test can crash.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use cloud::{
    clients::Connection,
    storage::{Properties, Store, Written},
};
use contract::{Identity, config::Business, message::Work, object, pack::Pack};
use google_cloud_auth::credentials::mds;
use google_cloud_pubsub::{client::Publisher, model::Message};
use localcloud::{
    clock::Clock,
    cloud::{LocalCloud, Options},
};
use orchestrator::{Clients, Config, Hooks, Timing};
use provision::{
    Cloud, Environment, LocalState, deploy,
    environment::{self, Overrides},
    manifests::{self, Images, Rendered},
    plan,
};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Ground, Kubelet, Real};

mod programs;
mod proofs;
mod running;

pub(crate) use programs::{command_lines, image, programs};
pub(crate) use running::Running;

/// How long a test waits for something that takes milliseconds; only a safety net. On Google's emulator a lease of a
/// minute really has to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
const POLL_EVERY: Duration = Duration::from_millis(20);
/// The folder of the laptop cloud below that of the test.
const CLOUD_FOLDER: &str = "cloud";

/// A provisioned laptop cloud.
pub(crate) struct World {
    pub(crate) cloud: LocalCloud,
    pub(crate) clients: Cloud,
    pub(crate) environment: Environment,
    pub(crate) rendered: Rendered,
    pub(crate) images: Images,
    pub(crate) store: Store,
    pub(crate) connection: Connection,
    pub(crate) kube: kube::Client,
    folder: tempfile::TempDir,
    /// The real cluster in the place of the laptop cloud's, with who plays its kubelets.
    real: Option<Real>,
    kubelets: std::sync::Mutex<Vec<Kubelet>>,
}

/// How a world is set up.
pub(crate) struct Setup<'a> {
    /// The Google Cloud project.
    pub(crate) project: &'a str,
    /// Lines of each business.
    pub(crate) settings: &'a str,
    /// Lines on how its engines run.
    pub(crate) engine: &'a str,
    /// Lines at the end of the environment file.
    pub(crate) more: &'a str,
    /// Environment variables that name emulators.
    pub(crate) emulators: BTreeMap<String, String>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { project: "test-desk", settings: "max_active_jobs = 8", engine: "", more: "", emulators: BTreeMap::new() }
    }
}

impl World {
    /// Starts and provisions one with these businesses; `engine` is added to how their engines run.
    pub(crate) async fn start(businesses: &[&str], engine: &str) -> Self {
        Self::start_as(businesses, Setup { engine, ..Setup::default() }, |_| {}).await
    }

    /// Starts and provisions one; `settings` and `engine` say how the businesses and their engines are.
    pub(crate) async fn start_with(businesses: &[&str], settings: &str, engine: &str) -> Self {
        Self::start_as(businesses, Setup { settings, engine, ..Setup::default() }, |_| {}).await
    }

    /// Starts and provisions one, with a laptop cloud that is told otherwise in some respect.
    pub(crate) async fn start_as(
        businesses: &[&str],
        setup: Setup<'_>,
        tell: impl FnOnce(&mut localcloud::google::Options),
    ) -> Self {
        let Setup { project, settings, engine, more, emulators } = setup;
        let _ = cloud::clients::install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let mut text = format!("project = \"{project}\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n");
        let real = Real::named().await;
        for business in businesses {
            text.push_str(&format!("[businesses.{business}]\n{settings}\n"));
            if let Some(real) = &real {
                text.push_str(&format!("namespace = \"{}\"\n", real.namespace(business)));
            }
            let timeout = if engine.contains("\ntimeout = ") { "" } else { "timeout = \"60s\"\n" };
            text.push_str(&format!("[businesses.{business}.engine]\ncpu = \"100m\"\nretries = 2\n{timeout}{engine}\n"));
        }
        text.push_str(more);
        let file = folder.path().join("test.toml");
        std::fs::write(&file, text).unwrap();
        let environment = environment::load(&file, &Overrides::new()).unwrap();
        let options = Options {
            folder: folder.path().join(CLOUD_FOLDER),
            project: environment.project.clone(),
            location: environment.location.clone(),
            data: None,
            reaper: None,
            variables: Vec::new(),
            clock: Clock::default(),
        };
        let cloud = LocalCloud::start_with(options, tell).await.unwrap();
        let state: LocalState = serde_json::from_value(cloud.describe("test", businesses[0]).unwrap()).unwrap();
        let state = state.with_emulators(&emulators).unwrap();
        let clients = Cloud::connect(&environment, Some(state)).await.unwrap();
        let silent: provision::apply::Progress = Arc::new(|_| {});
        provision::run(&environment, &clients, plan::Options::default(), &silent).await.unwrap();
        let images = Images {
            orchestrator: image(&folder.path().join(CLOUD_FOLDER), "orchestrator"),
            engine: image(&folder.path().join(CLOUD_FOLDER), "engine"),
        };
        let rendered = manifests::render(&environment, &clients.endpoints, &images).unwrap();
        let kube = real.as_ref().map_or_else(|| clients.kubernetes.clone().unwrap(), |real| real.client.clone());
        let operator = operator_credentials(&cloud);
        let connection = Connection::with_credentials(&clients.endpoints, operator);
        let store = Store::connect(&connection).await.unwrap();
        let kubelets = std::sync::Mutex::default();
        Self { cloud, clients, environment, rendered, images, store, connection, kube, folder, real, kubelets }
    }

    /// Applies everything but the orchestrators, which then run in this process.
    pub(crate) async fn apply_without_orchestrators(&self) {
        let mut rendered = self.rendered.clone();
        for file in &mut rendered.files {
            file.objects.retain(|object| object["kind"] != "Deployment" && object["kind"] != "PodDisruptionBudget");
        }
        deploy::apply(&self.kube, &self.environment.name, &rendered, deploy::Foreign::Refuse).await.unwrap();
        let Some(real) = &self.real else { return };
        if !self.kubelets.lock().unwrap().is_empty() {
            return;
        }
        for business in &self.environment.businesses {
            let account = Some(business.accounts.engine.clone());
            let metadata = self.cloud.google.metadata_address(&business.namespace, "engine", account).await.unwrap();
            let ground = Ground {
                namespace: business.namespace.clone(),
                engine: programs()["engine"].clone(),
                metadata,
                folder: self.folder().join("pods").join(&business.namespace),
            };
            let kubelet = Kubelet::start(real, ground).await;
            self.kubelets.lock().unwrap().push(kubelet);
        }
    }

    /// Lets time pass: leases end, and finished Jobs reach the end of their retention after a while.
    pub(crate) async fn pass(&self, time: Duration) {
        self.cloud.clock.advance(time);
        if let Some(real) = &self.real
            && time > Duration::from_secs(86_400)
        {
            for business in &self.environment.businesses {
                real.expire_jobs(&business.namespace).await;
            }
        }
    }

    /// Ends it, and leaves nothing in a real cluster.
    pub(crate) async fn stop(&self) {
        if let Some(real) = &self.real {
            let namespaces: Vec<String> = self.environment.businesses.iter().map(|b| b.namespace.clone()).collect();
            real.clean(&namespaces).await;
        }
        self.cloud.stop().await;
    }

    /// Applies everything and waits for the orchestrators.
    pub(crate) async fn deploy(&self) {
        deploy::apply(&self.kube, &self.environment.name, &self.rendered, deploy::Foreign::Refuse).await.unwrap();
        for business in &self.environment.businesses {
            deploy::wait(&self.kube, &business.namespace, "orchestrator", PATIENCE).await.unwrap();
        }
    }

    /// Deploys everything as the verb does, with the certificates of pools.
    pub(crate) async fn deploy_pools(&self) {
        let folder = self.folder().join("generated/test");
        let options =
            deploy::Options { patience: deploy::Patience::LOCAL, ..deploy::Options::new(self.images.clone(), folder) };
        let silent: deploy::Progress = Arc::new(|_| {});
        deploy::run(&self.environment, &self.clients, &options, &silent).await.unwrap();
    }

    /// The image of one of our programs, for its nodes to run.
    pub(crate) fn image(&self, program: &str) -> String {
        image(&self.folder.path().join(CLOUD_FOLDER), program)
    }

    /// Where its programs and pods are.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    pub(crate) fn business(&self, name: &str) -> &Business {
        self.rendered.config.business(name).unwrap()
    }

    /// An orchestrator in this process, on a runtime of its own, with the identity that a deployed one would have.
    pub(crate) async fn orchestrator(&self, business: &str, hooks: Hooks) -> Running {
        self.orchestrator_with(business, hooks, |_| {}).await
    }

    /// As [`Self::orchestrator`], with a Job template that was changed.
    pub(crate) async fn orchestrator_with(
        &self,
        business: &str,
        hooks: Hooks,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Running {
        let business = self.business(business).clone();
        let template = self
            .rendered
            .objects()
            .find(|object| {
                object["kind"] == "ConfigMap" && object["metadata"]["namespace"] == business.namespace.as_str()
            })
            .and_then(|object| object["data"]["job.json"].as_str())
            .expect("the ConfigMap holds the Job template");
        let mut template: serde_json::Value = serde_json::from_str(template).unwrap();
        change(&mut template);
        let account = &self.environment.business(&business.name).unwrap().accounts.orchestrator;
        let metadata = self
            .cloud
            .google
            .metadata_address(&business.namespace, "orchestrator", Some(account.clone()))
            .await
            .unwrap();
        let kube = self.client_of_orchestrator(&business.name).await;
        if self.real.is_some() {
            Real::schedule(&mut template);
        }
        let config = Config {
            namespace: business.namespace.clone(),
            business,
            endpoints: self.clients.endpoints.clone(),
            template: template.to_string(),
            pool: None,
            listen: ([127, 0, 0, 1], 0).into(),
            log_filter: String::new(),
            timing: Timing {
                stop_timeout: Duration::from_secs(10),
                controls_interval: Duration::from_millis(200),
                ..Timing::PRODUCTION
            },
        };
        let clock = self.cloud.clock.clone();
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stopping = stop.clone();
        let listener = {
            let _inside = runtime.enter();
            orchestrator::listen(([127, 0, 0, 1], 0).into()).await.unwrap()
        };
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let task = runtime.spawn(async move {
            let credentials = mds::Builder::default().with_endpoint(format!("http://{metadata}")).build().unwrap();
            let connection = Connection::with_credentials(&config.endpoints, credentials);
            let clients = Clients { kube, connection, listener };
            orchestrator::run(config, clients, Arc::new(move || clock.now()), hooks, stopping).await
        });
        Running { runtime: Some(runtime), task: Some(task), stop, address }
    }

    /// A client with the identity that a business's orchestrator has in the cluster.
    pub(crate) async fn client_of_orchestrator(&self, business: &str) -> kube::Client {
        let namespace = &self.business(business).namespace;
        if let Some(real) = &self.real {
            return real.client_of(namespace, "orchestrator").await;
        }
        self.client_of(namespace, "orchestrator").await
    }

    /// Whether a real cluster is in the place of the laptop cloud's.
    pub(crate) fn is_real(&self) -> bool {
        self.real.is_some()
    }

    /// A client with the identity of a service account in the cluster; on a real one with that of whoever runs the
    /// test, since what all environments share there is not this test's to change.
    pub(crate) async fn client_of(&self, namespace: &str, account: &str) -> kube::Client {
        if self.is_real() {
            return self.kube.clone();
        }
        let token = self.cloud.kubernetes.service_account_token(namespace, account).unwrap();
        let kubeconfig = serde_json::from_value(self.cloud.kubernetes.kubeconfig_for(&token, namespace)).unwrap();
        let mut cluster = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        cluster.default_retry = false;
        kube::Client::try_from(cluster).unwrap()
    }

    /// The command line in this environment, which a deploy by hand would have written down.
    pub(crate) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let generated = self.folder.path().join("generated/test");
        std::fs::create_dir_all(&generated).unwrap();
        let config = serde_json::to_string(&self.rendered.config).unwrap();
        std::fs::write(generated.join("config.json"), config).unwrap();
        let state = self.cloud.describe("test", "default").unwrap();
        std::fs::write(generated.join("cloud.json"), state.to_string()).unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .arg("--env")
            .arg(self.folder.path().join("test.toml"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Uploads an input and gives the work it asks for.
    pub(crate) async fn upload(&self, business: &str, session: &str, job: &str, body: &str) -> Work {
        self.upload_as(business, session, job, body, None).await
    }

    /// Uploads a pack and gives the work it asks for.
    pub(crate) async fn upload_pack(&self, business: &str, session: &str, job: &str, body: &str, pack: Pack) -> Work {
        self.upload_as(business, session, job, body, Some(pack)).await
    }

    async fn upload_as(&self, business: &str, session: &str, job: &str, body: &str, pack: Option<Pack>) -> Work {
        let business = self.business(business);
        let object = object::input(&business.name, session, job);
        let identity = Identity { bucket: business.bucket.clone(), object, generation: 0, first: None, attempt: 0 };
        let mut work = Work { pack, ..Work::new(identity, &business.name, session, job) };
        let metadata = if work.pack.is_some() { work.metadata() } else { BTreeMap::new() };
        let properties = Properties { content_type: "text/plain".to_owned(), metadata };
        let Identity { bucket, object, .. } = &work.identity;
        let written = self.store.write_once(bucket, object, body.to_owned(), properties).await.unwrap();
        let Written::New(generation) = written else { panic!("{object} exists already") };
        work.identity.generation = generation;
        work
    }

    /// Publishes the message that asks for some work.
    pub(crate) async fn publish(&self, work: &Work) -> String {
        let (data, attributes) = work.encode();
        self.publish_raw(&work.business, data, attributes).await
    }

    /// Publishes any message.
    pub(crate) async fn publish_raw(
        &self,
        business: &str,
        data: Vec<u8>,
        attributes: BTreeMap<String, String>,
    ) -> String {
        let publisher: Publisher = self.connection.publisher(&self.business(business).topic).await.unwrap();
        let message = Message::new().set_data(data).set_attributes(attributes);
        publisher.publish(message).await.unwrap()
    }
}

/// Credentials of whoever owns the laptop cloud.
fn operator_credentials(cloud: &LocalCloud) -> google_cloud_auth::credentials::Credentials {
    google_cloud_auth::credentials::user_account::Builder::new(cloud.google.operator_credentials()).build().unwrap()
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "waited {} s for this: {what}", PATIENCE.as_secs());
        tokio::time::sleep(POLL_EVERY).await;
    }
}

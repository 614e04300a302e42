//! Google's real names behind a proxy: set-up, deploy and a submission go through it, and so do the services.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Output, Stdio},
    sync::{Arc, Mutex, OnceLock},
};

use localcloud::{
    clock::Clock,
    cloud::{LocalCloud, Options},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::programs;

const PROJECT: &str = "proxied-desk";
const CLUSTER: &str = "gke.goog";

/// Where a host really is.
#[derive(Clone)]
enum Backend {
    /// An API of the laptop cloud, without TLS.
    Plain(String),
    /// Its Kubernetes, with its own authority.
    Tls(String, Arc<rustls::ClientConfig>),
}

/// A proxy that ends TLS with certificates of its own authority, and knows where each host really is.
struct Proxy {
    address: String,
    /// The authority, as PEM.
    authority: String,
    backends: Arc<OnceLock<BTreeMap<String, Backend>>>,
    seen: Arc<Mutex<BTreeSet<String>>>,
    _serving: JoinSet<()>,
}

impl Proxy {
    async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let server_key = KeyPair::generate().unwrap();
        let names = ["*.googleapis.com", "*.europe-west1.gke.goog"].map(str::to_owned);
        let certificate = CertificateParams::new(names).unwrap().signed_by(&server_key, &issuer).unwrap();
        let acceptor = |protocols: &[&str]| {
            let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
            let mut config = rustls::ServerConfig::builder()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], private)
                .unwrap();
            config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            TlsAcceptor::from(Arc::new(config))
        };
        let (google, kubernetes) = (acceptor(&["h2", "http/1.1"]), acceptor(&["http/1.1"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let backends: Arc<OnceLock<BTreeMap<String, Backend>>> = Arc::default();
        let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let mut serving = JoinSet::new();
        let (routes, hosts) = (backends.clone(), seen.clone());
        serving.spawn(async move {
            let mut tunnels = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (routes, hosts) = (routes.clone(), hosts.clone());
                let (google, kubernetes) = (google.clone(), kubernetes.clone());
                tunnels.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let Some(host) = target(&mut stream).await else { return };
                    let suffix = if host.ends_with(CLUSTER) { CLUSTER } else { &host };
                    hosts.lock().unwrap().insert(suffix.to_owned());
                    let Some(backend) = routes.get().and_then(|routes| routes.get(suffix)).cloned() else {
                        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
                        return;
                    };
                    if stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_err() {
                        return;
                    }
                    match backend {
                        Backend::Plain(address) => {
                            let Ok(near) = google.accept(stream).await else { return };
                            relay(near, TcpStream::connect(address).await.unwrap()).await;
                        }
                        Backend::Tls(address, config) => {
                            let Ok(near) = kubernetes.accept(stream).await else { return };
                            let far = TcpStream::connect(address).await.unwrap();
                            let name = ServerName::try_from("kubernetes").unwrap();
                            relay(near, TlsConnector::from(config).connect(name, far).await.unwrap()).await;
                        }
                    }
                });
            }
        });
        Self { address, authority, backends, seen, _serving: serving }
    }

    /// Sends Google's names to a laptop cloud.
    fn route(&self, cloud: &LocalCloud) {
        let plain = |url: &str| Backend::Plain(url.trim_start_matches("http://").to_owned());
        let endpoints = cloud.google.endpoints();
        let mut backends: BTreeMap<String, Backend> = [
            ("pubsub", &endpoints.pubsub),
            ("storage", &endpoints.storage),
            ("iam", &endpoints.iam),
            ("iamcredentials", &endpoints.iamcredentials),
            ("cloudresourcemanager", &endpoints.cloudresourcemanager),
            ("serviceusage", &endpoints.serviceusage),
            ("container", &endpoints.container),
            ("artifactregistry", &endpoints.artifactregistry),
            ("cloudbuild", &endpoints.cloudbuild),
            ("orgpolicy", &endpoints.orgpolicy),
            ("cloudbilling", &endpoints.cloudbilling),
            ("compute", &endpoints.compute),
            ("oauth2", &endpoints.oauth2),
        ]
        .into_iter()
        .map(|(api, url)| (format!("{api}.googleapis.com"), plain(url)))
        .collect();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cloud.kubernetes.ca_pem().as_bytes()).unwrap()).unwrap();
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let address = cloud.kubernetes.address().to_string();
        backends.insert(CLUSTER.to_owned(), Backend::Tls(address, Arc::new(config)));
        assert!(self.backends.set(backends).is_ok());
    }
}

/// The host that a CONNECT names.
async fn target(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while stream.read_line(&mut head).await.ok()? > 2 {}
    let host = head.strip_prefix("CONNECT ")?.split(':').next()?;
    Some(host.to_owned())
}

async fn relay(mut near: impl AsyncRead + AsyncWrite + Unpin, mut far: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}

/// Runs a program as a person does who has a proxy; it must end well.
async fn run(folder: &Path, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::new(&programs()[program]);
    command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    command.env("HOME", folder).env("GOOGLE_APPLICATION_CREDENTIALS", folder.join("login.json"));
    command.envs(variables.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(180), command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{arguments:?} does not end")).unwrap();
    let [out, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{arguments:?}\n{out}\n{error}");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_a_proxy_with_one_login() {
    let _ = cloud::clients::install_tls_provider();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let shown = |name: &str| path(name).display().to_string();
    let proxy = Proxy::start().await;
    std::fs::write(path("corporate.pem"), &proxy.authority).unwrap();
    let bundle = shown("corporate.pem");
    let direct = "localhost,127.0.0.1,::1";
    let variables = [("HTTPS_PROXY", &*proxy.address), ("NO_PROXY", direct), ("SSL_CERT_FILE", &*bundle)];
    let options = Options {
        folder: path("cloud"),
        project: PROJECT.to_owned(),
        location: "europe-west1".to_owned(),
        data: None,
        reaper: None,
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        clock: Clock::default(),
    };
    let cloud = LocalCloud::start_with(options, |google| google.operations_take = std::time::Duration::ZERO).await;
    let cloud = cloud.unwrap();
    proxy.route(&cloud);
    // As `gcloud auth application-default login` writes it: the token endpoint is Google's.
    let mut login = cloud.google.operator_credentials();
    login.as_object_mut().unwrap().remove("token_uri");
    std::fs::write(path("login.json"), login.to_string()).unwrap();
    let text = format!(
        "project = \"{PROJECT}\"\nlocation = \"europe-west1\"\n[network]\nproxy = \"{}\"\nca_bundle = \"{bundle}\"\n\
         [web]\nenabled = false\n[businesses.bu1]\n[businesses.bu1.engine]\ncpu = \"100m\"\n",
        proxy.address
    );
    std::fs::write(path("desk.toml"), text).unwrap();
    let image = |name: &str| {
        let place = format!("europe-west1-docker.pkg.dev/{PROJECT}/desk/{name}");
        cloud.kubernetes.images().register(&place, &programs()[name]).unwrap()
    };
    let (orchestrator, engine) = (image("orchestrator"), image("engine"));
    std::fs::write(path("book.json"), include_str!("../../../examples/pricing/01-index-calls.json")).unwrap();

    let xtask = async |arguments: &[&str]| {
        run(folder.path(), "xtask", &[&["--env", "desk.toml"], arguments].concat(), &[]).await
    };
    xtask(&["provision", "--yes"]).await;
    xtask(&["deploy", "--orchestrator-image", &orchestrator, "--engine-image", &engine]).await;
    xtask(&["submit", "--wait", "book.json"]).await;
    let status = xtask(&["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["businesses"][0]["orchestrator"]["ready"], 1, "{status}");
    // The daily program needs the generated configuration and the variables, and nothing of gcloud.
    let config = shown("generated/desk/config.json");
    let status = run(folder.path(), "deskgrid", &["--config", &config, "status", "--json"], &variables).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["businesses"][0]["orchestrator"]["ready"], 1, "{status}");
    run(folder.path(), "deskgrid", &["--config", &config, "submit", "--wait", "book.json"], &variables).await;

    let seen: Vec<String> = proxy.seen.lock().unwrap().iter().cloned().collect();
    let google = ["artifactregistry", "cloudbilling", "cloudresourcemanager", "compute", "container"];
    let expected: BTreeSet<String> = google
        .into_iter()
        .chain(["iam", "oauth2", "orgpolicy", "pubsub", "serviceusage", "storage"])
        .map(|api| format!("{api}.googleapis.com"))
        .chain([CLUSTER.to_owned()])
        .collect();
    assert_eq!(seen, Vec::from_iter(expected), "no host but those of the allow-list");
    cloud.stop().await;
}

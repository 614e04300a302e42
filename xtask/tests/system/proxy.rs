//! A proxy that stands before Google's real names and leads to a laptop cloud, and programs that are run behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Output, Stdio},
    sync::{Arc, Mutex, OnceLock},
};

use localcloud::cloud::LocalCloud;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::programs;

/// What follows the name of a cluster in its DNS endpoint.
pub(crate) const CLUSTER: &str = "gke.goog";

/// Where a host really is.
#[derive(Clone)]
enum Backend {
    /// An API of the laptop cloud, without TLS.
    Plain(String),
    /// Its Kubernetes, with its own authority.
    Tls(String, Arc<rustls::ClientConfig>),
}

/// A proxy that ends TLS with certificates of its own authority, and knows where each host really is.
pub(crate) struct Proxy {
    pub(crate) address: String,
    /// The authority, as PEM.
    pub(crate) authority: String,
    backends: Arc<OnceLock<BTreeMap<String, Backend>>>,
    pub(crate) seen: Arc<Mutex<BTreeSet<String>>>,
    _serving: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let server_key = KeyPair::generate().unwrap();
        let names = ["*.googleapis.com", "*.europe-west1.gke.goog", "*.europe-west1-b.gke.goog"].map(str::to_owned);
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
    pub(crate) fn route(&self, cloud: &LocalCloud) {
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
            ("cloudkms", &endpoints.cloudkms),
            ("monitoring", &endpoints.monitoring),
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

/// Runs a program as a person does who has a proxy, until it ends with this code.
pub(crate) async fn run(
    folder: &Path,
    program: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
    code: i32,
) -> Output {
    let mut command = tokio::process::Command::new(&programs()[program]);
    command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    command.env("HOME", folder).env("GOOGLE_APPLICATION_CREDENTIALS", folder.join("login.json"));
    command.envs(variables.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(180), command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{arguments:?} does not end")).unwrap();
    let [out, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{error}");
    output
}

//! A network that lets nothing out but through its proxy, and whose servers a private authority vouches for.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use localcloud::kubernetes::{self, Kubernetes};
use provision::{
    environment::Network,
    google::{Api, Client, Endpoints, Request, Retry},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::fixture;

/// A proxy that makes tunnels (CONNECT), and counts them.
async fn proxy() -> (String, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let tunnels = Arc::new(AtomicUsize::new(0));
    let count = tunnels.clone();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut target = String::new();
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap_or(0) > 2 {
                    if let Some(rest) = line.strip_prefix("CONNECT ") {
                        target = rest.split(' ').next().unwrap_or_default().to_owned();
                    }
                    line.clear();
                }
                // Of the name only the port counts: no name server is asked.
                let port = target.rsplit(':').next().unwrap_or_default();
                let Ok(mut there) = TcpStream::connect(format!("127.0.0.1:{port}")).await else { return };
                count.fetch_add(1, Ordering::Relaxed);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
            });
        }
    });
    (address, tunnels, serving)
}

fn network(proxy: Option<&str>, ca_bundle: Option<PathBuf>) -> Network {
    let mut environment = fixture::environment("[businesses.bu1]\n");
    environment.network.proxy = proxy.map(str::to_owned);
    environment.network.ca_bundle = ca_bundle;
    environment.network
}

#[tokio::test]
async fn a_proxy_and_a_private_authority_are_used() {
    let _ = cloud::clients::install_tls_provider();
    let folder = tempfile::tempdir().unwrap();
    // A server whose certificate no public authority signed; what it answers to does not matter.
    let options = kubernetes::Options::new(folder.path().join("cluster"));
    let server = Kubernetes::start(kubernetes::Options { nodes: vec![], ..options }).await.unwrap();
    let bundle = folder.path().join("corporate.pem");
    std::fs::write(&bundle, server.ca_pem()).unwrap();
    let (proxy, tunnels, serving) = proxy().await;

    let client = |network: &Network| {
        let anonymous = google_cloud_auth::credentials::anonymous::Builder::new().build();
        let once = Retry { attempts: 1, ..Retry::default() };
        Client::new(Endpoints::all_at(&server.url()), anonymous).unwrap().retrying(once).through(network)
    };
    let ask = async |network: &Network| client(network).unwrap().send(&Request::get(Api::Pubsub, "version")).await;
    let through = |count: usize| assert_eq!(tunnels.load(Ordering::Relaxed), count);

    // Reached, and not believed.
    let error = ask(&network(Some(&proxy), None)).await.unwrap_err();
    assert_eq!(error.code, 0, "{error}");
    through(1);
    // Believed, with and without the proxy.
    let version = ask(&network(Some(&proxy), Some(bundle.clone()))).await.unwrap();
    assert!(version["gitVersion"].is_string(), "{version}");
    through(2);
    assert!(ask(&network(None, Some(bundle.clone()))).await.unwrap()["gitVersion"].is_string());
    through(2);

    let nothing = folder.path().join("empty.pem");
    std::fs::write(&nothing, "nothing").unwrap();
    for (wrong, said) in [
        (network(None, Some(nothing)), "holds no certificate"),
        (network(None, Some(folder.path().join("none.pem"))), "read the certificate authorities"),
        (network(Some("://"), None), "use the proxy"),
    ] {
        let error = format!("{:#}", client(&wrong).err().unwrap());
        assert!(error.contains(said), "{error}");
    }
    serving.abort();
    server.stop().await;
}

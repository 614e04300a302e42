//! Serving a router on a loopback socket: HTTP/1 and HTTP/2 on one port, with or without TLS, stopped at will.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rand::RngExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Serves `router` on `listen` (port 0 picks a free one).
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(
        router: Router,
        listen: SocketAddr,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> anyhow::Result<Self> {
        let listener = if listen.port() == 0 {
            let listener = on_free_port(listen.ip())?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)?
        } else {
            TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?
        };
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let acceptor = tls.map(TlsAcceptor::from);
        tasks.spawn(accept(listener, router, acceptor, stop.clone(), tasks.clone()));
        Ok(Self { address, stop, tasks })
    }

    /// Address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and every connection, and waits for that.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A port that was free a moment ago.
///
/// # Errors
/// When no port can be had.
pub fn free_port() -> std::io::Result<u16> {
    Ok(on_free_port(Ipv4Addr::LOCALHOST.into())?.local_addr()?.port())
}

/// Listens on a port below those that the system gives to outgoing connections (`net.ipv4.ip_local_port_range`): one
/// of these could take the port while its server starts or restarts.
fn on_free_port(address: IpAddr) -> std::io::Result<std::net::TcpListener> {
    let mut ports = std::iter::repeat_with(|| rand::rng().random_range(16_000..32_000)).take(100);
    let listener = ports.find_map(|port| std::net::TcpListener::bind((address, port)).ok());
    listener.map_or_else(|| std::net::TcpListener::bind((address, 0)), Ok)
}

async fn accept(
    listener: TcpListener,
    router: Router,
    acceptor: Option<TlsAcceptor>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely; give other connections time to end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let acceptor = acceptor.clone();
        let stop = stop.clone();
        tasks.spawn(async move {
            let connection = async {
                let service = TowerToHyperService::new(router);
                let builder = Builder::new(TokioExecutor::new());
                match acceptor {
                    Some(acceptor) => {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                    }
                    None => {
                        let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                    }
                }
            };
            tokio::select! {
                () = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

//! Orchestrators that run in the world: how they are set, started, killed and stopped.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use cloud::clients::Connection;
use contract::config::{Business, Dispatch, Endpoints};
use jiff::Timestamp;
use orchestrator::{Clients, Config, Hooks, Step, Timing};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{WITHIN, World};
use crate::kubernetes;

/// A running orchestrator.
pub(crate) struct Process {
    runtime: Runtime,
    stop: CancellationToken,
    ended: mpsc::Receiver<anyhow::Result<()>>,
    pub(crate) address: std::net::SocketAddr,
}

/// How to run one.
pub(crate) struct Setting {
    pub(crate) max_active_jobs: u32,
    pub(crate) dispatch: Dispatch,
    pub(crate) hooks: Hooks,
    pub(crate) ahead: Duration,
    pub(crate) business: fn(&mut Business),
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            max_active_jobs: 100,
            dispatch: Dispatch::Job,
            hooks: Hooks::none(),
            ahead: Duration::ZERO,
            business: |_| {},
        }
    }
}

impl Process {
    pub(crate) fn start(world: &Arc<World>, setting: Setting) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let endpoints = Endpoints { pubsub: Some(world.endpoint.clone()), storage: Some(world.endpoint.clone()) };
        let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "engine", "image": "i"}]}}}});
        let mut business = Business { max_active_jobs: setting.max_active_jobs, ..contract::testing::business("bu1") };
        business.dispatch = setting.dispatch;
        (setting.business)(&mut business);
        let config = Config {
            business,
            namespace: "bu1".into(),
            endpoints: endpoints.clone(),
            template: template.to_string(),
            port: 0,
            log_filter: String::new(),
            timing: Timing {
                sweep_every: Duration::from_millis(50),
                controls_every: Duration::from_millis(20),
                // Long, since this machine may be busy.
                priority_quiet: Duration::from_secs(2),
                ..Timing::PRODUCTION
            },
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (done, ended) = mpsc::channel();
        let (world, token) = (world.clone(), stop.clone());
        runtime.spawn(async move {
            let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
            let clients = Clients {
                kube: kubernetes::client(&world),
                connection: Connection::with_credentials(&endpoints, credentials),
                listener,
            };
            let clock: orchestrator::Clock = Arc::new(move || Timestamp::now() + setting.ahead);
            let _ = done.send(orchestrator::run(config, clients, clock, setting.hooks, token).await);
        });
        Self { runtime, stop, ended, address }
    }

    /// SIGKILL.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }

    /// SIGTERM; returns how it ended.
    pub(crate) fn terminate(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let ended = self.ended.recv_timeout(WITHIN).expect("it stops");
        self.kill();
        ended
    }

    /// The answer of a probe.
    pub(crate) fn get(&self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

/// Hooks that hold the first thing to come to `step` there for good, and tell so.
pub(crate) fn hold_at(step: Step) -> (Hooks, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(Some(tell));
    let hooks = Hooks::new(move |at| {
        let first = if at.step == step { tell.lock().unwrap().take() } else { None };
        Box::pin(async move {
            if let Some(tell) = first {
                let _ = tell.send(());
                std::future::pending::<()>().await;
            }
        })
    });
    (hooks, told)
}

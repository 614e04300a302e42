//! The web apps as end-to-end tests have them: in this process, each with the identity that it has when it is deployed,
//! in a world that has what a deploy renders for them.

use std::{net::SocketAddr, time::Duration};

use client::Uploads;
use cloud::{clients::Connection, storage::Store};
use google_cloud_auth::credentials::mds;
use provision::manifests::{Extras, WEB_NAMESPACE, WebImages, render_with};
use serde_json::Value;
use sessions::submit::content_type;
use tokio_util::sync::CancellationToken;
use web::{AccessSettings, Limits, Settings};

use crate::world::{Setup, World, eventually};

/// A token that may see every business.
pub(crate) const ALL: &str = "all-businesses-0123456789abcdef";
/// A token of bu1 alone.
pub(crate) const ONE: &str = "only-bu1-0123456789abcdef";

/// A world that has the web apps.
pub(crate) async fn world(businesses: &[&str]) -> World {
    world_with(businesses, Setup::default()).await
}

/// As [`world`], set up otherwise.
pub(crate) async fn world_with(businesses: &[&str], setup: Setup<'_>) -> World {
    let mut world = World::start_as(businesses, Setup { more: "[web]\nenabled = true\n", ..setup }, |_| {}).await;
    if !world.is_real() {
        let web = WebImages { monitor: Some(world.image("monitor")), client: Some(world.image("client")) };
        let extras = Extras { web, ..Extras::default() };
        world.rendered = render_with(&world.environment, &world.clients.endpoints, &world.images, &extras).unwrap();
    }
    world.apply_without_orchestrators().await;
    world
}

/// What an app is told: the tokens of tests, in a file of this name.
fn settings(world: &World, tokens: &str) -> Settings {
    let tokens = world.folder().join(tokens);
    std::fs::write(&tokens, format!("{ALL}\n{ONE} bu1\n")).unwrap();
    Settings {
        config: world.rendered.config.clone(),
        listen: "127.0.0.1:0".parse().unwrap(),
        access: AccessSettings::Tokens { file: tokens },
        tls: false,
        base_path: String::new(),
        log_filter: String::new(),
    }
}

/// Where the identity of an app comes from.
pub(crate) async fn metadata(world: &World, account: &str) -> SocketAddr {
    let accounts = &world.environment.accounts;
    let email = if account == "web-client" { &accounts.web_client } else { &accounts.web_monitor };
    world.cloud.google.metadata_address(WEB_NAMESPACE, account, Some(email.clone())).await.unwrap()
}

async fn connection(world: &World, account: &str) -> Connection {
    let endpoint = format!("http://{}", metadata(world, account).await);
    let credentials = mds::Builder::default().with_endpoint(endpoint).build().unwrap();
    Connection::with_credentials(&world.clients.endpoints, credentials)
}

/// The client, served in this process with the identity that it has when it is deployed.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    stop: CancellationToken,
    served: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl App {
    pub(crate) async fn start(world: &World, uploads: Uploads, limits: Limits) -> Self {
        Self::start_under(world, uploads, limits, "").await
    }

    /// Under a path of a reverse proxy.
    pub(crate) async fn start_under(world: &World, uploads: Uploads, limits: Limits, base_path: &str) -> Self {
        let settings = Settings { base_path: base_path.to_owned(), ..settings(world, "tokens") };
        let connection = connection(world, "web-client").await;
        let listener = web::listen(settings.listen).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let until = stop.clone();
        let served =
            tokio::spawn(async move { client::run(&settings, uploads, limits, &connection, listener, until).await });
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { address, http, stop, served: Some(served) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends it as SIGTERM would.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let served = self.served.take().expect("it runs");
        tokio::time::timeout(Duration::from_secs(60), served).await.expect("it stops").unwrap().unwrap();
    }

    pub(crate) fn request(&self, method: &str, path: &str, token: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), self.url(path)).bearer_auth(token)
    }

    /// Status and text of a page or document.
    pub(crate) async fn get(&self, path: &str, token: &str) -> (u16, String) {
        let answer = self.request("GET", path, token).header("accept", "text/html").send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Submits an input; status and answer.
    pub(crate) async fn put(
        &self,
        business: &str,
        session: &str,
        job: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let query = web::encode([("business", business), ("session", session), ("job", job)]);
        let request = self.request("PUT", &format!("/api/v1/inputs?{query}"), ONE);
        let answer = request.header("content-type", content_type(job)).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    pub(crate) async fn session(&self, business: &str, session: &str) -> Value {
        let query = web::encode([("business", business), ("session", session)]);
        let (status, text) = self.get(&format!("/api/v1/session?{query}"), ALL).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Waits until a session has so many inputs and none of them is pending.
    pub(crate) async fn done(&self, business: &str, session: &str, total: u64) {
        eventually(&format!("{session} is done"), async || {
            let counts = &self.session(business, session).await["counts"];
            let count = |state: &str| counts[state].as_u64().unwrap_or_default();
            let ended = count("succeeded") + count("failed") + count("cancelled");
            ended == total && count("waiting") + count("running") == 0
        })
        .await;
    }
}

/// The monitor, served in this process.
pub(crate) struct Monitor {
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    stop: CancellationToken,
    served: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Monitor {
    /// With the identity that it has when it is deployed, at Google and in the cluster.
    pub(crate) async fn start(world: &World) -> Self {
        let settings = settings(world, "monitor-tokens");
        let connection = connection(world, "web-monitor").await;
        let kube = world.client_of(WEB_NAMESPACE, "web-monitor").await;
        let listener = web::listen(settings.listen).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let store = Store::connect_for(&connection, Duration::from_secs(5)).await.unwrap();
        let clients = monitor::Clients { kube, connection, store, listener };
        let served = tokio::spawn(monitor::run(settings, clients, stop.clone()));
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let monitor = Self { address, http, stop, served: Some(served) };
        eventually("the monitor is ready", async || {
            let answer = monitor.http.get(monitor.url("/readyz")).send().await.unwrap();
            answer.status().is_success()
        })
        .await;
        monitor
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends it as SIGTERM would.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let served = self.served.take().expect("it runs");
        tokio::time::timeout(Duration::from_secs(60), served).await.expect("it stops").unwrap().unwrap();
    }

    /// Status and text of a page.
    pub(crate) async fn get(&self, path: &str, token: &str) -> (u16, String) {
        let request = self.http.get(self.url(path)).bearer_auth(token).header("accept", "text/html");
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// A document of the API.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let (status, text) = self.get(&format!("/api/v1{path}"), ALL).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Asks for an action.
    pub(crate) async fn act(&self, token: &str, action: Value) -> (u16, Value) {
        let request = self.http.post(self.url("/api/v1/actions")).bearer_auth(token).json(&action);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Waits until it shows so many Jobs in a state.
    pub(crate) async fn shows(&self, business: &str, state: &str, count: u64) {
        eventually(&format!("the monitor shows {count} {state} in {business}"), async || {
            let found = self.json(&format!("/jobs?business={business}&state={state}")).await;
            found["total"] == count
        })
        .await;
    }
}

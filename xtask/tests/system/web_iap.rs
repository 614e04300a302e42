//! The web apps behind Identity-Aware Proxy, told what a deploy tells them: whoever it says somebody is sees what the
//! environment file says, and nobody comes around it.

use std::{collections::BTreeMap, path::Path, process::Stdio};

use axum::{Router, routing::get};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use provision::{
    environment::{self, Overrides},
    manifests::{Extras, WebImages, render_with},
};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{
    web_apps::{metadata, world},
    world::{World, eventually, programs},
};

const CLIENT: &str = "/projects/123/global/backendServices/456";
const MONITOR: &str = "/projects/123/global/backendServices/789";
const FILE: &str = r#"
project = "test-desk"
location = "europe-west1"
[web]
access = "iap"
[web.iap]
monitor_host = "monitor.example.com"
client_host = "submit.example.com"
client_audience = "/projects/123/global/backendServices/456"
[web.iap.people]
"Alice@example.com" = ["bu1"]
"*@ops.example.com" = ["*"]
[businesses.bu1]
[businesses.bu2]
"#;

/// A key as Google would sign with, and the URL where it is published.
async fn google() -> (EncodingKey, String) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
    public["kid"] = "k1".into();
    let body = json!({"keys": [public]}).to_string();
    let router = Router::new().route("/keys", get(move || std::future::ready(body.clone())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (key, url)
}

/// An assertion that somebody came through the proxy to this audience.
fn assertion(key: &EncodingKey, email: &str, audience: &str) -> String {
    let now = jsonwebtoken::get_current_timestamp();
    let claims = json!({
        "aud": audience, "iss": "https://cloud.google.com/iap", "sub": "accounts.google.com:1", "email": email,
        "iat": now, "exp": now + 600,
    });
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, &claims, key).unwrap()
}

/// An app that runs as it is deployed, but for the paths of its files.
struct App {
    program: Child,
    address: String,
    http: reqwest::Client,
}

impl App {
    async fn start(world: &World, rendered: &[&Value], name: &str, keys: &str) -> Self {
        let folder = world.folder().join(format!("iap-{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        let is_map = |object: &&&Value| object["kind"] == "ConfigMap" && object["metadata"]["namespace"] == "deskgrid";
        let files = rendered.iter().find(is_map).unwrap()["data"].as_object().unwrap();
        for (file, text) in files {
            std::fs::write(folder.join(file), text.as_str().unwrap()).unwrap();
        }
        let is_app = |object: &&&Value| object["kind"] == "Deployment" && object["metadata"]["name"] == name;
        let container = &rendered.iter().find(is_app).unwrap()["spec"]["template"]["spec"]["containers"][0];
        let variables = container["env"].as_array().unwrap().iter().map(|variable| {
            let value = variable["value"].as_str().unwrap();
            (variable["name"].as_str().unwrap(), value.replace("/etc/deskgrid", folder.to_str().unwrap()))
        });
        let log = folder.join("log");
        let mut command = Command::new(&programs()[name]);
        command.env_clear().envs(variables).env("DESKGRID_IAP_KEYS", keys).env("DESKGRID_LISTEN", "127.0.0.1:0");
        command.env("GCE_METADATA_HOST", metadata(world, &format!("web-{name}")).await.to_string());
        command.env("KUBECONFIG", world.folder().join("cloud/kubeconfig"));
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).kill_on_drop(true);
        let program = command.spawn().unwrap();
        let address = || served(&log);
        eventually("it serves", async || address().is_some()).await;
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { program, address: address().unwrap(), http }
    }

    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = self.http.get(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn end(mut self) {
        self.program.start_kill().unwrap();
        self.program.wait().await.unwrap();
    }
}

fn served(log: &Path) -> Option<String> {
    let said = std::fs::read_to_string(log).ok()?;
    let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find_map(|line| line["address"].as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_the_proxy_names_sees_what_the_environment_file_says() {
    let world = world(&["bu1", "bu2"]).await;
    let file = world.folder().join("iap.toml");
    std::fs::write(&file, FILE).unwrap();
    let proxied = environment::load(&file, &Overrides::new()).unwrap();
    let image = |app: &str| Some(format!("registry/{app}@sha256:0"));
    let extras = Extras { web: WebImages { monitor: image("monitor"), client: image("client") }, ..Extras::default() };
    let rendered = render_with(&proxied, &world.clients.endpoints, &world.images, &extras).unwrap();
    let rendered: Vec<&Value> = rendered.objects().collect();
    let (key, keys) = google().await;
    let client = App::start(&world, &rendered, "client", &keys).await;
    const HEADER: &str = "x-goog-iap-jwt-assertion";
    let seen: BTreeMap<&str, Value> = BTreeMap::from([
        ("alice@example.com", json!(["bu1"])),
        ("ALICE@example.com", json!(["bu1"])),
        ("bob@ops.example.com", json!(["bu1", "bu2"])),
    ]);
    for (email, businesses) in seen {
        let (status, text) = client.ask("/api/v1/businesses", &[(HEADER, &assertion(&key, email, CLIENT))]).await;
        assert_eq!((status, text), (200, json!({"businesses": businesses}).to_string()), "{email}");
    }
    let alice = assertion(&key, "alice@example.com", CLIENT);
    assert_eq!(client.ask("/sessions?business=bu2", &[(HEADER, &alice)]).await.0, 404, "it is as if it were not there");
    let (status, page) = client.ask("/", &[(HEADER, &alice), ("accept", "text/html")]).await;
    assert!(status == 200 && page.contains("alice@example.com") && !page.contains("Log out"), "{page}");
    // Strangers, other signatures and audiences, and who comes around the proxy.
    let (other, _) = google().await;
    let stranger = assertion(&key, "eve@evil.example.com", CLIENT);
    let forged = assertion(&other, "alice@example.com", CLIENT);
    let elsewhere = assertion(&key, "alice@example.com", MONITOR);
    for headers in [
        vec![],
        vec![(HEADER, stranger.as_str())],
        vec![(HEADER, forged.as_str())],
        vec![(HEADER, elsewhere.as_str())],
        vec![("x-goog-authenticated-user-email", "accounts.google.com:alice@example.com")],
        vec![("authorization", "Bearer anything-anything-anything")],
        vec![("cookie", "__Host-deskgrid-client-test=a.b")],
    ] {
        for path in ["/", "/api/v1/businesses", "/live/sessions?business=bu1"] {
            let (status, text) = client.ask(path, &headers).await;
            assert!(status == 401 && !text.contains("bu1"), "{path} {headers:?}: {status} {text}");
        }
    }
    let (_, login) = client.ask("/login", &[]).await;
    assert!(!login.contains("id=\"token\""), "there is nothing to log in with: {login}");
    // A change needs the proof of one's own page, whatever the assertion.
    let change = client.http.put(format!("http://{}/api/v1/inputs?business=bu1&session=s&job=a", client.address));
    let answer = change.header(HEADER, &alice).body("x").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 403);
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").expect("the form has its proof");
    let proof = rest.split('"').next().unwrap();
    let change = client.http.put(format!("http://{}/api/v1/inputs?business=bu1&session=s&job=a", client.address));
    let answer = change.header(HEADER, &alice).header("x-csrf-token", proof).body("x").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 201, "{:?}", answer.text().await);
    assert_eq!(world.objects("bu1", "input").await.len(), 1);
    client.end().await;

    // The monitor's audience is not known yet: it runs, so that the load balancer finds it, and lets nobody in.
    world.cloud.describe("test", "bu1").unwrap();
    let monitor = App::start(&world, &rendered, "monitor", &keys).await;
    assert_eq!(monitor.ask("/healthz", &[]).await.0, 200);
    for audience in ["", MONITOR, CLIENT] {
        let (status, text) = monitor.ask("/", &[(HEADER, &assertion(&key, "bob@ops.example.com", audience))]).await;
        assert!(status == 503 && text.contains("access-unknown"), "{audience:?}: {status} {text}");
    }
    monitor.end().await;
    world.stop().await;
}

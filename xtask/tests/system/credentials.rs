//! Services whose Google credential failed once: they go on by themselves as soon as there is a good one.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, body::Body, extract::Request, http::StatusCode, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use provision::google::{self, Method, Request as Call};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{
    web_apps::{ONE, metadata, world},
    world::{World, eventually, programs},
};

/// A service as a program of its own, with what it said.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts one in a folder of its own.
    fn start(world: &World, name: &str, set: &[(&str, String)]) -> Self {
        let folder = world.folder().join(format!("program-{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        let config = match name {
            "orchestrator" => serde_json::to_string(&world.rendered.config.only("bu1")).unwrap(),
            _ => serde_json::to_string(&world.rendered.config).unwrap(),
        };
        std::fs::write(folder.join("config.json"), config).unwrap();
        std::fs::write(folder.join("tokens"), ONE).unwrap();
        let log = folder.join("log");
        let mut command = Command::new(&programs()[name]);
        command
            .current_dir(&folder)
            .env_clear()
            .env("DESKGRID_CONFIG", "config.json")
            .env("DESKGRID_ACCESS_TOKEN_FILE", "tokens")
            .env("DESKGRID_LISTEN", "127.0.0.1:0")
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true);
        command.envs(set.iter().map(|(name, value)| (name, value)));
        Self { child: command.spawn().unwrap(), log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Where it serves, as it says.
    async fn address(&self) -> String {
        let address = || {
            let said = self.said();
            let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find_map(|line| line["address"].as_str().map(str::to_owned))
        };
        eventually("it serves", async || address().is_some()).await;
        address().unwrap()
    }

    /// It is still the process that was started.
    fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    async fn end(mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }
}

/// A metadata server that knows nobody until it is opened, as GKE's before a binding is known; returns its address.
async fn gate(behind: std::net::SocketAddr, is_open: Arc<AtomicBool>) -> String {
    let http = reqwest::Client::new();
    let router = Router::new().fallback(move |request: Request| {
        let (http, is_open) = (http.clone(), is_open.load(Ordering::SeqCst));
        async move {
            let not_found = || {
                let mut answer = Response::new(Body::from("not found"));
                *answer.status_mut() = StatusCode::NOT_FOUND;
                answer
            };
            if !is_open {
                return not_found();
            }
            let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            let headers = request.headers().clone();
            let answer = http.get(format!("http://{behind}{path}")).headers(headers).send().await.unwrap();
            let mut passed = Response::new(Body::empty());
            (*passed.status_mut(), *passed.headers_mut()) = (answer.status(), answer.headers().clone());
            *passed.body_mut() = Body::from(answer.bytes().await.unwrap());
            passed
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A kubeconfig file of a service account.
fn kubeconfig(world: &World, namespace: &str, account: &str) -> String {
    let token = world.cloud.kubernetes.service_account_token(namespace, account).unwrap();
    let path = world.folder().join(format!("kubeconfig-{account}"));
    std::fs::write(&path, world.cloud.kubernetes.kubeconfig_for(&token, namespace).to_string()).unwrap();
    path.display().to_string()
}

/// Submits an input; status and answer.
async fn submit(address: &str, job: &str) -> (u16, String) {
    let url = format!("http://{address}/api/v1/inputs?business=bu1&session=s&job={job}");
    let answer = reqwest::Client::new().put(url).bearer_auth(ONE).body("payload").send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_server_that_knew_nobody_at_the_start_holds_nobody_up() {
    let world = world(&["bu1"]).await;
    if world.is_real() {
        println!("skipped: on a real cluster the services have its own metadata server");
        return;
    }
    let is_open = Arc::new(AtomicBool::new(false));
    let set = async |namespace: &str, account: &str, behind| {
        let host = gate(behind, is_open.clone()).await;
        vec![("GCE_METADATA_HOST", host), ("KUBECONFIG", kubeconfig(&world, namespace, account))]
    };
    let mut client =
        Program::start(&world, "client", &set("deskgrid", "web-client", metadata(&world, "web-client").await).await);
    let mut monitor =
        Program::start(&world, "monitor", &set("deskgrid", "web-monitor", metadata(&world, "web-monitor").await).await);
    let account = Some(world.environment.business("bu1").unwrap().accounts.orchestrator.clone());
    let of_orchestrator = world.cloud.google.metadata_address("bu1", "orchestrator", account).await.unwrap();
    let is_config = |object: &&Value| object["kind"] == "ConfigMap" && object["metadata"]["namespace"] == "bu1";
    let template = world.rendered.objects().find(is_config).unwrap()["data"]["job.json"].clone();
    let job = world.folder().join("job.json");
    std::fs::write(&job, template.as_str().unwrap()).unwrap();
    let mut variables = set("bu1", "orchestrator", of_orchestrator).await;
    variables.extend([
        ("DESKGRID_JOB_TEMPLATE", job.display().to_string()),
        ("BUSINESS_NAME", "bu1".to_owned()),
        ("NAMESPACE", "bu1".to_owned()),
        ("DESKGRID_PORT_HTTP", localcloud::serve::free_port().unwrap().to_string()),
    ]);
    let mut orchestrator = Program::start(&world, "orchestrator", &variables);
    let (address, board) = (client.address().await, monitor.address().await);
    let (status, said) = submit(&address, "early").await;
    assert!(status == 503 && said.contains("not found"), "{status} {said}");
    let jobs = async || {
        let url = format!("http://{board}/jobs");
        let answer =
            reqwest::Client::new().get(url).bearer_auth(ONE).header("accept", "text/html").send().await.unwrap();
        answer.text().await.unwrap()
    };
    eventually("the monitor says what is away", async || jobs().await.contains("Something does not answer")).await;
    eventually("the orchestrator failed, too", async || orchestrator.said().contains("not found")).await;

    is_open.store(true, Ordering::SeqCst);
    eventually("the client submits", async || submit(&address, "later").await.0 == 201).await;
    world.settled("bu1", 1).await;
    eventually("the monitor shows it", async || {
        let text = jobs().await;
        text.contains("later") && !text.contains("Something does not answer")
    })
    .await;
    for (name, program) in [("client", &mut client), ("monitor", &mut monitor), ("orchestrator", &mut orchestrator)] {
        assert!(program.runs(), "nobody had to start the {name} again: {}", program.said());
    }
    for program in [client, monitor, orchestrator] {
        program.end().await;
    }
    world.stop().await;
}

/// Makes a key of an account and puts it into the place of the file, at once, as a kubelet does; returns its name.
async fn put_key(world: &World, keys: &str, file: &Path) -> String {
    let call = Call::new(google::Api::Iam, Method::Post, keys).body(json!({}));
    let made = world.clients.google.send(&call).await.unwrap();
    let text = BASE64.decode(made["privateKeyData"].as_str().unwrap()).unwrap();
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, file).unwrap();
    made["name"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_took_the_place_of_another_is_used_without_a_restart() {
    let world = world(&["bu1"]).await;
    let keys = format!("v1/projects/test-desk/serviceAccounts/{}/keys", world.environment.accounts.web_client);
    let file = world.folder().join("key.json");
    let first = put_key(&world, &keys, &file).await;
    let mut client =
        Program::start(&world, "client", &[("GOOGLE_APPLICATION_CREDENTIALS", file.display().to_string())]);
    let address = client.address().await;
    assert_eq!(submit(&address, "with-the-first").await.0, 201, "{}", client.said());
    // Rotated: the old key is gone when the new one is there.
    let second = put_key(&world, &keys, &file).await;
    assert_ne!(first, second);
    let gone = Call::new(google::Api::Iam, Method::Delete, format!("v1/{first}"));
    world.clients.google.send(&gone).await.unwrap();
    assert_eq!(submit(&address, "with-the-second").await.0, 201, "{}", client.said());
    // A key that is refused, as one that was deleted too early: it goes on with the next.
    let gone = Call::new(google::Api::Iam, Method::Delete, format!("v1/{second}"));
    world.clients.google.send(&gone).await.unwrap();
    let (status, said) = submit(&address, "with-none").await;
    assert_ne!(status, 201, "{said}");
    put_key(&world, &keys, &file).await;
    eventually("the third key is used", async || submit(&address, "with-the-third").await.0 == 201).await;
    assert!(client.runs(), "nobody had to start it again: {}", client.said());
    client.end().await;
    world.stop().await;
}

//! A desk: a laptop Google Cloud with one business, an environment file that leads to it, and the real binary.
//!
//! There is no cluster and no orchestrator: the test settles Jobs itself.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use cloud::{
    clients::Connection,
    storage::{Object, Properties, Store},
};
use contract::{
    Outcome,
    config::{Business, Endpoints},
    message::{Received, Request, Work, decode},
    object,
    outcome::State,
};
use google_cloud_auth::credentials::user_account;
use localcloud::google::{Google, Options};
use provision::cloud::{LocalEndpoints, LocalState};
use serde_json::{Value, json};

const ENVIRONMENT: &str = "
project = \"laptop-desk\"
location = \"europe-west1\"
cloud = \"local\"
[businesses.bu1]
";

pub(crate) struct Desk {
    _google: Google,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) business: Business,
    connection: Connection,
}

impl Desk {
    pub(crate) async fn start() -> Self {
        let _ = cloud::clients::install_tls_provider();
        let google = Google::start(Options::new("laptop-desk")).await.unwrap();
        let endpoints = google.endpoints();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("try.toml");
        std::fs::write(&file, ENVIRONMENT).unwrap();
        let environment = provision::environment::load(&file, &BTreeMap::new()).unwrap();
        let ours = Endpoints { pubsub: Some(endpoints.pubsub.clone()), storage: Some(endpoints.storage.clone()) };
        let config = environment.config(&ours);
        let business = config.business("bu1").unwrap().clone();

        let generated = folder.path().join("generated/try");
        std::fs::create_dir_all(&generated).unwrap();
        std::fs::write(generated.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
        let credentials = folder.path().join("adc.json");
        std::fs::write(&credentials, google.operator_credentials().to_string()).unwrap();
        let state = LocalState {
            environment: "try".into(),
            pid: std::process::id(),
            endpoints: LocalEndpoints {
                google: serde_json::from_value(serde_json::to_value(&endpoints).unwrap()).unwrap(),
                kubernetes: "https://127.0.0.1:1".into(),
            },
            credentials,
            kubeconfig: folder.path().join("no-kubeconfig"),
            tools: std::collections::BTreeMap::new(),
        };
        state.write(&generated.join("cloud.json")).unwrap();

        let http = reqwest::Client::new();
        let call = |method: reqwest::Method, url: String, body: Value| {
            let request = http.request(method, url).bearer_auth(google.operator_token()).json(&body);
            async move { request.send().await.unwrap().error_for_status().unwrap() }
        };
        let bucket = format!("{}/storage/v1/b?project=laptop-desk", endpoints.storage);
        call(reqwest::Method::POST, bucket, json!({"name": business.bucket})).await;
        call(reqwest::Method::PUT, format!("{}/v1/{}", endpoints.pubsub, business.topic), json!({})).await;
        let subscription = json!({"topic": business.topic, "ackDeadlineSeconds": 600});
        call(reqwest::Method::PUT, format!("{}/v1/{}", endpoints.pubsub, business.subscription), subscription).await;

        let operator = user_account::Builder::new(google.operator_credentials()).build().unwrap();
        let connection = Connection::with_credentials(&ours, operator);
        let store = Store::connect(&connection).await.unwrap();
        Self { _google: google, folder, store, business, connection }
    }

    /// A file below the folder of inputs.
    pub(crate) fn input(&self, name: &str, contents: &str) {
        let path = self.inputs().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    pub(crate) fn inputs(&self) -> PathBuf {
        self.folder.path().join("inputs")
    }

    /// The binary with `arguments`, in this environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .arg("--env")
            .arg(self.folder.path().join("try.toml"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the binary to its end, which must be with this exit code; standard output and standard error.
    pub(crate) async fn run(&self, arguments: &[&str], code: i32) -> (String, String) {
        let output = within(self.command(arguments).output()).await.unwrap();
        ended(&output, code)
    }

    /// Attaches one more subscription to the topic.
    pub(crate) async fn subscribe(&self, name: &str) {
        let admin = self.connection.subscription_admin().await.unwrap();
        let name = format!("projects/laptop-desk/subscriptions/{name}");
        admin.create_subscription().set_name(name).set_topic(&self.business.topic).send().await.unwrap();
    }

    /// The live objects under a prefix of the business.
    pub(crate) async fn list(&self, prefix: &str) -> Vec<Object> {
        self.store.list(&self.business.bucket, &format!("{}/{prefix}", self.business.name)).await.unwrap()
    }

    /// Acks messages until `enough` says so, and gives the work they ask for.
    pub(crate) async fn pull_until(&self, mut enough: impl FnMut(&[Work]) -> bool) -> Vec<Work> {
        let subscriber = self.connection.subscriber().await.unwrap();
        let mut stream = subscriber.subscribe(&self.business.subscription).build();
        let mut work = Vec::new();
        while !enough(&work) {
            let (message, handler) = within(stream.next()).await.unwrap().unwrap();
            let attributes: BTreeMap<String, String> = message.attributes.clone().into_iter().collect();
            let received = Received { message_id: &message.message_id, data: &message.data, attributes: &attributes };
            match decode(received, &self.business) {
                Ok(Request::Run(of)) => work.push(of),
                other => panic!("{other:?}"),
            }
            handler.ack();
        }
        within(stream.shutdown_token().shutdown()).await;
        work
    }

    /// Acks so many messages and gives the work they ask for.
    pub(crate) async fn pull(&self, count: usize) -> Vec<Work> {
        self.pull_until(|work| work.len() >= count).await
    }

    /// Does to every input what the orchestrator would: writes an outcome, and for one that succeeded a result; then
    /// deletes the input. Inputs whose name has `bad` in it fail and are kept; of those with `rows` in it two rows have
    /// an error.
    pub(crate) async fn settle(&self) {
        let bucket = &self.business.bucket;
        for input in self.list("input/").await {
            let (session, job) = object::parse_input(&self.business.name, &input.name).unwrap();
            let options = sessions::submit::Options { session, ..Default::default() };
            let mut work = options.work(&self.business, &job);
            work.identity.generation = input.generation;
            let bad = work.job.contains("bad");
            let mut outcome = if bad {
                Outcome::new("bu1", State::Failed, "malformed-input", "line 1: no trades")
            } else {
                Outcome::new("bu1", State::Succeeded, "completed", "")
            };
            outcome.timestamps.published = input.created;
            outcome.timestamps.settled = Some(jiff::Timestamp::now());
            outcome.log_tail = bad.then(|| "reading\nline 1: no trades\n".to_owned());
            outcome.exit_code = bad.then_some(10);
            outcome.work = Some(work.clone());
            if !bad {
                let mut result = json!({"kernel": "monte-carlo", "trades": [
                    {"id": "t1", "price": 1.5, "standard_error": 0.25}]});
                if work.job.contains("rows") {
                    outcome.row_errors = 2;
                    for id in ["=t2", "t3"] {
                        result["trades"].as_array_mut().unwrap().push(json!({"id": id, "error": "line 3: no strike"}));
                    }
                    result["portfolio"] = json!({"value": 15.123456789, "standard_error": 0.25, "errors": 2});
                }
                let result = result.to_string().into_bytes();
                self.store.write_once(bucket, &work.output(), result, Properties::json()).await.unwrap();
            }
            let body = serde_json::to_vec(&outcome).unwrap();
            let properties = Properties { metadata: outcome.metadata(), ..Properties::json() };
            self.store.write_once(bucket, &work.outcome(), body, properties).await.unwrap();
            if !bad {
                self.store.delete(bucket, &input.name, input.generation).await.unwrap();
            }
        }
    }
}

/// Standard output and standard error of a run that must have ended with this exit code.
pub(crate) fn ended(output: &Output, code: i32) -> (String, String) {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
    (stdout, stderr)
}

/// Fails a test that hangs.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("the time limit")
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

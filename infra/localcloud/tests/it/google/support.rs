//! What the tests share: a running cloud, clients of it, identities in it.

use std::time::Duration;

use anyhow::Context as _;
use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_pubsub::client::{Publisher, Subscriber, SubscriptionAdmin, TopicAdmin};
use google_cloud_storage::client::{Storage, StorageControl};
use http::{Extensions, HeaderMap, HeaderValue, header};
use localcloud::google::{Google, Options};
use serde_json::{Value, json};

pub(crate) const PROJECT: &str = "demo-project";
pub(crate) const BUCKET: &str = "demo-project-bucket";

/// A cloud that refuses calls without credentials.
pub(crate) async fn google() -> Google {
    start(Options::new(PROJECT)).await
}

pub(crate) async fn start(options: Options) -> Google {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let google = Google::start(options).await.unwrap();
    // As if there was a cluster already; what holds before has a test of its own.
    google.identity().open_pool();
    google
}

/// Fails a test that hangs.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("the time limit")
}

/// Waits until `check` holds.
pub(crate) async fn until(mut check: impl FnMut() -> bool) {
    within(async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Credentials with a token that never changes.
#[derive(Debug)]
struct Token(String);

impl google_cloud_auth::credentials::CredentialsProvider for Token {
    async fn headers(
        &self,
        _extensions: Extensions,
    ) -> Result<google_cloud_auth::credentials::CacheableResource<HeaderMap>, google_cloud_auth::errors::CredentialsError>
    {
        let mut data = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Bearer {}", self.0)).expect("a token is a header value");
        data.insert(header::AUTHORIZATION, value);
        Ok(google_cloud_auth::credentials::CacheableResource::New {
            data,
            entity_tag: google_cloud_auth::credentials::EntityTag::new(),
        })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

pub(crate) fn credentials(token: &str) -> Credentials {
    Credentials::from(Token(token.to_owned()))
}

pub(crate) fn nobody() -> Credentials {
    anonymous::Builder::new().build()
}

/// Google's clients, for one identity.
pub(crate) struct Clients {
    pub(crate) storage: Storage,
    pub(crate) control: StorageControl,
    pub(crate) topics: TopicAdmin,
    pub(crate) subscriptions: SubscriptionAdmin,
    pub(crate) subscriber: Subscriber,
    credentials: Credentials,
    pubsub: String,
}

impl Clients {
    pub(crate) async fn new(google: &Google, credentials: Credentials) -> Self {
        let endpoints = google.endpoints();
        let (pubsub, storage) = (endpoints.pubsub, endpoints.storage);
        Self {
            storage: Storage::builder()
                .with_endpoint(&storage)
                .with_credentials(credentials.clone())
                .build()
                .await
                .unwrap(),
            control: StorageControl::builder()
                .with_endpoint(&storage)
                .with_credentials(credentials.clone())
                .build()
                .await
                .unwrap(),
            topics: TopicAdmin::builder()
                .with_endpoint(&pubsub)
                .with_credentials(credentials.clone())
                .build()
                .await
                .unwrap(),
            subscriptions: SubscriptionAdmin::builder()
                .with_endpoint(&pubsub)
                .with_credentials(credentials.clone())
                .build()
                .await
                .unwrap(),
            subscriber: Subscriber::builder()
                .with_endpoint(&pubsub)
                .with_credentials(credentials.clone())
                .build()
                .await
                .unwrap(),
            credentials,
            pubsub,
        }
    }

    pub(crate) async fn operator(google: &Google) -> Self {
        Self::new(google, credentials(&google.operator_token())).await
    }

    pub(crate) async fn publisher(&self, topic: &str) -> Publisher {
        Publisher::builder(topic)
            .with_endpoint(&self.pubsub)
            .with_credentials(self.credentials.clone())
            .build()
            .await
            .unwrap()
    }
}

/// REST as the operator, or as whoever has the token.
pub(crate) struct Rest {
    http: reqwest::Client,
    token: String,
}

impl Rest {
    pub(crate) fn operator(google: &Google) -> Self {
        Self::with_token(google.operator_token())
    }

    pub(crate) fn with_token(token: String) -> Self {
        Self { http: reqwest::Client::new(), token }
    }

    /// Status and body of an answer.
    pub(crate) async fn try_call(&self, method: &str, url: &str, body: Option<Value>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = within(request.send()).await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Body of an answer that must be a success.
    pub(crate) async fn call(&self, method: &str, url: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.try_call(method, url, body).await;
        assert!(status < 300, "{method} {url}: {status} {answer}");
        answer
    }

    pub(crate) async fn get(&self, url: &str) -> Value {
        self.call("GET", url, None).await
    }

    pub(crate) async fn post(&self, url: &str, body: Value) -> Value {
        self.call("POST", url, Some(body)).await
    }
}

/// A service account; answers its email address.
pub(crate) async fn account(google: &Google, id: &str) -> String {
    let url = format!("{}/v1/projects/{PROJECT}/serviceAccounts", google.endpoints().iam);
    let made = Rest::operator(google).post(&url, json!({ "accountId": id, "serviceAccount": {} })).await;
    made["email"].as_str().unwrap().to_owned()
}

/// A token of a pod whose Kubernetes service account is bound to a Google one of the same name.
pub(crate) async fn pod_token(google: &Google, namespace: &str, email: &str) -> anyhow::Result<String> {
    let rest = Rest::operator(google);
    let account = email.split('@').next().unwrap_or_default();
    let member = format!("serviceAccount:{PROJECT}.svc.id.goog[{namespace}/{account}]");
    let url = format!("{}/v1/projects/{PROJECT}/serviceAccounts/{email}", google.endpoints().iam);
    let binding = json!({ "role": "roles/iam.workloadIdentityUser", "members": [member] });
    rest.post(&format!("{url}:setIamPolicy"), json!({ "policy": { "bindings": [binding] } })).await;
    metadata_token(google, namespace, account, Some(email)).await
}

/// What the metadata server of a pod answers.
pub(crate) async fn metadata_token(
    google: &Google,
    namespace: &str,
    account: &str,
    email: Option<&str>,
) -> anyhow::Result<String> {
    let address = google.metadata_address(namespace, account, email.map(str::to_owned)).await?;
    let url = format!("http://{address}/computeMetadata/v1/instance/service-accounts/default/token");
    let response = reqwest::Client::new().get(url).header("Metadata-Flavor", "Google").send().await?;
    let status = response.status();
    let text = response.text().await?;
    anyhow::ensure!(status.is_success(), "{status}: {text}");
    let answer: Value = serde_json::from_str(&text)?;
    answer["access_token"].as_str().map(str::to_owned).context("a token")
}

/// A bucket with uniform access and these bindings beside its first ones.
pub(crate) async fn bucket(google: &Google, bindings: Vec<Value>) {
    let rest = Rest::operator(google);
    let storage = google.endpoints().storage;
    let desired = json!({
        "name": BUCKET,
        "iamConfiguration": {
            "uniformBucketLevelAccess": { "enabled": true },
            "publicAccessPrevention": "enforced",
        },
    });
    rest.post(&format!("{storage}/storage/v1/b?project={PROJECT}"), desired).await;
    let url = format!("{storage}/storage/v1/b/{BUCKET}/iam");
    let mut policy = rest.get(&format!("{url}?optionsRequestedPolicyVersion=3")).await;
    policy["version"] = json!(3);
    policy["bindings"].as_array_mut().unwrap().extend(bindings);
    rest.call("PUT", &url, Some(policy)).await;
}

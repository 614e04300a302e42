//! One login for everything: with each kind of Google credential, the same token reaches Google's APIs and the cluster.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{Router, routing::get};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use contract::config::Cluster;
use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag, anonymous, mds};
use google_cloud_gax::error::CredentialsError;
use http::{Extensions, HeaderMap, header::AUTHORIZATION};
use inspect::connect;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, PostParams};
use localcloud::{
    clock::Clock,
    cloud::{LocalCloud, Options},
};
use provision::{
    LocalState,
    google::{Api, Client, Endpoints, Method, Request, file_credentials, impersonated},
};
use serde_json::{Value, json};

use crate::fixture::PROJECT;

struct Fixture {
    folder: tempfile::TempDir,
    local: LocalCloud,
    endpoints: Endpoints,
    operator: Client,
}

impl Fixture {
    async fn start() -> Self {
        let _ = cloud::clients::install_tls_provider();
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            folder: folder.path().join("cloud"),
            project: PROJECT.to_owned(),
            location: "europe-west1".to_owned(),
            data: None,
            reaper: None,
            variables: Vec::new(),
            clock: Clock::default(),
        };
        let local = LocalCloud::start_with(options, |google| google.enforce_apis = false).await.unwrap();
        local.google.identity().open_pool();
        let state: LocalState = serde_json::from_value(local.describe("e", "bu1").unwrap()).unwrap();
        let operator =
            Client::new(state.endpoints.google.clone(), file_credentials(&state.credentials).unwrap()).unwrap();
        Self { folder, local, endpoints: state.endpoints.google, operator }
    }

    async fn post(&self, api: Api, path: &str, body: Value) -> Value {
        self.operator.send(&Request::new(api, Method::Post, path.to_owned()).body(body)).await.unwrap()
    }

    /// Gives members the right to read Jobs and to act as service accounts.
    async fn grant(&self, members: &[String]) {
        let path = format!("v1/projects/{PROJECT}:getIamPolicy");
        let mut policy = self.post(Api::CloudResourceManager, &path, json!({})).await;
        for role in ["roles/container.viewer", "roles/iam.serviceAccountTokenCreator"] {
            policy["bindings"].as_array_mut().unwrap().push(json!({"role": role, "members": members}));
        }
        let path = format!("v1/projects/{PROJECT}:setIamPolicy");
        self.post(Api::CloudResourceManager, &path, json!({"policy": policy})).await;
    }

    fn file(&self, name: &str, json: &Value) -> Credentials {
        let path = self.folder.path().join(name);
        std::fs::write(&path, json.to_string()).unwrap();
        file_credentials(&path).unwrap()
    }

    async fn jobs(&self, credentials: &Credentials) -> kube::Api<Job> {
        let kubernetes = &self.local.kubernetes;
        let authority = Some(BASE64_STANDARD.encode(kubernetes.ca_pem()));
        let cluster = Cluster { server: kubernetes.url(), authority };
        let config = connect::of_cluster(&cluster, &BTreeMap::new()).await.unwrap();
        let client = connect::with_google_token(config, credentials.clone()).unwrap();
        kube::Api::namespaced(client, "default")
    }

    async fn list(&self, credentials: &Credentials) -> Result<usize, u16> {
        match self.jobs(credentials).await.list(&ListParams::default()).await {
            Ok(list) => Ok(list.items.len()),
            Err(kube::Error::Api(status)) => Err(status.code),
            Err(error) => panic!("{error}"),
        }
    }
}

fn external(fixture: &Fixture, source: &Value, acts_as: Option<&str>) -> Value {
    let audience = format!(
        "//iam.googleapis.com/projects/{}/locations/global/workloadIdentityPools/{PROJECT}.svc.id.goog/providers/ci",
        localcloud::cloud::PROJECT_NUMBER
    );
    let mut json = json!({
        "type": "external_account",
        "audience": audience,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{}/v1/token", fixture.local.google.endpoints().oauth2),
        "credential_source": source,
    });
    if let Some(email) = acts_as {
        json["service_account_impersonation_url"] = impersonation_url(fixture, email);
    }
    json
}

fn impersonation_url(fixture: &Fixture, email: &str) -> Value {
    let base = &fixture.endpoints.iamcredentials;
    json!(format!("{base}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"))
}

/// Serves the token of a provider; returns the URL.
async fn provider(token: String) -> String {
    let answer = json!({"value": token}).to_string();
    let router = Router::new().route("/token", get(move || std::future::ready(answer.clone())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_login_reaches_google_and_the_cluster() {
    let fixture = Fixture::start().await;
    let google = &fixture.local.google;
    let accounts = format!("v1/projects/{PROJECT}/serviceAccounts");
    let account = fixture.post(Api::Iam, &accounts, json!({"accountId": "ci-runner"})).await;
    let email = account["email"].as_str().unwrap();
    let runner = google.identity().pool().subject("ci", "runner");
    let pod = google.identity().pool().subject("bu1", "runner");
    let operator = format!("user:{}", localcloud::cloud::OPERATOR);
    fixture.grant(&[operator, format!("serviceAccount:{email}"), runner, pod]).await;

    let key = fixture.post(Api::Iam, &format!("{accounts}/{email}/keys"), json!({})).await;
    let key = BASE64_STANDARD.decode(key["privateKeyData"].as_str().unwrap()).unwrap();
    let user = google.operator_credentials();
    let subject = google.identity().subject_token("ci", "runner").unwrap();
    let subject_file = fixture.folder.path().join("subject");
    std::fs::write(&subject_file, &subject).unwrap();
    let url = provider(subject.clone()).await;
    let by_url = json!({"url": url, "format": {"type": "json", "subject_token_field_name": "value"}});
    let impersonation = json!({
        "type": "impersonated_service_account",
        "service_account_impersonation_url": impersonation_url(&fixture, email),
        "source_credentials": user,
        "delegates": [],
    });
    let metadata = google.metadata_address("bu1", "runner", None).await.unwrap();
    let logins = [
        ("user", fixture.file("user", &user)),
        ("key", fixture.file("key", &serde_json::from_slice(&key).unwrap())),
        ("impersonation", impersonated(&fixture.operator, email).unwrap()),
        ("impersonation file", fixture.file("impersonation", &impersonation)),
        ("federation by file", fixture.file("by-file", &external(&fixture, &json!({"file": subject_file}), None))),
        ("federation by URL", fixture.file("by-url", &external(&fixture, &by_url, Some(email)))),
        ("metadata server", mds::Builder::default().with_endpoint(format!("http://{metadata}")).build().unwrap()),
    ];
    let job: Job = serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}))
    .unwrap();
    let project = Request::get(Api::CloudResourceManager, format!("v1/projects/{PROJECT}"));
    for (kind, login) in &logins {
        let client = Client::new(fixture.endpoints.clone(), login.clone()).unwrap();
        assert_eq!(client.send(&project).await.unwrap()["projectId"], PROJECT, "{kind}");
        assert_eq!(fixture.list(login).await, Ok(0), "{kind}");
        // Who only reads by IAM may not write.
        let jobs = fixture.jobs(login).await;
        let created = jobs.create(&PostParams { dry_run: true, ..PostParams::default() }, &job).await;
        assert_eq!(created.is_ok(), *kind == "user", "{kind}");
    }
    fixture.local.stop().await;
}

/// Sends the first token once, and then the second.
#[derive(Debug)]
struct Turns(AtomicUsize, [String; 2]);

impl CredentialsProvider for Turns {
    async fn headers(&self, _: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let turn = self.0.fetch_add(1, Ordering::Relaxed).min(1);
        let data = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {}", self.1[turn]).parse().unwrap())]);
        Ok(CacheableResource::New { entity_tag: EntityTag::new(), data })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_read_for_each_request_and_who_has_no_right_is_refused() {
    let fixture = Fixture::start().await;
    let google = &fixture.local.google;
    let turns = |tokens: [&str; 2]| Credentials::from(Turns(AtomicUsize::new(0), tokens.map(str::to_owned)));
    let good = google.operator_token();
    let subject = google.identity().subject_token("ci", "runner").unwrap();
    let credentials = turns(["ya29.local.forged", &good]);
    let jobs = fixture.jobs(&credentials).await;
    assert!(matches!(jobs.list(&ListParams::default()).await, Err(kube::Error::Api(status)) if status.code == 401));
    assert!(jobs.list(&ListParams::default()).await.is_ok(), "the next request has the next token");
    assert_eq!(
        fixture.list(&turns([&subject, &subject])).await,
        Err(401),
        "the token of a provider is none of Google's"
    );
    let metadata = google.metadata_address("bu1", "nobody", None).await.unwrap();
    let nobody = mds::Builder::default().with_endpoint(format!("http://{metadata}")).build().unwrap();
    assert_eq!(fixture.list(&nobody).await, Err(403), "there is no role for it");
    assert_eq!(fixture.list(&anonymous::Builder::new().build()).await, Err(401));
    fixture.local.stop().await;
}
